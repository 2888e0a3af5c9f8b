"""Holds the governor's state between decisions, as JSON values for a restarted watchdog."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from supervisor.clock import Now
from supervisor.domain.command import Action
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note, SensorState, Status
from supervisor.typed_json import Record

SCHEMA = 1
MAX_PAUSES_KEPT = 64
MAX_STEPS = 1000
"""More than a ladder has steps, and more than a wait is doubled."""


@dataclass(frozen=True)
class GovernorState(Record):
    """The governor's state. Times named mono are CLOCK_MONOTONIC seconds of the watchdog's machine.

    `step` counts how far work is eased below the plan: first one trial fewer per step, then a larger share of rest.
    `doublings` counts how often the wait before easing back was doubled because easing back did not hold.
    `floor_step` is the lowest step while flap control is active. `protected`: a thermal sensor was seen at least once.
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

    schema: int = SCHEMA

    def __post_init__(self) -> None:
        if self.schema != SCHEMA:
            raise ValueError(f"expected a governor's state of schema {SCHEMA}, found {self.schema!r}")
        if not all(0 <= count <= MAX_STEPS for count in (self.step, self.doublings, self.floor_step)):
            raise ValueError(f"expected steps between 0 and {MAX_STEPS} in a governor's state")

    def moved(self, action: Action, reason: str, now: Now, *, drill: bool = False) -> GovernorState:
        if (action, reason, drill) == (self.action, self.reason, self.drill):
            return self
        moved = replace(self, action=action, reason=reason, drill=drill)
        if action is self.action:
            return moved
        return replace(moved, action_since_mono_s=now.mono_s, action_since_wall_s=now.wall_s)

    def shed_trials(self, policy: Policy) -> int:
        """Return by how many the concurrent trials are fewer than the plan's."""
        return policy.max_shed_trials if self.action >= Action.THROTTLE else min(self.step, policy.max_shed_trials)

    def throttle_share(self, policy: Policy) -> float:
        """Return the share of time in which trials rest, 0 to 1."""
        if self.action is not Action.THROTTLE:
            return 0.0
        return policy.throttle_shares[min(self.step - policy.max_shed_trials, len(policy.throttle_shares)) - 1]

    def pauses_within(self, seconds: float, now: Now) -> tuple[float, ...]:
        return tuple(at for at in self.pauses_mono_s if now.mono_s - at < seconds)[-MAX_PAUSES_KEPT:]

    def floor(self, now: Now) -> int:
        return self.floor_step if now.mono_s < self.floor_until_mono_s else 0

    def is_forced(self, now: Now) -> bool:
        return self.forced_until_mono_s is not None and now.mono_s < self.forced_until_mono_s

    def forced(self, now: Now, for_s: float = 600.0) -> GovernorState:
        """Return the state after an operator's forced resume: a pause ends although the sensors do not allow it.

        For `for_s` seconds only a critical reading pauses again, and unknown sensors are forgotten. A STOP ends too.
        An operator's resume without force does not change the state.
        """
        sensors = {key: sensor for key, sensor in self.sensors.items() if sensor.status is not Status.UNKNOWN}
        action = Action.PAUSE if self.action is Action.STOP else self.action
        return replace(
            self, action=action, sensors=sensors, forced_until_mono_s=now.mono_s + for_s, critical_since_mono_s=None
        )


def since(start: float | None, present: bool, now: Now) -> float | None:
    """Return the start of a condition: unchanged while it is present, None while it is absent."""
    if not present:
        return None
    return now.mono_s if start is None else start


def carried(state: GovernorState, policy: Policy, now: Now) -> tuple[GovernorState, tuple[Note, ...]]:
    """Return the state at `now`; every sample is dropped after sleep, a restart or a reboot.

    Sleep and a set clock show as wall time that moves without monotonic time; a reboot as monotonic time that goes
    back; a restarted or suspended watchdog as a gap. Times are moved so that elapsed times stay elapsed.
    """
    last = state.last
    if last is None:
        begun = replace(state, started_mono_s=now.mono_s, step_since_mono_s=now.mono_s, last=now)
        return replace(begun, action_since_mono_s=now.mono_s, action_since_wall_s=now.wall_s), ()
    state = replace(state, last=now)
    elapsed_s = now.mono_s - last.mono_s
    jump_s = (now.wall_s - last.wall_s) - elapsed_s
    if elapsed_s < 0:
        why, shift_s = "the machine was restarted", elapsed_s
    elif abs(jump_s) > policy.clock_jump_s:
        why, shift_s = "wall time jumped: sleep, or the clock was set", 0.0
    elif elapsed_s > policy.stale_s:
        why, shift_s = "no reading for a while", elapsed_s
    else:
        return state, ()
    note = Note("clock.jumped", {"why": why, "jump_s": round(jump_s, 3), "gap_s": round(elapsed_s, 3)})
    return _shifted(state, shift_s), (note,)


def _shifted(state: GovernorState, by_s: float) -> GovernorState:
    forced = state.forced_until_mono_s
    return replace(
        state,
        action_since_mono_s=state.action_since_mono_s + by_s,
        step_since_mono_s=state.step_since_mono_s + by_s,
        calm_since_mono_s=None,
        critical_since_mono_s=None,
        pauses_mono_s=tuple(at + by_s for at in state.pauses_mono_s),
        floor_until_mono_s=state.floor_until_mono_s + by_s,
        forced_until_mono_s=None if forced is None else forced + by_s,
        started_mono_s=state.started_mono_s + by_s,
        sensors={key: sensor.shifted(by_s) for key, sensor in state.sensors.items()},
    )
