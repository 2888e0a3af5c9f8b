"""Starts, watches and ends the Ray session of a run: its head process and the folder that Ray needs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.daemon.upkeep.disk_reserve import MIB
from supervisor.errors import DiskFailed, DiskFull
from supervisor.filesystem import free_bytes
from supervisor.processes.guardian import status_text
from supervisor.processes.ray_head import RayHead
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

PERIOD_S = 2.0
SOCKETS = ("raylet", "plasma_store")
LOW_BYTES, ENOUGH_BYTES = 32 * MIB, 128 * MIB
"""A session writes logs and sockets there, some megabytes a day; the gap keeps a pause from flapping."""

Hold = Callable[[str | None], Awaitable[None]]
"""Pauses all work for a reason; None ends that pause."""


class RaySession:
    """Owns one Ray head at a time; `head` is None while Ray is down.

    When a head ends by itself, `on_exit` is awaited: a driver without its head would hang. Ray reports nothing and
    starts no worker when its folder is gone or full, so the folder is watched too.
    """

    def __init__(
        self,
        folder: Path,
        writer: RunWriter,
        clock: Clock,
        new_head: Callable[[], RayHead],
        hold: Hold,
        on_exit: Callable[[], Awaitable[None]],
    ) -> None:
        self._folder, self._writer, self._clock = folder, writer, clock
        self._new_head, self._hold, self._on_exit = new_head, hold, on_exit
        self.head: RayHead | None = None
        self._watches: list[asyncio.Task[None]] = []

    async def start(self) -> RayHead:
        """Start a head and watch it. Raises RayStartFailed."""
        head = self._new_head()
        try:
            await head.start()
        except asyncio.CancelledError:
            await head.stop()
            raise
        self.head = head
        self._writer.record("ray.started", address=head.address, dashboard=head.dashboard, pid=head.pid)
        if head.port_taken is not None:
            self._writer.record("dashboard.moved", port=head.port_taken, dashboard=head.dashboard)
        folder_watch = asyncio.create_task(self._watch_folder(head))
        self._watches = [folder_watch, asyncio.create_task(self._watch_head(head, folder_watch))]
        return head

    async def end(self) -> bool:
        """Stop Ray; return whether a head was there."""
        for watch in self._watches:
            watch.cancel()
        head, self.head = self.head, None
        if head is not None:
            await head.stop()
        return head is not None

    async def _watch_head(self, head: RayHead, folder_watch: asyncio.Task[None]) -> None:
        status = status_text(await head.exited())
        self.head = None
        try:
            self._writer.record("ray.exited", status=status)
        except (DiskFull, DiskFailed) as error:
            # The driver must end all the same.
            log.error("Ray ended with %s, which cannot be recorded: %s", status, error)  # noqa: TRY400
        folder_watch.cancel()
        await head.stop()
        await self._on_exit()

    async def _watch_folder(self, head: RayHead) -> None:
        lost = await FolderWatch(self._folder, self._writer, self._clock, self._hold).run()
        with contextlib.suppress(DiskFull, DiskFailed):
            self._writer.record("ray.session_lost", path=str(lost))
        await head.stop()


def session_of(ray_temp: Path) -> tuple[Path, ...]:
    """Return the paths that a live session needs: its folder and two sockets; () without a session.

    These are the sockets of the raylet and of its object store; the dashboard's may come and go.
    """
    latest = ray_temp / "session_latest"
    if not latest.exists():
        return ()
    session = latest.resolve()
    return (session, *(path for path in (session / "sockets" / name for name in SOCKETS) if path.exists()))


def still_full(full: bool, free: int) -> bool:
    """Return whether the disk counts as full; `full` says whether it did before."""
    return free < (ENOUGH_BYTES if full else LOW_BYTES)


class FolderWatch:
    """Watches the folder of one session."""

    def __init__(self, folder: Path, writer: RunWriter, clock: Clock, hold: Hold) -> None:
        self._folder, self._writer, self._clock, self._hold = folder, writer, clock, hold
        self._session = session_of(folder)
        self._full = False

    async def run(self) -> Path:
        """Hold the work while the disk is full; return a path that the session has lost."""
        try:
            while True:
                lost = next((path for path in self._session if not path.exists()), None)
                if lost is not None:
                    # A head that ends removes its sockets itself; then its own watch cancels this one.
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
            free = free_bytes(self._folder)
            full = still_full(self._full, free)
            if full != self._full:
                self._writer.record("disk.filled" if full else "disk.freed", folder=str(self._folder), free_bytes=free)
                self._full = full
                await self._hold("the disk of Ray's session folder is full" if full else None)
        except (DiskFull, DiskFailed, OSError) as error:
            log.warning("the space of Ray's folder cannot be watched: %s", error)
