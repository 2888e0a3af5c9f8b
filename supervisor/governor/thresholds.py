"""Compares a reading with the policy's thresholds, all turned so that higher is worse."""

from __future__ import annotations

from dataclasses import dataclass
from fnmatch import fnmatchcase

from supervisor.governor.policy import Policy
from supervisor.sensors.reading import Kind, Limits, Reading

TEMPERATURES = (Kind.TEMPERATURE, Kind.MARGIN)


@dataclass(frozen=True)
class ThresholdBand:
    """A value and its thresholds, turned so that higher is worse, in the reading's unit.

    Work is eased at `soft`, pauses at `pause` after `pause_dwell_s`, and pauses at once at `critical`; None means no
    such threshold. Easing back begins at or below `ease`, a pause ends at or below `resume`. `sheds` is False if fewer
    trials would not help (disk, battery): soft then only holds new ones. `predicts`: its slope is extrapolated.
    `sign` is -1 if a lower reading is worse.
    """

    value: float
    soft: float | None
    pause: float | None
    critical: float | None
    ease: float
    resume: float
    soft_dwell_s: float
    pause_dwell_s: float
    sheds: bool = True
    predicts: bool = False
    sign: float = 1.0


@dataclass(frozen=True)
class Context:
    """Values of other sensors that a band depends on; None if they are unknown."""

    memory_percent: float | None = None
    discharging: bool | None = None


def band_of(reading: Reading, policy: Policy, context: Context, slope_per_s: float | None) -> ThresholdBand | None:
    """Return the band of a reading with a value; None if the governor does not use its kind."""
    if reading.value is None:
        return None
    if reading.kind in TEMPERATURES:
        return _temperature(reading, reading.value, policy)
    if reading.kind is Kind.PRESSURE:
        return _pressure(reading, reading.value, policy)
    if reading.kind is Kind.THROTTLE:
        # 0 none, 1 by software or a counter that grew, 2 by hardware because of heat.
        return _steps(reading.value, 1.0, 2.0, None, policy.soft_dwell_s, policy.pause_dwell_s)
    return _resource(reading, reading.value, policy, context, slope_per_s)


def is_watched(reading: Reading, policy: Policy) -> bool:
    """Decide whether the governor reports the loss of this sensor."""
    match reading.kind, reading.unit:
        case ((Kind.TEMPERATURE | Kind.MARGIN), _):
            limits = limits_of(reading, policy)
            return None not in (limits.soft, limits.pause, limits.critical)
        case ((Kind.PRESSURE | Kind.THROTTLE | Kind.SWAP), _) | ((Kind.MEMORY | Kind.BATTERY), "percent"):
            return True
        case Kind.DISK, "bytes":
            return True
        case Kind.PSI, _:
            return reading.component == "memory"
        case _:
            return False


def _resource(
    reading: Reading, value: float, policy: Policy, context: Context, slope_per_s: float | None
) -> ThresholdBand | None:
    match reading.kind, reading.unit:
        case Kind.MEMORY, "percent":
            return _memory(value, policy)
        case Kind.SWAP, "percent":
            return _swap(value, policy, context)
        case Kind.SWAP, "bytes":
            return _swap_growth(slope_per_s or 0.0, policy)
        case Kind.PSI, "percent" if reading.component == "memory":
            soft, pause = policy.stall_shed_percent, policy.stall_pause_percent
            return ThresholdBand(value, soft, pause, None, soft / 2, soft, policy.stall_dwell_s, policy.stall_dwell_s)
        case Kind.DISK, "bytes":
            hold, pause = policy.disk_hold_bytes, policy.disk_pause_bytes
            return ThresholdBand(-value, -hold, -pause, None, -hold, -hold, 0.0, policy.pause_dwell_s, sheds=False)
        case Kind.BATTERY, "percent" if context.discharging:
            hold, pause = policy.battery_hold_percent, policy.battery_pause_percent
            return ThresholdBand(-value, -hold, -pause, None, -hold, -hold, 0.0, policy.pause_dwell_s, sheds=False)
        case _:
            return None


def _temperature(reading: Reading, value: float, policy: Policy) -> ThresholdBand | None:
    limits = limits_of(reading, policy)
    if limits.soft is None or limits.pause is None or limits.critical is None:
        return None
    sign = 1.0 if limits.soft <= limits.critical else -1.0
    soft, pause, critical = sign * limits.soft, sign * limits.pause, sign * limits.critical
    return ThresholdBand(
        value=sign * value,
        soft=soft,
        pause=pause,
        critical=critical,
        ease=soft - policy.soft_hysteresis,
        resume=min(pause - policy.resume_band, soft),
        soft_dwell_s=policy.soft_dwell_s,
        pause_dwell_s=policy.pause_dwell_s,
        predicts=True,
        sign=sign,
    )


def limits_of(reading: Reading, policy: Policy) -> Limits:
    """Return the user's limits if a pattern matches the sensor, else the reading's own."""
    return next(
        (limits for pattern, limits in policy.limits.items() if fnmatchcase(reading.sensor_id, pattern)),
        reading.limits,
    )


def _steps(
    value: float, soft: float, pause: float | None, critical: float | None, soft_dwell_s: float, pause_dwell_s: float
) -> ThresholdBand:
    """Return the band of a reading in levels; only below the first one is calm."""
    return ThresholdBand(value, soft, pause, critical, soft / 2, soft / 2, soft_dwell_s, pause_dwell_s)


def _pressure(reading: Reading, value: float, policy: Policy) -> ThresholdBand:
    if reading.component == "memory":
        # macOS kern.memorystatus_vm_pressure_level: 1 normal, 2 warning, 4 critical.
        return ThresholdBand(value, 2.0, 4.0, None, 1.5, 1.5, policy.soft_dwell_s, policy.pause_dwell_s)
    # macOS OSThermalNotification.h: 0 nominal, 1 moderate, 2 heavy, 3 trapping, 4 sleeping.
    return _steps(value, 1.0, 2.0, 3.0, policy.pressure_moderate_dwell_s, policy.pressure_heavy_dwell_s)


def _memory(percent: float, policy: Policy) -> ThresholdBand:
    shed, pause, critical = policy.memory_shed_percent, policy.memory_pause_percent, policy.memory_critical_percent
    ease = shed - policy.memory_hysteresis_percent
    return ThresholdBand(percent, shed, pause, critical, ease, ease, policy.soft_dwell_s, policy.pause_dwell_s)


def _swap(percent: float, policy: Policy, context: Context) -> ThresholdBand | None:
    """Return the band of used swap while memory is nearly full, else None: full swap alone may be old idle pages.

    systemd-oomd's SwapUsedLimit also requires both.
    """
    if context.memory_percent is None or context.memory_percent < policy.memory_shed_percent:
        return None
    limit = policy.swap_pause_percent
    return ThresholdBand(percent, None, limit, None, limit - 6.0, limit - 6.0, 0.0, policy.pause_dwell_s)


def _swap_growth(bytes_per_s: float, policy: Policy) -> ThresholdBand:
    soft, pause = policy.swap_growth_shed_bytes_per_s, policy.swap_growth_pause_bytes_per_s
    return ThresholdBand(bytes_per_s, soft, pause, None, soft / 2, soft / 2, policy.soft_dwell_s, policy.pause_dwell_s)
