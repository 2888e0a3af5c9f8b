"""The governor: readings + policy + memory + now -> what the work may do. Pure; it has no hands.

One arbiter for heat, memory, swap, disk and battery. A ladder instead of a switch, since die temperature falls in
seconds once the load stops: stopping at one temperature and starting at another livelocks, however far apart they are.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from supervisor.clock import Now
from supervisor.domain.command import Action, Command, Origin
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import (
    MAX_SAMPLES,
    SAMPLE_EVERY_S,
    SAMPLES_FOR_S,
    Note,
    SensorState,
    Status,
    load_of,
    loads_of,
    stand_in,
    watch,
)
from supervisor.governor.state import GovernorState, carried
from supervisor.governor.thresholds import TEMPERATURES, Context, ThresholdBand, band_of
from supervisor.sensors.drills import DRILL, SENSOR
from supervisor.sensors.reading import Kind, Quality, Reading

__all__ = ["GovernorState", "Note", "Now", "decide", "next_period_s"]

HOUR_S = 3600.0


class Level(IntEnum):
    """How bad one signal is."""

    CALM = 0  # at or below where easing begins
    NEAR = 1  # neither calm nor soft: nothing changes
    HOLD = 2
    STEP = 3  # has been soft for its dwell time
    PAUSE = 4
    CRITICAL = 5


@dataclass(frozen=True)
class Verdict:
    """What one signal asks for. `resumes` is whether it would let a pause end, `heat` whether it is a temperature."""

    level: Level
    cause: str
    resumes: bool
    drill: bool = False
    heat: bool = False


def decide(
    readings: Sequence[Reading], policy: Policy, memory: GovernorState, now: Now
) -> tuple[Command, GovernorState, tuple[Note, ...]]:
    """The command from now on, the memory to hand in next time, and what is worth telling."""
    memory, notes = carried(memory, policy, now)
    before, was, drilled = memory.action, _place(memory, policy), memory.drill
    paused = before >= Action.PAUSE
    sensors, seen = watch(readings, memory.sensors, policy, now, paused=paused)
    verdicts, sensors = _judge(readings, sensors, memory, policy, now)
    memory, faults = _faults(readings, memory)
    memory = replace(
        memory, sensors=sensors, protected=memory.protected or any(_protects(entry) for entry in sensors.values())
    )
    if (missing := _required(memory, policy, now)) is not None:
        verdicts.append(missing)
    memory = _climb(verdicts, _after_drill(readings, policy, memory), memory, now)
    notes = (*notes, *seen, *faults)
    if _place(memory, policy) != was:
        facts = {
            "action": memory.action.name,
            "previous": before.name,
            "reason": memory.reason,
            "throttle_share": memory.throttle_share(policy),
            "shed_trials": memory.shed_trials(policy),
            # What eases back from a drill is the drill's doing, too.
            "drill": memory.drill or (drilled and memory.action < before),
        }
        notes = (*notes, Note("action.changed", facts))
    return _command(memory, policy), memory, notes


def _place(memory: GovernorState, policy: Policy) -> tuple[Action, float, int]:
    """Where on the ladder it stands, steps within an action included."""
    return memory.action, memory.throttle_share(policy), memory.shed_trials(policy)


def _after_drill(readings: Sequence[Reading], policy: Policy, memory: GovernorState) -> Policy:
    """A drill that is over leaves the run as it was: there is no chassis to cool, so nothing waits for it."""
    if memory.drill and not any(reading.detail == DRILL for reading in readings):
        return replace(policy, min_off_s=0.0, ease_after_s=0.0)
    return policy


def next_period_s(readings: Sequence[Reading], policy: Policy, memory: GovernorState) -> float:
    """Seconds until the sensors should be read again: fewer near a limit and while work is eased."""
    if memory.action > Action.HOLD:
        return policy.fast_period_s
    for reading in readings:
        band = band_of(reading, policy, Context(), None) if reading.kind in TEMPERATURES else None
        if band is not None and band.pause is not None and band.value >= band.pause - policy.fast_within:
            return policy.fast_period_s
    return policy.period_s


def _command(memory: GovernorState, policy: Policy) -> Command:
    return Command(
        action=memory.action,
        origin=Origin.GOVERNOR,
        reason=memory.reason,
        since_wall=memory.action_since_wall_s,
        throttle_share=memory.throttle_share(policy),
        shed_trials=memory.shed_trials(policy),
        drill=memory.drill,
    )


# --- judging the signals ---------------------------------------------------------------------------------------------


def _judge(
    readings: Sequence[Reading],
    sensors: dict[str, SensorState],
    memory: GovernorState,
    policy: Policy,
    now: Now,
) -> tuple[list[Verdict], dict[str, SensorState]]:
    by_id = {reading.sensor_id: reading for reading in readings}
    context = _context(readings)
    loads = loads_of(readings)
    verdicts: list[Verdict] = []
    after: dict[str, SensorState] = {}
    for sensor_id, sensor in sensors.items():
        reading = by_id.get(sensor_id)
        after[sensor_id] = sensor
        if sensor.status is Status.OK and reading is not None and reading.value is not None:
            after[sensor_id], verdict = _measured(reading, reading.value, sensor, memory, policy, context, now)
        elif sensor.status is Status.PARKED:
            verdict = _parked(sensor_id, sensors, loads, policy)
        elif sensor.status is Status.UNKNOWN:
            verdict = _lost(sensor_id, sensors, memory, policy, now)
        else:
            continue
        verdicts.append(verdict)
    verdicts += [_killed(reading) for reading in readings if _is_kill(reading)]
    return verdicts, after


def _context(readings: Sequence[Reading]) -> Context:
    memory = [r.value for r in readings if r.kind is Kind.MEMORY and r.unit == "percent" and r.value is not None]
    flags = [r.value for r in readings if r.kind is Kind.BATTERY and r.unit == "flag" and r.value is not None]
    return Context(
        memory_percent=max(memory, default=None), discharging=any(flag >= 1.0 for flag in flags) if flags else None
    )


def _measured(
    reading: Reading,
    value: float,
    sensor: SensorState,
    memory: GovernorState,
    policy: Policy,
    context: Context,
    now: Now,
) -> tuple[SensorState, Verdict]:
    slope = sensor.slope_per_s(value, now.mono_s)
    band = band_of(reading, policy, context, slope)
    sensor = _sampled(sensor, value, now)
    label = f"{reading.sensor_id} at {_figure(value, reading.unit)}"
    drill = reading.detail == DRILL
    if band is None:
        cleared = replace(sensor, soft_since_mono_s=None, pause_since_mono_s=None)
        return cleared, Verdict(Level.CALM, label, resumes=True, drill=drill)
    rise = 0.0 if slope is None or not band.predicts else max(0.0, band.sign * slope)
    soft, pause = (_reached(band.value, limit) for limit in (band.soft, band.pause))
    # A prediction counts as soft only: a slope is too weak a ground to stop work that runs.
    ahead = band.value + rise * policy.lookahead_s
    soft_since = _since(sensor.soft_since_mono_s, soft or _reached(ahead, band.pause), now)
    pause_since = _since(sensor.pause_since_mono_s, pause, now)
    if (soft_since, pause_since) != (sensor.soft_since_mono_s, sensor.pause_since_mono_s):
        sensor = replace(sensor, soft_since_mono_s=soft_since, pause_since_mono_s=pause_since)
    level = _level(band, ahead, soft_since, pause_since, memory.step_since_mono_s, now)
    resumes = band.value <= band.resume and sensor.fresh >= policy.fresh_samples
    if level is Level.CALM and sensor.fresh < policy.fresh_samples:
        level = Level.NEAR
    return sensor, Verdict(level, f"{label}, {_versus(band, level, reading)}", resumes, drill, heat=_protects(sensor))


def _level(
    band: ThresholdBand,
    ahead: float,
    soft_since: float | None,
    pause_since: float | None,
    step_since: float,
    now: Now,
) -> Level:
    if _reached(band.value, band.critical):
        return Level.CRITICAL
    if pause_since is not None and now.mono_s - pause_since >= band.pause_dwell_s:
        return Level.PAUSE
    if soft_since is not None:
        # One step per dwell: the last one must have had its time to act.
        waited = now.mono_s - max(soft_since, step_since)
        return Level.STEP if band.sheds and waited >= band.soft_dwell_s else Level.HOLD
    if _reached(ahead, band.soft):
        return Level.HOLD
    return Level.CALM if band.value <= band.ease else Level.NEAR


def _reached(value: float, limit: float | None) -> bool:
    return limit is not None and value >= limit


def _since(since: float | None, present: bool, now: Now) -> float | None:
    if not present:
        return None
    return now.mono_s if since is None else since


def _versus(band: ThresholdBand, level: Level, reading: Reading) -> str:
    limits = {Level.CRITICAL: band.critical, Level.PAUSE: band.pause}
    limit = limits.get(level, band.soft)
    if limit is None:
        return "no limit"
    # What grows is compared by its growth, per second: swap.
    figure = human(abs(limit)) if reading.kind is Kind.DISK else f"{abs(limit):.4g}"
    return f"{level.name.lower()} limit {figure}"


def _figure(value: float, unit: str) -> str:
    return human(value) if unit == "bytes" else f"{value:.4g} {unit}"


def _sampled(sensor: SensorState, value: float, now: Now) -> SensorState:
    if sensor.samples and now.mono_s - sensor.samples[-1][0] < SAMPLE_EVERY_S:
        return sensor
    kept = [sample for sample in sensor.samples if now.mono_s - sample[0] <= SAMPLES_FOR_S]
    return replace(sensor, samples=tuple([*kept, (now.mono_s, value)][-MAX_SAMPLES:]))


def _parked(sensor_id: str, sensors: dict[str, SensorState], loads: dict[str, float], policy: Policy) -> Verdict:
    """A parked sensor is neither hot nor cool, unless its component rests or another source speaks for it."""
    sensor = sensors[sensor_id]
    load = load_of(sensor_id, sensor.component, loads)
    rests = load is not None and load <= policy.parked_load_percent
    calm = (rests and sensor.fresh >= policy.fresh_samples) or stand_in(sensor_id, sensors) is not None
    return Verdict(Level.CALM if calm else Level.NEAR, f"{sensor_id} is parked", resumes=calm, drill=sensor.drill)


def _lost(sensor_id: str, sensors: dict[str, SensorState], memory: GovernorState, policy: Policy, now: Now) -> Verdict:
    """Ease by one step once a vital sensor is known to be lost; pause when nothing else speaks for it."""
    sensor = sensors[sensor_id]
    missing_s = now.mono_s - sensor.last_good_mono_s
    cause = f"{sensor_id} unknown for {missing_s:.0f} s ({sensor.why_unknown})"
    level = Level.NEAR
    if sensor.vital and sensor.reported:
        level = Level.STEP if memory.step == 0 else Level.HOLD
        if missing_s > policy.lost_pause_s and sensor.guards and stand_in(sensor_id, sensors) is None:
            level = Level.PAUSE
    return Verdict(level, cause, resumes=False, drill=sensor.drill)


def _is_kill(reading: Reading) -> bool:
    """Processes were killed for want of memory. A GPU's Xid errors are told too, but no action would mend them."""
    return reading.kind is Kind.EVENT and reading.component == "memory" and bool(reading.value)


