"""The gauges of a watchdog for Ray's dashboard and Prometheus, by ray.util.metrics; one set per node."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any

from supervisor.domain.command import Command
from supervisor.sensors.reading import Kind, Quality, Reading

GAUGES = {
    "sweep_watchdog_action": "command in force: 0 RUN, 1 HOLD, 2 SHED, 3 THROTTLE, 4 PAUSE, 5 STOP",
    "sweep_watchdog_shed_trials": "concurrent trials fewer than the plan's",
    "sweep_watchdog_throttle_share": "share of time that trials rest, 0 to 1",
    "sweep_watchdog_hottest_celsius": "hottest temperature; NaN if not known",
    "sweep_watchdog_memory_percent": "host memory in use; NaN if not known",
    "sweep_watchdog_sensors_unknown": "sensors that should give a value and did not",
    "sweep_watchdog_sample_age_seconds": "since the sensors were last read",
    "sweep_watchdog_lease_age_seconds": "since the flag's lease was renewed; past 15 s trials wait",
}


def ray_gauge(name: str, description: str) -> Any:
    from ray.util.metrics import Gauge

    return Gauge(name, description=description, tag_keys=("node",))


class WatchdogGauges:
    """The gauges of one node; `show` costs some tens of microseconds."""

    def __init__(self, node: str, new: Callable[[str, str], Any] = ray_gauge) -> None:
        self._tags = {"node": node[:12]}
        self._gauges = {name: new(name, description) for name, description in GAUGES.items()}

    def show(self, command: Command, readings: Sequence[Reading], sample_age_s: float, lease_age_s: float) -> None:
        unknown = [reading for reading in readings if reading.quality not in (Quality.OK, Quality.PARKED)]
        values = {
            "action": float(command.action),
            "shed_trials": float(command.shed_trials),
            "throttle_share": command.throttle_share,
            "hottest_celsius": _highest(readings, Kind.TEMPERATURE, "celsius"),
            "memory_percent": _highest(readings, Kind.MEMORY, "percent"),
            "sensors_unknown": float(sum(reading.quality is not Quality.UNSUPPORTED for reading in unknown)),
            "sample_age_seconds": sample_age_s,
            "lease_age_seconds": lease_age_s,
        }
        for name, value in values.items():
            self._gauges[f"sweep_watchdog_{name}"].set(value, tags=self._tags)


def _highest(readings: Sequence[Reading], kind: Kind, unit: str) -> float:
    # NaN, not no value: a gauge that is not set any more would show its last value for ever.
    values = [reading.value for reading in readings if reading.kind is kind and reading.unit == unit]
    return max((value for value in values if value is not None), default=math.nan)
