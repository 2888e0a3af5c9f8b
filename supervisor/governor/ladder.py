"""Decides how much work the hardware allows: readings, policy, state and time in, a command out. Pure.

One arbiter for heat, memory, swap, disk and battery. The actions form a ladder, not a switch: die temperature falls
within seconds once the load stops, so stopping at one temperature and starting at another livelocks, however far apart
they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from supervisor.clock import Now
from supervisor.domain.command import Action, Command, Origin
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note, watch
from supervisor.governor.signals import Level, Verdict, faults, judge, protects
from supervisor.governor.state import GovernorState, carried, since
from supervisor.governor.thresholds import TEMPERATURES, Context, band_of
from supervisor.sensors.drills import DRILL
from supervisor.sensors.reading import Reading

HOUR_S = 3600.0
NO_REASON = "nothing to hold for"


def decide(
    readings: Sequence[Reading], policy: Policy, state: GovernorState, now: Now
) -> tuple[Command, GovernorState, tuple[Note, ...]]:
    """Return the command, the state for the next call, and the notes for events."""
    state, jumps = carried(state, policy, now)
    before = state
    sensors, health = watch(readings, state.sensors, policy, now, paused=state.action >= Action.PAUSE)
    verdicts, sensors = judge(readings, sensors, state, policy, now)
    failing, hung = faults(readings, state.failing)
    protected = state.protected or any(protects(sensor) for sensor in sensors.values())
    state = replace(state, sensors=sensors, failing=failing, protected=protected)
    if (missing := _required(state, policy, now)) is not None:
        verdicts.append(missing)
    state = _climb(verdicts, _after_drill(readings, policy, state), state, now)
    return _command(state, policy), state, (*jumps, *health, *hung, *_changed(before, state, policy))


def next_period_s(readings: Sequence[Reading], policy: Policy, state: GovernorState) -> float:
    """Return the seconds until the next reading: fewer near a limit and while work is eased."""
    if state.action > Action.HOLD:
        return policy.fast_period_s
    for reading in readings:
        band = band_of(reading, policy, Context(), None) if reading.kind in TEMPERATURES else None
        if band is not None and band.pause is not None and band.value >= band.pause - policy.fast_within:
            return policy.fast_period_s
    return policy.period_s


def _command(state: GovernorState, policy: Policy) -> Command:
    return Command(
        action=state.action,
        origin=Origin.GOVERNOR,
        reason=state.reason,
        since_wall=state.action_since_wall_s,
        throttle_share=state.throttle_share(policy),
        shed_trials=state.shed_trials(policy),
        drill=state.drill,
    )


def _changed(before: GovernorState, state: GovernorState, policy: Policy) -> tuple[Note, ...]:
    """Return a note if the action has changed, or a step within it."""
    if _place(state, policy) == _place(before, policy):
        return ()
    facts = {
        "action": state.action.name,
        "previous": before.action.name,
        "reason": state.reason,
        "throttle_share": state.throttle_share(policy),
        "shed_trials": state.shed_trials(policy),
        # Easing back from a drill is part of the drill.
        "drill": state.drill or (before.drill and state.action < before.action),
    }
    return (Note("action.changed", facts),)


def _place(state: GovernorState, policy: Policy) -> tuple[Action, float, int]:
    return state.action, state.throttle_share(policy), state.shed_trials(policy)


def _after_drill(readings: Sequence[Reading], policy: Policy, state: GovernorState) -> Policy:
    """Return a policy without waits if a drill has just ended: no chassis has to cool."""
    if state.drill and not any(reading.detail == DRILL for reading in readings):
        return replace(policy, min_off_s=0.0, ease_after_s=0.0)
    return policy


def _required(state: GovernorState, policy: Policy, now: Now) -> Verdict | None:
    waited_s = now.mono_s - state.started_mono_s
    if state.protected or not policy.required or waited_s < policy.lost_shed_periods * policy.period_s:
        return None
    return Verdict(Level.PAUSE, "no temperature sensor was found, and the plan requires one", resumes=False)


def _climb(verdicts: Sequence[Verdict], policy: Policy, state: GovernorState, now: Now) -> GovernorState:
    """Return the state after this pass: its action, and the step within it."""
    worst = max(verdicts, key=lambda verdict: verdict.level, default=Verdict(Level.CALM, "", resumes=True))
    # Only heat that a pause does not cure ends the driver; full memory may be another program's.
    burning = any(verdict.level is Level.CRITICAL and verdict.heat for verdict in verdicts)
    critical_since = since(state.critical_since_mono_s, burning, now)
    if critical_since != state.critical_since_mono_s:
        state = replace(state, critical_since_mono_s=critical_since)
    if state.action is Action.STOP:
        return state
    wants_pause = worst.level >= (Level.CRITICAL if state.is_forced(now) else Level.PAUSE)
    if state.action is not Action.PAUSE:
        return _pause(worst, policy, state, now) if wants_pause else _eased(worst, policy, state, now)
    if (stopped := _stopped(worst, policy, state, now)) is not None:
        return stopped
    if wants_pause:
        return replace(state, reason=worst.cause, drill=state.drill and worst.drill)
    return _paused(verdicts, policy, state, now)


def _pause(worst: Verdict, policy: Policy, state: GovernorState, now: Now) -> GovernorState:
    pauses = state.pauses_within(HOUR_S, now)
    if not worst.drill:
        pauses = (*pauses, now.mono_s)
    state = replace(state, pauses_mono_s=pauses)
    if not worst.drill and len(pauses) >= policy.flap_limit:
        # The plan's concurrency is too high for this machine today: use less of it for an hour.
        floor = min(state.floor_step + 1, max(1, policy.max_shed_trials))
        state = replace(state, floor_step=floor, floor_until_mono_s=now.mono_s + HOUR_S)
    return state.moved(Action.PAUSE, worst.cause, now, drill=worst.drill)


def _stopped(worst: Verdict, policy: Policy, state: GovernorState, now: Now) -> GovernorState | None:
    """Return the state after a STOP, if heat stayed critical during a whole pause."""
    off_s = now.mono_s - state.action_since_mono_s
    critical_s = 0.0 if state.critical_since_mono_s is None else now.mono_s - state.critical_since_mono_s
    if min(off_s, critical_s) < policy.stop_after_critical_s:
        return None
    return state.moved(Action.STOP, f"still critical after {off_s:.0f} s of pause: {worst.cause}", now)


def _paused(verdicts: Sequence[Verdict], policy: Policy, state: GovernorState, now: Now) -> GovernorState:
    """Return the state of a pause that no signal asks for any more: it goes on, or it ends."""
    if not state.is_forced(now):
        blocked = next((verdict for verdict in verdicts if not verdict.resumes), None)
        if blocked is not None:
            return replace(state, reason=f"waiting: {blocked.cause}")
        if now.mono_s - state.action_since_mono_s < policy.min_off_s:
            return state
        if len(state.pauses_within(HOUR_S, now)) >= policy.max_pauses_per_hour:
            return replace(state, reason=f"waiting: {policy.max_pauses_per_hour} pauses within the hour")
    step = policy.max_shed_trials + 1
    resumed = replace(state, step=step, step_since_mono_s=now.mono_s, calm_since_mono_s=None)
    return resumed.moved(Action.THROTTLE, "resuming after a pause, one step at a time", now, drill=state.drill)


def _eased(worst: Verdict, policy: Policy, state: GovernorState, now: Now) -> GovernorState:
    """Return the state below PAUSE: one step up per dwell time, one down per calm `ease_after_s`."""
    floor = state.floor(now)
    calm_since = since(state.calm_since_mono_s, worst.level is Level.CALM, now)
    if calm_since != state.calm_since_mono_s or state.step < floor:
        state = replace(state, calm_since_mono_s=calm_since, step=max(state.step, floor))
    if worst.level >= Level.STEP and state.step < policy.max_shed_trials + len(policy.throttle_shares):
        state = _step_up(state, policy, now)
    elif calm_since is not None and state.step > floor:
        waited_s = now.mono_s - max(calm_since, state.step_since_mono_s)
        if waited_s >= policy.ease_after_s * 2.0**state.doublings:
            state = _step_down(state, now)
    action = _action(worst, policy, state, now)
    if worst.level >= Level.HOLD:
        return state.moved(action, worst.cause, now, drill=worst.drill)
    if action is Action.RUN:
        return state.moved(action, NO_REASON, now)
    return state.moved(action, state.reason if action is state.action else "easing back", now, drill=state.drill)


def _step_up(state: GovernorState, policy: Policy, now: Now) -> GovernorState:
    """Ease the work by one step; if the last step down did not hold, double the wait before the next."""
    regretted = state.eased_last and now.mono_s - state.step_since_mono_s < 2 * policy.ease_after_s
    doublings = min(state.doublings + 1, policy.ease_doublings) if regretted else state.doublings
    return replace(state, step=state.step + 1, step_since_mono_s=now.mono_s, eased_last=False, doublings=doublings)


def _step_down(state: GovernorState, now: Now) -> GovernorState:
    doublings = max(0, state.doublings - 1) if state.eased_last else state.doublings
    return replace(state, step=state.step - 1, step_since_mono_s=now.mono_s, eased_last=True, doublings=doublings)


def _action(worst: Verdict, policy: Policy, state: GovernorState, now: Now) -> Action:
    if state.step > policy.max_shed_trials:
        return Action.THROTTLE
    if state.step > 0:
        return Action.SHED
    if worst.level >= Level.HOLD or state.action > Action.HOLD:
        return Action.HOLD
    held_s = now.mono_s - state.action_since_mono_s
    return Action.HOLD if state.action is Action.HOLD and held_s < policy.hold_min_s else Action.RUN