def _killed(reading: Reading) -> Verdict:
    return Verdict(Level.STEP, f"{reading.sensor_id}: {reading.detail}", resumes=True, drill=reading.detail == DRILL)


def _required(memory: GovernorState, policy: Policy, now: Now) -> Verdict | None:
    waited_s = now.mono_s - memory.started_mono_s
    if memory.protected or not policy.required or waited_s < policy.lost_shed_periods * policy.period_s:
        return None
    return Verdict(Level.PAUSE, "no temperature sensor here, and the plan requires one", resumes=False)


def _protects(sensor: SensorState) -> bool:
    thermal = sensor.kind in (Kind.TEMPERATURE, Kind.MARGIN) or (
        sensor.kind is Kind.PRESSURE and sensor.component == "host"
    )
    return thermal and not sensor.drill


def _faults(readings: Sequence[Reading], memory: GovernorState) -> tuple[GovernorState, tuple[Note, ...]]:
    """A provider that hangs or crashes is told once, not at every reading."""
    failing = {r.sensor_id: r for r in readings if r.kind is Kind.EVENT and r.quality is Quality.ERROR}
    if not failing and not memory.failing:
        return memory, ()
    hung = tuple(
        Note("sensor.hung", {"sensor": sensor_id, "why": reading.detail, "drill": reading.detail == DRILL})
        for sensor_id, reading in failing.items()
        if sensor_id not in memory.failing
    )
    back = tuple(
        Note("sensor.recovered", {"sensor": sensor_id, "drill": sensor_id.startswith(SENSOR)})
        for sensor_id in memory.failing
        if sensor_id not in failing
    )
    return replace(memory, failing=tuple(failing)), hung + back


