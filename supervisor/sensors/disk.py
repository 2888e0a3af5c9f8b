"""Free space of the folders that a run writes to."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from pathlib import Path

from supervisor.clock import Now, TimeSource
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading


def _free_bytes(folder: Path) -> tuple[int, int]:
    """Free bytes for an ordinary user, and the size, of the file system that holds the folder. Raises OSError."""
    figures = os.statvfs(folder)
    return figures.f_bavail * figures.f_frsize, figures.f_blocks * figures.f_frsize


class DiskProvider:
    """One reading per folder: bytes free to an ordinary user."""

    name = "disk"

    def __init__(
        self,
        folders: Sequence[Path],
        clock: TimeSource,
        free_bytes: Callable[[Path], tuple[int, int]] = _free_bytes,
    ) -> None:
        self._folders = tuple(dict.fromkeys(folders))
        self._clock, self._free_bytes = clock, free_bytes

    def probe(self) -> Availability:
        if not self._folders:
            return Availability(False, "no folder was named to watch", "name the state, run and log folders")
        return Availability(True, f"{len(self._folders)} folders watched")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        return [self._one(sampler, folder) for folder in self._folders]

    def _one(self, sampler: Sampler, folder: Path) -> Reading:
        sensor_id = f"disk:{folder}"
        try:
            free, total = self._free_bytes(folder)
        except OSError as error:
            detail = f"statvfs: {error.strerror or error}"
            return sampler.absent(sensor_id, Kind.DISK, "disk", "bytes", Quality.ERROR, detail)
        return sampler.ok(sensor_id, Kind.DISK, "disk", float(free), "bytes", detail=f"of {total} bytes")

    def close(self) -> None:
        """Nothing is held open."""
