"""Keeps space for the daemon's own writes: a reserve file, deleted when the disk fills, made again when it has space.

The governor pauses trials long before, by its disk thresholds; the reserve is for a governor without readings, and for
another program that fills the disk faster. Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from supervisor import failpoints
from supervisor.clock import Clock
from supervisor.daemon.stop_request import StopRequest
from supervisor.filesystem import free_bytes

log = logging.getLogger("supervisor")

MIB = 1 << 20
POLL_S = 1.0


@dataclass(frozen=True)
class ReserveLimits:
    """Bytes of free space: below `low` the reserve is deleted and the run pauses, above `enough` it resumes."""

    reserve_bytes: int = 4 * MIB
    low_bytes: int = 2 * MIB
    enough_bytes: int = 64 * MIB


class DiskReserve:
    """Holds the reserve; `full` says that the disk was nearly full and has not enough space yet."""

    def __init__(
        self, folder: Path, clock: Clock, limits: ReserveLimits | None = None, free: Callable[[Path], int] = free_bytes
    ) -> None:
        """Make the reserve, FOLDER/reserve, if there is space."""
        self._folder, self._clock, self._free = folder, clock, free
        self.limits = limits or ReserveLimits()
        self._reserve = folder / "reserve"
        self.full = not self._make()

    def free(self) -> int:
        """Return the free bytes of the disk. Raises OSError."""
        return self._free(self._folder)

    def view(self) -> dict[str, Any]:
        """Return what `status` shows of the disk; `free_bytes` is None if they cannot be read."""
        try:
            free: int | None = self.free()
        except OSError:
            free = None  # the folder is gone; `status` must still show the rest
        enough = self.limits.enough_bytes
        return {"folder": str(self._folder), "free_bytes": free, "full": self.full, "enough_bytes": enough}

    def look(self) -> None:
        """Check the free space. Called before each change of the store, so before a write can fail."""
        free = self.free()
        if self.full and free >= self.limits.enough_bytes:
            self.full = not self._make()
        elif not self.full and free < self.limits.low_bytes:
            self.give_up()

    def give_up(self) -> None:
        """Delete the reserve: the next writes may use its space."""
        self.full = True
        with contextlib.suppress(FileNotFoundError):
            self._reserve.unlink()
            failpoints.hit("reserve.release")

    def _make(self) -> bool:
        """Make the reserve; return False if there is no space for it."""
        if self._reserve.exists() and self._reserve.stat().st_size == self.limits.reserve_bytes:
            return True
        try:
            # Random bytes: some file systems need no space for zeros.
            failpoints.hit("reserve.make")
            with self._reserve.open("wb") as file:
                file.write(os.urandom(self.limits.reserve_bytes))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.warning(
                "a reserve of %s bytes cannot be made at %s: %s", self.limits.reserve_bytes, self._reserve, error
            )
            with contextlib.suppress(OSError):
                self._reserve.unlink(missing_ok=True)
            return False
        return True

    async def wait(self, stop: StopRequest) -> bool:
        """Wait without limit until there is space again; return False if the run was asked to stop before."""
        while not stop.asked():
            self.look()
            if not self.full:
                return True
            await self._clock.sleep(POLL_S)
        return False
