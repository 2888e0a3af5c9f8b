"""Reads whether heat slowed an Intel CPU since the last reading.

Linux Documentation/admin-guide/thermal/intel_thermal_throttle.rst: counters only grow, so a change is the signal.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.clock import TimeSource
from supervisor.sensors import sysfs
from supervisor.sensors.provider import Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading

MAX_CPUS = 4096


class CpuThrottleProvider(Provider):
    """Reads for each package 1 if its counter grew since the last reading, else 0."""

    name = "cpu-throttle"

    def __init__(self, clock: TimeSource, root: Path = Path("/sys/devices/system/cpu")) -> None:
        self._clock, self._root = clock, root
        self._files: dict[str, Path] = {}
        self._counts: dict[str, int] = {}

    def probe(self) -> Availability:
        self._files = {}
        for cpu in sorted(self._root.glob("cpu[0-9]*"))[:MAX_CPUS]:
            counter = cpu / "thermal_throttle/package_throttle_count"
            if counter.is_file():
                # All CPUs of a package show the same count.
                self._files.setdefault(sysfs.text(cpu / "topology/physical_package_id") or "0", counter)
        if not self._files:
            return Availability(False, f"no thermal_throttle counters below {self._root}", "only Intel CPUs have them")
        return Availability(True, f"{len(self._files)} packages")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        if not self._files:
            self.probe()
        return [self._one(sampler, package, file) for package, file in self._files.items()]

    def _one(self, sampler: Sampler, package: str, file: Path) -> Reading:
        sensor = Sensor(f"cpu-throttle:package{package}", Kind.THROTTLE, "cpu", "level")
        count = sysfs.whole(file)
        if count is None:
            return sampler.reading(sensor, failed(f"{file} cannot be read"))
        grown = count - self._counts.get(package, count)
        self._counts[package] = count
        detail = f"slowed {grown} times since the last reading, {count} since boot"
        return sampler.reading(sensor, 1.0 if grown > 0 else 0.0, detail)