# --- the ladder ------------------------------------------------------------------------------------------------------


def _climb(verdicts: Sequence[Verdict], policy: Policy, memory: GovernorState, now: Now) -> GovernorState:
    worst = max(verdicts, key=lambda verdict: verdict.level, default=Verdict(Level.CALM, "", resumes=True))
    # Only heat that a pause does not cure is worth ending the driver for; memory may be another program's.
    burning = any(verdict.level is Level.CRITICAL and verdict.heat for verdict in verdicts)
    critical_since = _since(memory.critical_since_mono_s, burning, now)
    if critical_since != memory.critical_since_mono_s:
        memory = replace(memory, critical_since_mono_s=critical_since)
    if memory.action is Action.STOP:
        return memory
    forced = memory.forced_until_mono_s is not None and now.mono_s < memory.forced_until_mono_s
    wants_pause = worst.level >= (Level.CRITICAL if forced else Level.PAUSE)
    if memory.action is Action.PAUSE:
        return _paused(verdicts, worst, policy, memory, now, wants_pause=wants_pause, forced=forced)
    if wants_pause:
        return _pause(worst, policy, memory, now)
    return _eased(worst, policy, memory, now)


def _pause(worst: Verdict, policy: Policy, memory: GovernorState, now: Now) -> GovernorState:
    pauses = memory.pauses_within(HOUR_S, now)
    if not worst.drill:
        pauses = (*pauses, now.mono_s)
    memory = replace(memory, pauses_mono_s=pauses)
    if not worst.drill and len(pauses) >= policy.flap_limit:
        # The plan's concurrency is too much for this machine today: come back with less of it for an hour.
        floor = min(memory.floor_step + 1, max(1, policy.max_shed_trials))
        memory = replace(memory, floor_step=floor, floor_until_mono_s=now.mono_s + HOUR_S)
    return memory.moved(Action.PAUSE, worst.cause, now, drill=worst.drill)


