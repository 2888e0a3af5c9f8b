"""Reads the free space of the folders that a run writes to."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path

from supervisor import filesystem
from supervisor.clock import TimeSource
from supervisor.sensors.provider import Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading


class DiskProvider(Provider):
    """Reads the free bytes of each folder, for a user who is not root."""

    name = "disk"

    def __init__(
        self, folders: Sequence[Path], clock: TimeSource, free_bytes: Callable[[Path], int] = filesystem.free_bytes
    ) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._clock, self._free_bytes = clock, free_bytes

    def probe(self) -> Availability:
        if not self._folders:
            return Availability(False, "no folder is watched", "name the state, run and log folders")
        return Availability(True, f"{len(self._folders)} folders watched")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        return [self._one(sampler, folder) for folder in self._folders]

    def _one(self, sampler: Sampler, folder: Path) -> Reading:
        sensor = Sensor(f"disk:{folder}", Kind.DISK, "disk", "bytes")
        try:
            return sampler.reading(sensor, float(self._free_bytes(folder)))
        except OSError as error:
            return sampler.reading(sensor, failed(f"statvfs: {error.strerror or error}"))
