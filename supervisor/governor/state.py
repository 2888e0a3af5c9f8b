"""What the governor hands itself from one decision to the next: JSON-able, so a restarted watchdog goes on."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, replace
from typing import Any

from supervisor.clock import Now
from supervisor.domain.codec import check_fields
from supervisor.domain.command import Action
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note, SensorState, Status

SCHEMA = 1
MAX_PAUSES_KEPT = 64
MAX_STEPS = 1000
"""Far more than a ladder has steps, or a wait is doubled."""


@dataclass(frozen=True)
class GovernorState:
    """Times named mono are CLOCK_MONOTONIC seconds of the watchdog's machine.

    `step` counts how far work is eased below the plan: first one trial fewer per step, then a larger rest share.
    `doublings` is how often the wait before easing back was doubled, since the last time it did not hold.
    `floor_step` is the least of it while flap control holds. `protected` is whether any thermal sensor was ever seen.
    """

    action: Action = Action.RUN
    reason: str = "nothing to hold for"
    drill: bool = False
    action_since_mono_s: float = 0.0
    action_since_wall_s: float | None = None
    step: int = 0
    step_since_mono_s: float = 0.0
    eased_last: bool = False
    doublings: int = 0
    calm_since_mono_s: float | None = None
    critical_since_mono_s: float | None = None
    pauses_mono_s: tuple[float, ...] = ()
    floor_step: int = 0
    floor_until_mono_s: float = 0.0
    forced_until_mono_s: float | None = None
    protected: bool = False
    failing: tuple[str, ...] = ()
    sensors: Mapping[str, SensorState] = field(default_factory=dict)
    started_mono_s: float = 0.0
    last: Now | None = None

    @property
    def unprotected(self) -> bool:
        """No thermal sensor was ever seen: memory, swap and disk are guarded, heat is not."""
        return not self.protected

    def moved(self, action: Action, reason: str, now: Now, *, drill: bool = False) -> GovernorState:
        if (action, reason, drill) == (self.action, self.reason, self.drill):
            return self
        if action is self.action:
            return replace(self, reason=reason, drill=drill)
        return replace(
            self,
            action=action,
            reason=reason,
            drill=drill,
            action_since_mono_s=now.mono_s,
            action_since_wall_s=now.wall_s,
        )

    def shed_trials(self, policy: Policy) -> int:
        """How many concurrent trials fewer than the plan's may run."""
        return policy.max_shed_trials if self.action >= Action.THROTTLE else min(self.step, policy.max_shed_trials)

    def throttle_share(self, policy: Policy) -> float:
        """The share of time that trials rest, 0 to 1."""
        if self.action is not Action.THROTTLE:
            return 0.0
        return policy.throttle_shares[min(self.step - policy.max_shed_trials, len(policy.throttle_shares)) - 1]

    def pauses_within(self, seconds: float, now: Now) -> tuple[float, ...]:
        return tuple(at for at in self.pauses_mono_s if now.mono_s - at < seconds)[-MAX_PAUSES_KEPT:]

    def floor(self, now: Now) -> int:
        return self.floor_step if now.mono_s < self.floor_until_mono_s else 0

    def forced(self, now: Now, for_s: float = 600.0) -> GovernorState:
        """What an operator's resume with force leaves: a pause ends although the sensors do not allow it.

        For `for_s` seconds only a critical reading pauses again, and sensors that are unknown are forgotten.
        A STOP ends too. Without force an operator's resume changes nothing here.
        """
        sensors = {key: sensor for key, sensor in self.sensors.items() if sensor.status is not Status.UNKNOWN}
        action = Action.PAUSE if self.action is Action.STOP else self.action
        return replace(
            self, action=action, sensors=sensors, forced_until_mono_s=now.mono_s + for_s, critical_since_mono_s=None
        )

    def to_json(self) -> dict[str, Any]:
        value = asdict(self)
        value["schema"] = SCHEMA
        value["action"] = self.action.name
        value["sensors"] = {key: sensor.to_json() for key, sensor in self.sensors.items()}
        return value

    @classmethod
    def from_json(cls, value: Mapping[str, Any]) -> GovernorState:
        """Raises ValueError for the memory of another version, KeyError or TypeError for what is none."""
        if value.get("schema") != SCHEMA:
            raise ValueError(f"a governor's memory of schema {value.get('schema')!r}, not {SCHEMA}")
        rest = {key: entry for key, entry in value.items() if key != "schema"}
        made = cls(
            **{
                **rest,
                "action": Action[value["action"]],
                "pauses_mono_s": tuple(value["pauses_mono_s"]),
                "failing": tuple(value["failing"]),
                "sensors": {key: SensorState.from_json(entry) for key, entry in value["sensors"].items()},
                "last": None if value["last"] is None else Now(**value["last"]),
            }
        )
        check_fields(made)
        if made.last is not None:
            check_fields(made.last)
        if not all(0 <= count <= MAX_STEPS for count in (made.step, made.doublings, made.floor_step)):
            raise ValueError("a governor's memory with steps that no governor takes")
        return made


def carried(memory: GovernorState, policy: Policy, now: Now) -> tuple[GovernorState, tuple[Note, ...]]:
    """The memory brought to `now`. After sleep, a restart or a reboot every sample is dropped.

    Sleep and a set clock show as wall time moving without monotonic time; a reboot as monotonic time going back;
    a restarted or stalled watchdog as a gap. Times are moved so that what had elapsed has still elapsed.
    """
    last = memory.last
    if last is None:
        begun = replace(
            memory, started_mono_s=now.mono_s, action_since_mono_s=now.mono_s, action_since_wall_s=now.wall_s
        )
        return replace(begun, last=now, step_since_mono_s=now.mono_s), ()
    memory = replace(memory, last=now)
    elapsed_s = now.mono_s - last.mono_s
    jump_s = (now.wall_s - last.wall_s) - elapsed_s
    if elapsed_s < 0:
        why, shift_s = "the machine restarted", elapsed_s
    elif abs(jump_s) > policy.clock_jump_s:
        why, shift_s = "wall time jumped: sleep, or the clock was set", 0.0
    elif elapsed_s > policy.stale_s:
        why, shift_s = "no reading for a while", elapsed_s
    else:
        return memory, ()
    note = Note("clock.jumped", {"why": why, "jump_s": round(jump_s, 3), "gap_s": round(elapsed_s, 3)})
    return _shifted(memory, shift_s), (note,)


def _shifted(memory: GovernorState, by_s: float) -> GovernorState:
    def optional(at: float | None) -> float | None:
        return None if at is None else at + by_s

    return replace(
        memory,
        action_since_mono_s=memory.action_since_mono_s + by_s,
        step_since_mono_s=memory.step_since_mono_s + by_s,
        calm_since_mono_s=None,
        critical_since_mono_s=None,
        pauses_mono_s=tuple(at + by_s for at in memory.pauses_mono_s),
        floor_until_mono_s=memory.floor_until_mono_s + by_s,
        forced_until_mono_s=optional(memory.forced_until_mono_s),
        started_mono_s=memory.started_mono_s + by_s,
        sensors={key: sensor.shifted(by_s) for key, sensor in memory.sensors.items()},
    )
