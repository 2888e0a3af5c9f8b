"""Play readings to the governor, one pass after another, as a story."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace

from supervisor.clock import Now
from supervisor.domain.command import Action, Command
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind, Limits, Quality, Reading

LIMITS = Limits(soft=92.0, pause=99.0, critical=105.0)


def reading(
    value: float | None,
    sensor_id: str = "t:die/a",
    kind: Kind = Kind.TEMPERATURE,
    component: str = "cpu",
    unit: str = "celsius",
    *,
    quality: Quality = Quality.ERROR,
    detail: str | None = None,
    limits: Limits = LIMITS,
) -> Reading:
    return Reading(
        sensor_id=sensor_id,
        kind=kind,
        component=component,
        value=value,
        unit=unit,
        mono_s=0.0,
        wall_s=0.0,
        source="test",
        quality=Quality.OK if value is not None else quality,
        detail=detail,
        limits=limits if kind in (Kind.TEMPERATURE, Kind.MARGIN) else Limits(),
    )


@dataclass
class Story:
    """A governor on its own clock; each `show` is one reading of the sensors."""

    policy: Policy = field(default_factory=Policy)
    state: GovernorState = field(default_factory=GovernorState)
    mono_s: float = 1000.0
    wall_s: float = 1.7e9
    notes: list[Note] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    command: Command | None = None

    def show(self, readings: Sequence[Reading] | float | None, for_s: float = 0.0, every_s: float = 5.0) -> Action:
        """Show the same readings every `every_s` until `for_s` have passed; at least once."""
        for _ in range(max(1, round(for_s / every_s))):
            given = [reading(readings)] if readings is None or isinstance(readings, int | float) else readings
            self.mono_s += every_s
            self.wall_s += every_s
            stamped = [replace(one, mono_s=self.mono_s, wall_s=self.wall_s) for one in given]
            self.command, self.state, notes = decide(stamped, self.policy, self.state, Now(self.mono_s, self.wall_s))
            self.notes += notes
            self.actions.append(self.command.action)
        return self.actions[-1]

    def noted(self, kind: str) -> list[Note]:
        return [note for note in self.notes if note.kind == kind]
