"""Defines the drills: the readings that each plays, as a function of the time since its start."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.sensors import default_limits
from supervisor.sensors.reading import Kind, Limits, Quality, Reading

DRILL = "drill"
"""The detail of every reading of a drill; the governor marks the commands that follow from it."""

SENSOR = "script:drill"

Drill = Callable[[float, float], list[Reading]]
"""Maps the seconds since its start and its duration in seconds to readings."""


def _reading(
    kind: Kind, component: str, value: float | None, unit: str, *, part: str = "", limits: Limits | None = None
) -> Reading:
    quality = Quality.ERROR if value is None else Quality.OK
    limits = limits or Limits()
    return Reading(SENSOR + part, kind, component, value, unit, 0.0, 0.0, "scripted", quality, limits, DRILL)


def _temperature(celsius: float | None) -> list[Reading]:
    # A component of its own: no real sensor may replace the one that the drill takes away.
    return [_reading(Kind.TEMPERATURE, DRILL, celsius, "celsius", limits=default_limits.APPLE_DIE_AVERAGE)]


def heat(elapsed_s: float, duration_s: float) -> list[Reading]:
    """Play heat above the pause limit for two thirds of the time, then cool."""
    return _temperature(102.0 if elapsed_s < duration_s * 2 / 3 else 55.0)


def spike(elapsed_s: float, _duration_s: float) -> list[Reading]:
    """Play one second above critical: the pause must come at once."""
    return _temperature(110.0 if elapsed_s < 1.0 else 55.0)


def flap(elapsed_s: float, duration_s: float) -> list[Reading]:
    """Play hot and cool in turn, twelve times."""
    return _temperature(102.0 if int(12 * elapsed_s / duration_s) % 2 == 0 else 55.0)


def sensor_lost(elapsed_s: float, duration_s: float) -> list[Reading]:
    """Play a sensor that is good for a tenth of the time, then lost."""
    return _temperature(60.0 if elapsed_s < duration_s / 10 else None)


def sensor_stuck(elapsed_s: float, duration_s: float) -> list[Reading]:
    """Play one exact value while the load changes between idle and full."""
    load = 100.0 if int(8 * elapsed_s / duration_s) % 2 == 0 else 0.0
    return [*_temperature(61.375), _reading(Kind.UTILISATION, DRILL, load, "percent", part="-load")]


def sensor_hang(elapsed_s: float, duration_s: float) -> list[Reading]:
    """Play a good sensor for a tenth of the time, then a silent provider."""
    if elapsed_s < duration_s / 10:
        return _temperature(60.0)
    return [*_temperature(None), _reading(Kind.EVENT, "provider", None, "count", part="-provider")]


def memory(_elapsed_s: float, _duration_s: float) -> list[Reading]:
    """Play memory that is almost full."""
    return [_reading(Kind.MEMORY, "host", 97.0, "percent", part="-memory")]


def swap(elapsed_s: float, _duration_s: float) -> list[Reading]:
    """Play swap that grows by 64 MiB a second."""
    return [_reading(Kind.SWAP, "host", 2.0**26 * elapsed_s, "bytes", part="-swap")]


def disk_full(_elapsed_s: float, _duration_s: float) -> list[Reading]:
    """Play a disk with 100 MiB left."""
    return [_reading(Kind.DISK, "disk", 100.0 * 2**20, "bytes", part="-disk")]


def battery(_elapsed_s: float, _duration_s: float) -> list[Reading]:
    """Play a battery that discharges and is nearly empty."""
    return [
        _reading(Kind.BATTERY, "battery", 5.0, "percent", part="-battery/charge"),
        _reading(Kind.BATTERY, "battery", 1.0, "flag", part="-battery/discharging"),
    ]


DRILLS: dict[str, Drill] = {
    "heat": heat,
    "spike": spike,
    "flap": flap,
    "sensor-lost": sensor_lost,
    "sensor-stuck": sensor_stuck,
    "sensor-hang": sensor_hang,
    "memory": memory,
    "swap": swap,
    "disk-full": disk_full,
    "battery": battery,
}
