"""Linux pressure stall information: how much work waits for want of memory, disk or CPU.

Format: Linux Documentation/accounting/psi.rst, `some avg10=0.00 avg60=0.00 avg300=0.00 total=0`. The files are
missing on kernels without CONFIG_PSI and inside some containers.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.clock import Now, TimeSource
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

LINES = (("memory", "full"), ("io", "full"), ("cpu", "some"))
"""`full` is the share of time in which nothing ran at all; for the CPU that line means nothing system-wide."""


class PressureStallProvider:
    """Percent of the last ten seconds, as `psi:memory/full`, `psi:io/full` and `psi:cpu/some`."""

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
        sampler = Sampler(self.name, Now.of(self._clock))
        return [self._one(sampler, resource, line) for resource, line in LINES]

    def _one(self, sampler: Sampler, resource: str, line: str) -> Reading:
        sensor_id = f"psi:{resource}/{line}"
        try:
            percent = _average(self._root / resource, line)
        except (OSError, ValueError) as error:
            return sampler.absent(sensor_id, Kind.PSI, resource, "percent", Quality.ERROR, str(error))
        return sampler.ok(sensor_id, Kind.PSI, resource, percent, "percent")

    def close(self) -> None:
        """Nothing is held open."""


def _average(file: Path, line: str) -> float:
    """The ten-second average of that line. Raises OSError or ValueError."""
    for row in file.read_text().splitlines()[:4]:
        name, _, rest = row.partition(" ")
        if name == line:
            figures = dict(part.split("=", 1) for part in rest.split() if "=" in part)
            if "avg10" in figures:
                return float(figures["avg10"])
    raise ValueError(f"{file} has no line {line} with avg10")
