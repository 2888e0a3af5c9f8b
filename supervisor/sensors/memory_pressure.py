"""Reads how short of memory Linux is: pressure stall information (PSI), and out-of-memory kills of the control group.

PSI format: Linux Documentation/accounting/psi.rst, `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. The files are
missing on kernels without CONFIG_PSI and inside some containers.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from supervisor.clock import TimeSource
from supervisor.sensors.cgroup import memory_event_counts
from supervisor.sensors.provider import Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading

LINES = (("memory", "full"), ("io", "full"), ("cpu", "some"))
"""`full`: the share of time in which no process ran; for the CPU it has no meaning for a whole system."""
KILLS = Sensor("cgroup:oom_kill", Kind.EVENT, "memory", "count")


class PressureStallProvider(Provider):
    """Reads the percent of the last ten seconds: `psi:memory/full`, `psi:io/full` and `psi:cpu/some`."""

    name = "psi"

    def __init__(self, clock: TimeSource, root: Path = Path("/proc/pressure")) -> None:
        self._clock, self._root = clock, root

    def probe(self) -> Availability:
        try:
            _average(self._root / "memory", "full")
        except (OSError, ValueError) as error:
            return Availability(False, f"no pressure stall information: {error}", "boot Linux with psi=1")
        return Availability(True, "memory, io and cpu stalls")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        return [self._one(sampler, resource, line) for resource, line in LINES]

    def _one(self, sampler: Sampler, resource: str, line: str) -> Reading:
        sensor = Sensor(f"psi:{resource}/{line}", Kind.PSI, resource, "percent")
        try:
            return sampler.reading(sensor, _average(self._root / resource, line))
        except (OSError, ValueError) as error:
            return sampler.reading(sensor, failed(error))


def _average(file: Path, line: str) -> float:
    """Return the ten-second average of a line. Raises OSError or ValueError."""
    for row in file.read_text().splitlines()[:4]:
        name, _, rest = row.partition(" ")
        if name == line:
            figures = dict(part.split("=", 1) for part in rest.split() if "=" in part)
            if "avg10" in figures:
                return float(figures["avg10"])
    raise ValueError(f"{file} has no line {line} with avg10")


class MemoryKillsProvider(Provider):
    """Counts new out-of-memory kills in this control group."""

    name = "memory-kills"

    def __init__(self, clock: TimeSource, counts: Callable[[], dict[str, int]] = memory_event_counts) -> None:
        self._clock, self._counts = clock, counts
        self._last: int | None = None

    def probe(self) -> Availability:
        if "oom_kill" not in self._counts():
            return Availability(False, "no control group counts out-of-memory kills", "expected outside Linux")
        return Availability(True, "counts out-of-memory kills")

    def read(self) -> list[Reading]:
        count = self._counts().get("oom_kill")
        if count is None:
            return []
        killed = max(0, count - (count if self._last is None else self._last))
        self._last = count
        sampler = self._sampler()
        return [sampler.reading(KILLS, float(killed), f"the kernel killed {killed} processes for memory")]
