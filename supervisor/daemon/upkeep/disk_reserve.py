"""Room for the daemon's own last words: a reserve file, given up when the disk fills, taken again when there is space.

The governor pauses trials long before (its policy's disk thresholds); this is for when nobody has readings, or another
program is faster. Standard library only.
"""

from __future__ import annotations

import contextlib
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor import failpoints
from supervisor.clock import Clock
from supervisor.daemon.stop_request import StopRequest
from supervisor.filesystem import free_bytes

log = logging.getLogger("supervisor")

MIB = 1 << 20
POLL_S = 1.0


@dataclass(frozen=True)
class ReserveLimits:
    """In bytes of free space. Below `low` the reserve goes and the work pauses; above `enough` it goes on."""

    reserve_bytes: int = 4 * MIB
    low_bytes: int = 2 * MIB
    enough_bytes: int = 64 * MIB


class DiskReserve:
    """`full` from when the disk is nearly full until there is enough space again."""

    def __init__(
        self, folder: Path, clock: Clock, limits: ReserveLimits | None = None, free: Callable[[Path], int] = free_bytes
    ) -> None:
        """The reserve is FOLDER/reserve; it is made at once, if there is space."""
        self._folder, self._clock, self._free = folder, clock, free
        self.limits = limits or ReserveLimits()
        self._reserve = folder / "reserve"
        self.full = not self._make()

    def free(self) -> int:
        return self._free(self._folder)

    def look(self) -> None:
        """Before each change of the store: so the space is there before anything has failed."""
        free = self.free()
        if self.full and free >= self.limits.enough_bytes:
            self.full = not self._make()
        elif not self.full and free < self.limits.low_bytes:
            self.give_up()

    def give_up(self) -> None:
        """The disk is full: whatever is written next may use the reserve."""
        self.full = True
        with contextlib.suppress(FileNotFoundError):
            self._reserve.unlink()
            failpoints.hit("reserve.release")

    def _make(self) -> bool:
        """Random bytes: some file systems keep zeros for nothing. False when there is no space for it."""
        if self._reserve.exists() and self._reserve.stat().st_size == self.limits.reserve_bytes:
            return True
        try:
            failpoints.hit("reserve.make")
            with self._reserve.open("wb") as file:
                file.write(os.urandom(self.limits.reserve_bytes))
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            log.warning("no reserve of %s bytes can be kept at %s: %s", self.limits.reserve_bytes, self._reserve, error)
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
