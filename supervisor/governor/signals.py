"""Judges each signal: how bad it is, whether it lets a pause end, and the reason in words. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import IntEnum

from supervisor.clock import Now
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note, Sensors, SensorState, Status, load_of, loads_of, stand_in
from supervisor.governor.state import GovernorState, since
from supervisor.governor.thresholds import Context, ThresholdBand, band_of
from supervisor.sensors.drills import DRILL, SENSOR
from supervisor.sensors.reading import Kind, Quality, Reading


class Level(IntEnum):
    """Says how bad one signal is."""

    CALM = 0  # at or below the value where easing back begins
    NEAR = 1  # neither calm nor soft: nothing changes
    HOLD = 2
    STEP = 3  # soft for its dwell time
    PAUSE = 4
    CRITICAL = 5


@dataclass(frozen=True)
class Verdict:
    """The demand of one signal. `resumes`: it lets a pause end; `heat`: it is a temperature."""

    level: Level
    cause: str
    resumes: bool
    drill: bool = False
    heat: bool = False


def judge(
    readings: Sequence[Reading], sensors: Sensors, state: GovernorState, policy: Policy, now: Now
) -> tuple[list[Verdict], dict[str, SensorState]]:
    """Return a verdict on each signal, and the sensors with their dwell times and samples."""
    by_id = {reading.sensor_id: reading for reading in readings}
    context, loads = _context(readings), loads_of(readings)
    verdicts: list[Verdict] = []
    after = dict(sensors)
    for sensor_id, sensor in sensors.items():
        reading = by_id.get(sensor_id)
        if sensor.status is Status.OK and reading is not None and reading.value is not None:
            slope = sensor.slope_per_s(reading.value, now.mono_s)
            band = band_of(reading, policy, context, slope)
            sampled = sensor.sampled(reading.value, now)
            after[sensor_id], verdict = _measured(reading, band, slope, sampled, state, policy, now)
            verdicts.append(verdict)
        elif sensor.status is Status.PARKED:
            verdicts.append(_parked(sensor_id, sensors, loads, policy))
        elif sensor.status is Status.UNKNOWN:
            verdicts.append(_lost(sensor_id, sensors, state, policy, now))
    # Processes were killed for memory. A GPU's Xid errors are events too, but no action cures them.
    killed = (r for r in readings if r.kind is Kind.EVENT and r.component == "memory" and r.value)
    verdicts += [Verdict(Level.STEP, f"{r.sensor_id}: {r.detail}", True, r.detail == DRILL) for r in killed]
    return verdicts, after


def protects(sensor: SensorState) -> bool:
    """Decide whether a sensor guards against heat."""
    pressure = sensor.kind is Kind.PRESSURE and sensor.component == "host"
    return (pressure or sensor.kind in (Kind.TEMPERATURE, Kind.MARGIN)) and not sensor.drill


def _context(readings: Sequence[Reading]) -> Context:
    memory = [r.value for r in readings if r.kind is Kind.MEMORY and r.unit == "percent" and r.value is not None]
    flags = [r.value for r in readings if r.kind is Kind.BATTERY and r.unit == "flag" and r.value is not None]
    return Context(
        memory_percent=max(memory, default=None), discharging=any(flag >= 1.0 for flag in flags) if flags else None
    )


def _measured(
    reading: Reading, band: ThresholdBand | None, slope: float | None, sensor: SensorState, state: GovernorState,
    policy: Policy, now: Now,
) -> tuple[SensorState, Verdict]:  # fmt: skip
    """Judge a sensor with a value."""
    label = f"{reading.sensor_id} at {_figure(reading)}"
    drill = reading.detail == DRILL
    if band is None:
        cleared = replace(sensor, soft_since_mono_s=None, pause_since_mono_s=None)
        return cleared, Verdict(Level.CALM, label, resumes=True, drill=drill)
    rise = 0.0 if slope is None or not band.predicts else max(0.0, band.sign * slope)
    # A prediction counts as soft only: a slope is too weak a reason to stop work.
    ahead = band.value + rise * policy.lookahead_s
    soft = _reached(band.value, band.soft) or _reached(ahead, band.pause)
    soft_since = since(sensor.soft_since_mono_s, soft, now)
    pause_since = since(sensor.pause_since_mono_s, _reached(band.value, band.pause), now)
    if (soft_since, pause_since) != (sensor.soft_since_mono_s, sensor.pause_since_mono_s):
        sensor = replace(sensor, soft_since_mono_s=soft_since, pause_since_mono_s=pause_since)
    level = _level(band, ahead, sensor, state.step_since_mono_s, now)
    is_fresh = sensor.fresh >= policy.fresh_samples
    if level is Level.CALM and not is_fresh:
        level = Level.NEAR
    cause = f"{label}, {_limit_text(band, level, reading)}"
    return sensor, Verdict(level, cause, band.value <= band.resume and is_fresh, drill, heat=protects(sensor))


def _level(band: ThresholdBand, ahead: float, sensor: SensorState, step_since: float, now: Now) -> Level:
    if _reached(band.value, band.critical):
        return Level.CRITICAL
    if sensor.pause_since_mono_s is not None and now.mono_s - sensor.pause_since_mono_s >= band.pause_dwell_s:
        return Level.PAUSE
    if sensor.soft_since_mono_s is not None:
        # One step per dwell time: the last step needs time to act.
        waited_s = now.mono_s - max(sensor.soft_since_mono_s, step_since)
        return Level.STEP if band.sheds and waited_s >= band.soft_dwell_s else Level.HOLD
    if _reached(ahead, band.soft):
        return Level.HOLD
    return Level.CALM if band.value <= band.ease else Level.NEAR


def _reached(value: float, limit: float | None) -> bool:
    return limit is not None and value >= limit


def _limit_text(band: ThresholdBand, level: Level, reading: Reading) -> str:
    limit = {Level.CRITICAL: band.critical, Level.PAUSE: band.pause}.get(level, band.soft)
    if limit is None:
        return "no limit"
    # The limit of swap is one of its growth, per second.
    figure = human(abs(limit)) if reading.kind is Kind.DISK else f"{abs(limit):.4g}"
    return f"{level.name.lower()} limit {figure}"


def _figure(reading: Reading) -> str:
    assert reading.value is not None
    return human(reading.value) if reading.unit == "bytes" else f"{reading.value:.4g} {reading.unit}"


def _parked(sensor_id: str, sensors: Sensors, loads: dict[str, float], policy: Policy) -> Verdict:
    """Judge a parked sensor: calm only if its component rests or another sensor stands in for it."""
    sensor = sensors[sensor_id]
    load = load_of(sensor_id, sensor.component, loads)
    rests = load is not None and load <= policy.parked_load_percent
    calm = (rests and sensor.fresh >= policy.fresh_samples) or stand_in(sensor_id, sensors) is not None
    return Verdict(Level.CALM if calm else Level.NEAR, f"{sensor_id} is parked", resumes=calm, drill=sensor.drill)


def _lost(sensor_id: str, sensors: Sensors, state: GovernorState, policy: Policy, now: Now) -> Verdict:
    """Judge a lost sensor: a vital one eases by one step, and pauses if no other stands in for it."""
    sensor = sensors[sensor_id]
    missing_s = now.mono_s - sensor.last_good_mono_s
    level = Level.NEAR
    if sensor.vital and sensor.reported:
        level = Level.STEP if state.step == 0 else Level.HOLD
        if missing_s > policy.lost_pause_s and sensor.guards and stand_in(sensor_id, sensors) is None:
            level = Level.PAUSE
    cause = f"{sensor_id} unknown for {missing_s:.0f} s ({sensor.why_unknown})"
    return Verdict(level, cause, resumes=False, drill=sensor.drill)


def faults(readings: Sequence[Reading], failing: tuple[str, ...]) -> tuple[tuple[str, ...], tuple[Note, ...]]:
    """Return the providers that hang or crash, and a note when that begins or ends.

    `failing` are those of the last pass.
    """
    failed = {r.sensor_id: r for r in readings if r.kind is Kind.EVENT and r.quality is Quality.ERROR}
    hung = tuple(
        Note("sensor.hung", {"sensor": sensor_id, "why": reading.detail, "drill": reading.detail == DRILL})
        for sensor_id, reading in failed.items()
        if sensor_id not in failing
    )
    back = tuple(
        Note("sensor.recovered", {"sensor": sensor_id, "drill": sensor_id.startswith(SENSOR)})
        for sensor_id in failing
        if sensor_id not in failed
    )
    return tuple(failed), hung + back
