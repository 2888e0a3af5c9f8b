"""Lives the life of one run: recovers, opens the socket, starts Ray, runs the experiments, ends.

Crash-only: each wish is committed to the store before anything acts on it, and every start is a recovery.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor import failpoints
from supervisor.audit.log import AuditLog
from supervisor.clock import Clock
from supervisor.control.handshake import Readiness
from supervisor.control.plan_queue import PlanQueue
from supervisor.control.server import ControlServer
from supervisor.daemon import run_end
from supervisor.daemon.early_end import EarlyEnd, disk_errors_logged
from supervisor.daemon.experiments.driver_session import LOCKED_POLL_S
from supervisor.daemon.handlers import Handlers
from supervisor.daemon.live_page import LivePage
from supervisor.daemon.news.dead_man import DeadMan
from supervisor.daemon.news.notifier import Notifier
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.recovery import Recovery
from supervisor.daemon.signals import DaemonSignals
from supervisor.daemon.upkeep.background import Task, keep_running
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.daemon.upkeep.crash_loop import Verdict, delay_start
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.loop_watchdog import LoopWatchdog
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict, DiskFull, StoreLocked, SweepError
from supervisor.processes.wake_lock import WakeLock
from supervisor.report.process import ReportAhead
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")


@dataclass(frozen=True)
class Daemon:
    """Lives one run, from recovery to its end; `assembly.assemble` makes it from its parts."""

    writer: RunWriter
    clock: Clock
    run_folder: Path
    recovery: Recovery
    reserve: DiskReserve
    orchestrator: Orchestrator
    handlers: Handlers
    server: ControlServer
    page: LivePage
    page_asked: str | None
    """StartRequest.http."""
    signals: DaemonSignals
    early_end: EarlyEnd
    background: Sequence[Task]
    checkpoints: CheckpointRetention
    report: ReportAhead
    notifier: Notifier
    dead_man: DeadMan
    service: ServiceNotify
    wake_lock: WakeLock | None
    audit: AuditLog
    queue: PlanQueue

    async def live(self, ready: Readiness) -> int:
        """Return the exit code of the run; 0 too when it was stopped."""
        verdict = await self.recovery.run()
        # Until the very end: the report and the last message take their time, too.
        loop_watch = asyncio.create_task(LoopWatchdog(lambda: self.service.send(WATCHDOG="1")).run())
        reason, failed = "it failed; its log says why", True
        try:
            await self.early_end.run(lambda: self._work(ready, verdict))
            reason, failed = "the run has ended", False
        except Exception as error:
            # Of any kind: a daemon that dies of the same bug at each start is a crash loop, and is known by this.
            reason = error.message if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
            with disk_errors_logged():
                # A disk can fail at the very last event.
                if self.writer.run_state() is not ProcessState.EXITED:
                    self.writer.record("run.failed", error=reason)
            raise
        finally:
            if not self._another_follows():
                self.service.send(STOPPING="1")
            with disk_errors_logged():
                # Before what waits for a service: the end of a stop that takes too long would cut it off.
                self.writer.record("daemon.stopped", reason=self.orchestrator.stop.reason or reason)
            with disk_errors_logged():
                await self.notifier.send_last()
            with disk_errors_logged():
                await self.dead_man.end(failed=failed or await run_end.exit_code(self.writer) == 1)
            await self._close()
            loop_watch.cancel()
        return await run_end.exit_code(self.writer)

    async def _work(self, ready: Readiness, verdict: Verdict | None) -> None:
        await self.server.open()
        await self.page.begin(self.handlers, self.page_asked)
        self.signals.handle()
        tasks = [
            asyncio.create_task(keep_running(task, self.clock, self.early_end.disk_failed)) for task in self.background
        ]
        if verdict is not None:
            await delay_start(verdict, self.writer, self.service, self.orchestrator.stop)
        self.writer.move_run(ProcessState.STARTING)
        if await self._start_ray():
            self.writer.record("run.started")
            await self._take_wake_lock()
            failpoints.hit("ready.tell")
            ready.send(self.handlers.facts())
            self.service.send(READY="1", STATUS=f"{self.writer.run_id} is at work")
            await self._run()
            if self.orchestrator.stop.asked():
                # STOPPED says that nothing of the run works any more.
                await self.orchestrator.end_ray()
        else:
            ready.fail(Conflict("it was stopped before it was ready"))
        for task in tasks:
            task.cancel()
        ray_ends = asyncio.create_task(self.orchestrator.end_ray())
        try:
            await run_end.end_run(self.writer, self.clock, self.checkpoints, self.report)
        finally:
            await ray_ends

    async def _run(self) -> None:
        """Run to the end; after a disk that was full at the wrong moment, continue from the store."""
        while True:
            try:
                return await self.orchestrator.run()
            except DiskFull as full:
                await self._wait_for_space(full)

    async def _wait_for_space(self, full: DiskFull) -> None:
        """Wait until the store can be written, then recover. Raises `full` if the run is asked to stop before."""
        stop = self.orchestrator.stop
        while True:
            log.error("%s; waiting until it can be committed", full.message)
            if isinstance(full, StoreLocked):
                stopped = await stop.within(LOCKED_POLL_S)
            else:
                self.reserve.give_up()
                stopped = not await self.reserve.wait(stop)
            if stopped:
                raise full
            try:
                self.writer.recover()
                self.writer.move_run(ProcessState.STARTING)
                self.writer.record("run.started")
            except DiskFull as again:
                full = again
            else:
                return

    async def _start_ray(self) -> bool:
        """Start Ray; return False if the run is asked to stop before Ray is up. Raises RayStartFailed."""
        started = await self.orchestrator.stop.unless_asked(self.orchestrator.begin())
        if started is not None:
            started.result()
        return started is not None

    async def _take_wake_lock(self) -> None:
        if self.wake_lock is not None:
            taken = await self.wake_lock.take()
            self.writer.record("wake_lock.taken" if taken.ok else "wake_lock.refused", reason=taken.reason)

    def _another_follows(self) -> bool:
        """Return whether this process goes on with a plan of the queue: only after a run that has ended."""
        try:
            return self.writer.run_state() is ProcessState.EXITED and self.queue.first() is not None
        except SweepError as error:
            log.error("%s", error.message)  # noqa: TRY400 - the trace says nothing more
            return False

    async def _close(self) -> None:
        failpoints.hit("daemon.close")
        await self.report.end()
        if self.wake_lock is not None:
            await self.wake_lock.release()
        await self.page.close()
        await self.server.close()
        self.audit.close()
