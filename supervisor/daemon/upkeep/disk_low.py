"""Warns of a disk that gets low, before the governor starts no more trials."""

from __future__ import annotations

import logging
from collections.abc import Callable

from supervisor.clock import Clock
from supervisor.errors import DiskFull
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 60.0
TIMES_HOLD = 2.0
"""Low is less than this many times the space at which no new trial starts (`disk_hold_bytes`)."""
AGAIN_TIMES = 1.5
"""The warning may come again once so many times that space was free."""


class DiskLow:
    """Looks at the free space of one disk."""

    def __init__(
        self,
        writer: RunWriter,
        clock: Clock,
        folder: str,
        free: Callable[[], int | None],
        hold_bytes: Callable[[], float],
    ) -> None:
        """`free` returns the free bytes, None if they cannot be read; `hold_bytes` the plan's `disk_hold_bytes` now."""
        self._writer, self._clock, self._folder, self._free = writer, clock, folder, free
        self._hold_bytes = hold_bytes
        self._said = False

    async def run(self) -> None:
        """Look for ever. Raises DiskFailed."""
        while True:
            self.look()
            await self._clock.sleep(LOOK_PERIOD_S)

    def look(self) -> None:
        """Look once; record an event when the space gets low. Raises DiskFailed."""
        free = self._free()
        if free is None:
            return
        limit = int(TIMES_HOLD * self._hold_bytes())
        if free >= AGAIN_TIMES * limit:
            self._said = False
        elif free < limit and not self._said:
            try:
                self._writer.record("disk.nearly_filled", folder=self._folder, free_bytes=free, limit_bytes=limit)
                self._said = True
            except DiskFull as error:
                log.warning("a low disk cannot be recorded yet: %s", error)