def _paused(
    verdicts: Sequence[Verdict],
    worst: Verdict,
    policy: Policy,
    memory: GovernorState,
    now: Now,
    *,
    wants_pause: bool,
    forced: bool,
) -> GovernorState:
    off_s = now.mono_s - memory.action_since_mono_s
    critical_s = 0.0 if memory.critical_since_mono_s is None else now.mono_s - memory.critical_since_mono_s
    if min(off_s, critical_s) >= policy.stop_after_critical_s:
        return memory.moved(Action.STOP, f"still critical after {off_s:.0f} s of pause: {worst.cause}", now)
    if wants_pause:
        return replace(memory, reason=worst.cause, drill=memory.drill and worst.drill)
    blocked = next((verdict for verdict in verdicts if not verdict.resumes), None)
    flapping = len(memory.pauses_within(HOUR_S, now)) >= policy.max_pauses_per_hour
    if not forced:
        if blocked is not None:
            return replace(memory, reason=f"waiting: {blocked.cause}")
        if off_s < policy.min_off_s:
            return memory
        if flapping:
            return replace(memory, reason=f"paused {policy.max_pauses_per_hour} times within the hour: waiting it out")
    step = policy.max_shed_trials + 1
    resumed = replace(memory, step=step, step_since_mono_s=now.mono_s, calm_since_mono_s=None)
    return resumed.moved(Action.THROTTLE, "coming back from a pause, one step at a time", now, drill=memory.drill)


def _eased(worst: Verdict, policy: Policy, memory: GovernorState, now: Now) -> GovernorState:
    """RUN, HOLD, SHED and THROTTLE: one step up per dwell time, one down per calm `ease_after_s`."""
    top = policy.max_shed_trials + len(policy.throttle_shares)
    floor = memory.floor(now)
    calm_since = _since(memory.calm_since_mono_s, worst.level is Level.CALM, now)
    if calm_since != memory.calm_since_mono_s or memory.step < floor:
        memory = replace(memory, calm_since_mono_s=calm_since, step=max(memory.step, floor))
    patience_s = policy.ease_after_s * 2.0**memory.doublings
    if worst.level >= Level.STEP and memory.step < top:
        memory = _step_up(memory, policy, now)
    elif (
        calm_since is not None
        and memory.step > floor
        and now.mono_s - max(calm_since, memory.step_since_mono_s) >= patience_s
    ):
        memory = _step_down(memory, now)
    action = _action(worst, policy, memory, now)
    if worst.level >= Level.HOLD:
        reason, drill = worst.cause, worst.drill
    elif action is Action.RUN:
        reason, drill = "nothing to hold for", False
    else:
        reason, drill = (memory.reason if action is memory.action else "easing back"), memory.drill
    return memory.moved(action, reason, now, drill=drill)


def _step_up(memory: GovernorState, policy: Policy, now: Now) -> GovernorState:
    """Ease the work further; if the last step down did not hold, wait twice as long before the next."""
    regretted = memory.eased_last and now.mono_s - memory.step_since_mono_s < 2 * policy.ease_after_s
    doublings = min(memory.doublings + 1, policy.ease_doublings) if regretted else memory.doublings
    return replace(memory, step=memory.step + 1, step_since_mono_s=now.mono_s, eased_last=False, doublings=doublings)


def _step_down(memory: GovernorState, now: Now) -> GovernorState:
    doublings = max(0, memory.doublings - 1) if memory.eased_last else memory.doublings
    return replace(memory, step=memory.step - 1, step_since_mono_s=now.mono_s, eased_last=True, doublings=doublings)


def _action(worst: Verdict, policy: Policy, memory: GovernorState, now: Now) -> Action:
    if memory.step > policy.max_shed_trials:
        return Action.THROTTLE
    if memory.step > 0:
        return Action.SHED
    if worst.level >= Level.HOLD or memory.action > Action.HOLD:
        return Action.HOLD
    held_s = now.mono_s - memory.action_since_mono_s
    return Action.HOLD if memory.action is Action.HOLD and held_s < policy.hold_min_s else Action.RUN
