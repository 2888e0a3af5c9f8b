"""Handles signals: TERM and INT stop the run, HUP reads the plan's file again, USR2 reopens the logs."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import signal

from supervisor.audit.log import AuditLog
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.debug_log import reopen_debug_log
from supervisor.errors import DiskFailed, DiskFull, SweepError
from supervisor.plan.drift import PlanSource
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")


class DaemonSignals:
    """Installs its handlers by `handle()`, once, in the running loop."""

    def __init__(self, stop: StopRequest, audit: AuditLog, source: PlanSource, writer: RunWriter) -> None:
        self._stop, self._audit, self._source, self._writer = stop, audit, source, writer
        self._reread_task: asyncio.Task[None] | None = None

    def handle(self) -> None:
        """Install the handlers."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._stopped, number)
        # A closing terminal sends it too, so it must do no harm.
        loop.add_signal_handler(signal.SIGHUP, self._hung_up)
        loop.add_signal_handler(signal.SIGUSR2, self._reopen_logs)

    def _stopped(self, number: int) -> None:
        name = signal.Signals(number).name
        if self._stop.asked():
            log.warning("a second %s: ending at once", name)
            os._exit(1)  # the user does not want to wait; the next start recovers
        self._stop.ask(name)

    def _hung_up(self) -> None:
        log.info("SIGHUP: the plan's file is read again; no trial is touched")
        if self._reread_task is None or self._reread_task.done():
            self._reread_task = asyncio.create_task(self._reread_plan())

    async def _reread_plan(self) -> None:
        if self._source.path is None:
            return
        plan_text = lookups.run(self._writer.store, self._writer.run_id)["plan_text"]
        found = await asyncio.to_thread(self._source.reread, plan_text)
        where = {"path": str(self._source.path), "sha256": found.sha256}
        with contextlib.suppress(DiskFull, DiskFailed):
            if found.error is not None:
                self._writer.record("plan.refused", **where, error=found.error)
            else:
                self._writer.record("plan.compared", **where, changes=list(found.changes))

    def _reopen_logs(self) -> None:
        """Reopen the logs after another program has rotated them."""
        try:
            self._audit.reopen()
        except SweepError as error:
            log.error("%s", error.message)  # noqa: TRY400 - the trace says nothing more
        reopen_debug_log()
