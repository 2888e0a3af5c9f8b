"""Ends the daemon before its run has ended: after a failed disk, or when a stop takes too long."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Awaitable, Callable, Iterator

from supervisor.clock import Clock
from supervisor.daemon.stop_request import StopRequest
from supervisor.errors import DiskFailed, DiskFull
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

STOP_WITHIN_S = 90.0
"""From the request to stop: a driver gets 40 s for its checkpoints, Ray's end takes up to 20; our unit gives 120."""
KILL_WITHIN_S, CLOSE_WITHIN_S = 10.0, 15.0
"""After STOP_WITHIN_S: the first for killing what can be killed, the second for the daemon's own end."""


@contextlib.contextmanager
def disk_errors_logged() -> Iterator[None]:
    """Log a full or failed disk: it must not hide the error that ended the daemon."""
    try:
        yield
    except (DiskFull, DiskFailed) as error:
        log.error("%s", error.message)  # noqa: TRY400 - the trace says nothing more


class EarlyEnd:
    """Cancels the daemon's main task and keeps the cause."""

    def __init__(self, writer: RunWriter, clock: Clock, stop: StopRequest, kill: Callable[[], Awaitable[None]]) -> None:
        """`kill` kills every process of the run."""
        self._writer, self._clock, self._stop, self._kill = writer, clock, stop, kill
        self._main: asyncio.Task[None] | None = None
        self.disk_failure: DiskFailed | None = None
        self.forced = False
        """True if the stop took too long."""

    async def run(self, main: Callable[[], Awaitable[None]]) -> None:
        """Run `main` until it returns or is ended early. Raises the DiskFailed that ended it."""
        self._main = asyncio.ensure_future(main())
        try:
            await self._main
        except asyncio.CancelledError:
            if self.disk_failure is not None:
                raise self.disk_failure from None
            if not self.forced:
                raise

    def disk_failed(self, error: DiskFailed) -> None:
        """End the daemon: nothing can be committed any more; the next one recovers."""
        log.error("%s", error.message)
        self.disk_failure = error
        self._cancel()

    async def enforce_stop(self) -> None:
        """Wait for a request to stop; if the daemon has not ended in time, end it."""
        await self._stop.wait()
        await self._clock.sleep(STOP_WITHIN_S)
        with disk_errors_logged():
            self._writer.record("stop.forced", what="the daemon", after_s=STOP_WITHIN_S)
        with contextlib.suppress(TimeoutError):
            # A process that waits in the kernel for a disk or a device does not obey KILL.
            await asyncio.wait_for(self._kill(), KILL_WITHIN_S)
        self.forced = True
        self._cancel()
        await self._clock.sleep(CLOSE_WITHIN_S)
        log.error("some processes cannot be ended; the daemon ends without them")
        os._exit(0)  # as after any forced stop; the next start ends these processes, or records them

    def _cancel(self) -> None:
        if self._main is not None:
            self._main.cancel()
