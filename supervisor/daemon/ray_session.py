"""The folder of Ray's session: gone or full, Ray says nothing and starts no worker any more. So it is looked at."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.daemon.upkeep.disk_reserve import MIB
from supervisor.errors import DiskFailed, DiskFull
from supervisor.filesystem import free_bytes
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

PERIOD_S = 2.0
SOCKETS = ("raylet", "plasma_store")
LOW_BYTES, ENOUGH_BYTES = 32 * MIB, 128 * MIB
"""A session writes logs and sockets there, some megabytes a day; the gap keeps a pause from flapping."""


def session_of(ray_temp: Path) -> tuple[Path, ...]:
    """What must stay while a session lives: its folder, and the sockets by which workers find Ray. () without one.

    Those of the raylet and of its object store; the dashboard's may come and go.
    """
    latest = ray_temp / "session_latest"
    if not latest.exists():
        return ()
    session = latest.resolve()
    return (session, *(path for path in (session / "sockets" / name for name in SOCKETS) if path.exists()))


def still_full(full: bool, free: int) -> bool:
    """Whether the folder's disk counts as full, from whether it did and the bytes that are free."""
    return free < (ENOUGH_BYTES if full else LOW_BYTES)


class RayFolder:
    """Of one session. `hold` pauses all work for a reason, None lifts that."""

    def __init__(
        self,
        folder: Path,
        ledger: RunWriter,
        clock: Clock,
        hold: Callable[[str | None], Awaitable[None]],
        free: Callable[[Path], int] = free_bytes,
    ) -> None:
        self._folder, self._ledger, self._clock, self._hold, self._free = folder, ledger, clock, hold, free
        self._session = session_of(folder)
        self._full = False

    async def watch(self) -> Path:
        """Holds the work while the disk is full; returns once the session has lost something, which that is."""
        try:
            while True:
                lost = next((path for path in self._session if not path.exists()), None)
                if lost is not None:
                    # A head that ends takes its sockets away itself; then whoever waits for it ends this watch.
                    await self._clock.sleep(PERIOD_S)
                    return lost
                if self._session:
                    await self._look_at_space()
                await self._clock.sleep(PERIOD_S)
        finally:
            if self._full:
                # The next session has a watch of its own.
                await self._hold(None)

    async def _look_at_space(self) -> None:
        try:
            free = self._free(self._folder)
            full = still_full(self._full, free)
            if full != self._full:
                self._ledger.record("disk.filled" if full else "disk.freed", folder=str(self._folder), free_bytes=free)
                self._full = full
                await self._hold("the disk of Ray's session folder is full" if full else None)
        except (DiskFull, DiskFailed, OSError) as error:
            log.warning("Ray's folder cannot be looked after: %s", error)
