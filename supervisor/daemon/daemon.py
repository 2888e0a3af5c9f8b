"""The daemon: takes the home's lock, recovers, opens its socket, says that it is ready, conducts the run, ends.

    python -P -m supervisor.daemon --ready-fd N < request.json

The request on standard input is what `supervisord start` worked out (request.StartRequest). Crash-only: what is
wanted is in the store before anything acts, and starting is always recovering.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import logging
import os
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from supervisor import __version__, failpoints
from supervisor.audit.log import head_key, open_audit_log
from supervisor.audit.rebuild import UNTOLD, Rebuilt, open_or_rebuild
from supervisor.clock import Clock, boot_id
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.control.server import ControlServer
from supervisor.daemon.driver_session import LOCKED_POLL_S
from supervisor.daemon.handlers import DaemonVerbs
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.run_selection import choose_run
from supervisor.daemon.signals import DaemonSignals
from supervisor.daemon.upkeep import crash_loop
from supervisor.daemon.upkeep.background import Task, keep_house, keep_running, watch_disk, watch_log, watch_time
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.daemon.upkeep.crash_loop import delay_start, judge_start, status_for_manager, under_launchd
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.loop_watchdog import LoopWatchdog
from supervisor.daemon.upkeep.notifier import Notifier
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.domain.lifecycle import ENDED, ProcessState, run_exit_code
from supervisor.errors import Conflict, DiskFailed, DiskFull, StoreLocked, SweepError, SystemRefused
from supervisor.home import Home, find_home
from supervisor.home_lock import take_lock
from supervisor.plan.drift import PlanSource
from supervisor.plan.experiment import ExperimentSpec
from supervisor.preflight.estimate import fits
from supervisor.preflight.machine import machine_memory_bytes
from supervisor.processes import orphans
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.ray_head import RayHead, child_environment
from supervisor.processes.wake_lock import WakeLock
from supervisor.report.process import write_report
from supervisor.store import queries
from supervisor.store.database import Event, Store
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

STOP_WITHIN_S = 90.0
"""From the first wish to stop: a driver gets 40 s for its checkpoints, Ray's end takes up to 20; our unit gives 120."""
KILL_WITHIN_S, CLOSE_WITHIN_S = 10.0, 15.0
"""After STOP_WITHIN_S: what can be killed is gone within the first, the last words are said within the second."""


class Daemon:
    """One run, from recovery to its end."""

    def __init__(
        self, home: Home, store: Store, clock: Clock, request: StartRequest, rebuilt: Rebuilt | None = None
    ) -> None:
        self.home, self.store, self.clock, self._rebuilt = home, store, clock, rebuilt
        self._room = DiskReserve(home.state, clock)
        store.before_change = self._room.look
        self.run_id = choose_run(store, request, clock)
        row = store.row("SELECT plan, hardware, source FROM run WHERE id = ?", self.run_id)
        assert row is not None
        self.plan = str(row["plan"])
        self.ledger = RunWriter(store, self.run_id)
        self._checkpoints = CheckpointRetention(self.ledger, home.run_folder(self.run_id))
        self._freeze_plan()
        self.audit, self._replaced_log = open_audit_log(home.audit_log(self.plan), store)
        store.told = self._told
        folder = Path(row["source"]).parent if row["source"] != "built-in" else None
        hardware = json.loads(row["hardware"])
        self._source = PlanSource(None if folder is None else Path(row["source"]), hardware.pop("source_sha256", None))
        self._by_service = request.by_service
        self._wants_wake_lock = bool(hardware.pop("wake_lock", True))
        self._wake_lock = WakeLock()
        self._notify = ServiceNotify()
        self._notifier = Notifier(self.ledger, self.plan, home.notify, clock)
        self.orchestrator = self._make_orchestrator(folder, hardware)
        self._verbs = DaemonVerbs(
            home, self.ledger, clock, self.plan, self.orchestrator, self._room, self._source, rebuilt, self.disk_failed
        )
        self._server = ControlServer(home, clock, self._verbs, self._peer_refused, self._socket_rebound)
        self._main: asyncio.Task[Any] | None = None
        self._loop_watch: asyncio.Task[None] | None = None
        self._disk_failure: DiskFailed | None = None
        self._forced = False
        self._signals = DaemonSignals(self.orchestrator, self.audit, self._source, self.ledger)

    def _freeze_plan(self) -> None:
        """The run's own copy of its plan, for people; the store's is the one that counts."""
        folder = self.home.run_folder(self.run_id)
        failpoints.hit("run.folder")
        folder.mkdir(exist_ok=True)
        row = self.store.row("SELECT plan_text FROM run WHERE id = ?", self.run_id)
        assert row is not None
        failpoints.hit("run.plan")
        (folder / "plan.yaml").write_text(row["plan_text"])

    def _told(self, event: Event) -> None:
        if event.run == self.run_id:
            failure = self.audit.hear(event, self.store, self.plan)
            if failure is not None:
                log.error("%s", failure)
            self._note_head()

    def _note_head(self) -> None:
        self.store.note(head_key(self.audit.path), self.audit.head.to_json())

    def _make_orchestrator(self, folder: Path | None, hardware: dict[str, Any]) -> Orchestrator:
        environment = child_environment(self.home, self.run_id, folder, hardware.pop("pass_environment", ()))
        cpus = os.cpu_count() or 1
        run_folder = self.home.run_folder(self.run_id)
        return Orchestrator(
            self.home,
            self.ledger,
            self.clock,
            new_head=lambda: RayHead(self.home, environment, cpus, run_folder / "ray.log"),
            new_driver=lambda name: DriverProcess(environment, run_folder / name / "driver.log"),
            skip_reason=_skip_reason,
            watchdog={
                "gate": str(self.home.gate(self.run_id)),
                "memory": str(self.home.state / "governor"),
                "folders": [str(self.home.state), str(self.home.runs), str(self.home.logs)],
                **hardware,
            },
            room=self._room,
        )

    # The life

    async def live(self, ready: Readiness) -> int:
        """Exit code of the run; 0 too when it was stopped."""
        verdict = await self._recover()
        reason = "it failed; its log says why"
        self._main = asyncio.current_task()
        try:
            await self._server.open()
            self._signals.handle()
            # To the very end: the report after the run takes its time, too.
            self._loop_watch = asyncio.create_task(LoopWatchdog(lambda: self._notify.send(WATCHDOG="1")).run())
            guards = [asyncio.create_task(keep_running(task, self.clock, self.disk_failed)) for task in self._watches()]
            if verdict is not None:
                await delay_start(verdict, self.ledger, self._notify, self.orchestrator.stop)
            self.ledger.move_run(ProcessState.STARTING)
            if await self._start_ray():
                self.ledger.move_run(ProcessState.RUNNING, "run.started")
                await self._take_wake_lock()
                failpoints.hit("ready.tell")
                ready.send(self._verbs.facts())
                self._notify.send(READY="1", STATUS=f"{self.run_id} is at work")
                await self._conduct()
            else:
                ready.fail(Conflict("it was stopped before it was ready"))
            for guard in guards:
                guard.cancel()
            await self._end_run()
            reason = "the run has ended"
        except Exception as error:
            # Of whatever kind: a daemon that dies of the same bug at each start is a crash loop, and is known by this.
            reason = error.message if isinstance(error, SweepError) else f"{type(error).__name__}: {error}"
            with self._as_far_as_the_disk_goes():
                # A disk can fail at the very last event.
                if self.ledger.run_state() is not ProcessState.EXITED:
                    self.ledger.move_run(ProcessState.FATAL, "run.failed", error=reason)
            raise
        except asyncio.CancelledError:
            if self._disk_failure is not None:
                reason = self._disk_failure.message
                raise self._disk_failure from None
            if not self._forced:
                raise
        finally:
            self._notify.send(STOPPING="1")
            with self._as_far_as_the_disk_goes():
                await self._notifier.send_last()
                self.ledger.record("daemon.stopped", reason=self.orchestrator.stop.reason or reason)
            await self._close()
        return self._exit_code()

    async def _recover(self) -> crash_loop.Verdict | None:
        """Starting is recovering: what the last life left is mended, ended and told."""
        self._mend_log()
        if self._rebuilt is not None:
            with self.store.change(self.run_id) as change:
                change.execute("DELETE FROM meta WHERE key = ?", UNTOLD)
                change.record("store.rebuilt", **self._rebuilt.to_json())
        if self._replaced_log is not None:
            self.ledger.record("audit.replaced", path=str(self._replaced_log))
        if self.audit.torn_bytes:
            self.ledger.record("audit.repaired", bytes=self.audit.torn_bytes)
        ended = await asyncio.to_thread(orphans.end, self.home.key)
        if ended:
            self.ledger.record("orphans.ended", processes=ended)
        verdict = judge_start(self.ledger, self.clock) if self._by_service else None
        self.ledger.recover()
        self.ledger.record(
            "daemon.started", pid=os.getpid(), version=__version__, socket=str(self.home.socket), boot_id=boot_id(),
            by="service" if self._by_service else "command",
        )  # fmt: skip
        if os.geteuid() == 0:
            log.warning("running as root: what a trial does, it may do to the whole machine")
            self.ledger.record("daemon.privileged", uid=0)
        return verdict

    @contextlib.contextmanager
    def _as_far_as_the_disk_goes(self) -> Iterator[None]:
        """For last words: what ended the daemon must not be hidden by a disk that does not take them."""
        try:
            yield
        except (DiskFull, DiskFailed) as error:
            log.error("%s", error.message)  # noqa: TRY400 - the trace says nothing more

    async def _conduct(self) -> None:
        """Conducts the run to its end; after a disk that was full at the wrong moment, from what the store holds."""
        while True:
            try:
                return await self.orchestrator.conduct()
            except DiskFull as full:
                await self._go_on_after(full)

    async def _go_on_after(self, full: DiskFull) -> None:
        """Waits until the store can be written, then recovers. Raises `full` when the run is to stop before."""
        while True:
            log.error("%s; waiting until it can be kept", full.message)
            if isinstance(full, StoreLocked):
                possible = not await self.orchestrator.stop.within(LOCKED_POLL_S)
            else:
                self._room.give_up()
                possible = await self._room.wait(self.orchestrator.stop)
            if not possible:
                raise full
            try:
                self.ledger.recover()
                self.ledger.move_run(ProcessState.STARTING)
                self.ledger.move_run(ProcessState.RUNNING, "run.started")
            except DiskFull as again:
                full = again
            else:
                return

    async def _start_ray(self) -> bool:
        """False when the run is to stop before Ray is up. Raises RayStartFailed."""
        start = asyncio.create_task(self.orchestrator.start_ray())
        stop = asyncio.create_task(self.orchestrator.stop.wait())
        try:
            await asyncio.wait({start, stop}, return_when=asyncio.FIRST_COMPLETED)
            if start.done():
                await start
            return start.done()
        finally:
            for task in (start, stop):
                task.cancel()
            await asyncio.gather(start, stop, return_exceptions=True)

    async def _enforce_stop(self) -> None:
        """What was asked to stop does so in time, or is made to; the store holds what is needed to go on."""
        await self.orchestrator.stop.wait()
        await self.clock.sleep(STOP_WITHIN_S)
        with self._as_far_as_the_disk_goes():
            self.ledger.record("stop.forced", what="the daemon", after_s=STOP_WITHIN_S)
        with contextlib.suppress(TimeoutError):
            # A process that waits in the kernel for a disk or a device hears no KILL, and could be waited for for ever.
            await asyncio.wait_for(self.orchestrator.kill(), KILL_WITHIN_S)
        self._forced = True
        if self._main is not None:
            self._main.cancel()
        await self.clock.sleep(CLOSE_WITHIN_S)
        log.error("what is left cannot be ended; the daemon ends without it")
        os._exit(0)  # as after any forced stop; the next start ends what is left, or tells of it

    def _peer_refused(self, uid: int) -> None:
        with self._as_far_as_the_disk_goes():
            self.ledger.record("peer.refused", uid=uid)

    def _socket_rebound(self) -> None:
        with self._as_far_as_the_disk_goes():
            self.ledger.record("socket.restored", path=str(self.home.socket))

    def _watches(self) -> list[Task]:
        """What goes on beside the work, until the work has ended."""
        folder, hold = str(self.home.state), self.orchestrator.hold_for_disk
        return [
            self._server.guard,
            lambda: keep_house(self.home, self.run_id, self.clock, self._checkpoints),
            lambda: watch_disk(self._room, self.ledger, self.clock, hold, folder),
            lambda: watch_log(self.audit, self.plan, self.ledger, self.clock),
            lambda: watch_time(self.ledger, self.clock),
            self._notifier.run,
            self._enforce_stop,
        ]

    def disk_failed(self, error: DiskFailed) -> None:
        """Nothing more can be promised: the daemon ends, and the next one recovers from what was kept."""
        log.error("%s", error.message)
        self._disk_failure = error
        if self._main is not None:
            self._main.cancel()

    def _mend_log(self) -> None:
        """What was committed but not written, or written and lost, is written now."""
        lines = self.audit.catch_up(self.store, self.plan)
        self._note_head()
        if self.audit.lost_from is not None:
            self.ledger.record("audit.restored", lines=lines, after=self.audit.lost_from)

    async def _take_wake_lock(self) -> None:
        if not self._wants_wake_lock:
            return
        taken = await self._wake_lock.take()
        name = "wake_lock.taken" if taken.ok else "wake_lock.refused"
        self.ledger.record(name, reason=taken.reason)

    async def _end_run(self) -> None:
        states = self._experiment_states()
        if not all(state in ENDED for state in states):
            self.ledger.move_run(ProcessState.STOPPING)
            self.ledger.move_run(ProcessState.STOPPED)
            return
        await self._checkpoints.tidy_up()
        counts = {state: states.count(state) for state in ENDED}
        row = self.store.row("SELECT created_wall FROM run WHERE id = ?", self.run_id)
        assert row is not None
        self.ledger.move_run(
            ProcessState.EXITED, "run.finished", passed=counts[ProcessState.EXITED], failed=counts[ProcessState.FATAL],
            skipped=counts[ProcessState.SKIPPED], seconds=max(0.0, round(self.clock.wall_s() - row["created_wall"], 1)),
        )  # fmt: skip
        await self._report()

    async def _report(self) -> None:
        view = queries.run_snapshot(self.store.connection, self.run_id)
        try:
            path = await write_report(view, self.home.run_folder(self.run_id))
        except (SweepError, OSError) as error:
            # The run has ended, and well: a folder for temporary files that is full must not make it a failure.
            self.ledger.record("report.failed", error=str(error))
        else:
            self.ledger.record("report.written", path=str(path))

    def _experiment_states(self) -> list[ProcessState]:
        rows = self.store.rows("SELECT state FROM experiment WHERE run = ?", self.run_id)
        return [ProcessState(row["state"]) for row in rows]

    def _exit_code(self) -> int:
        states = self._experiment_states()
        return run_exit_code(states) if all(state in ENDED for state in states) else 0

    async def _close(self) -> None:
        failpoints.hit("daemon.close")
        await self._wake_lock.release()
        await self._server.close()
        self.audit.close()


def _skip_reason(spec: dict[str, Any]) -> str | None:
    """Why an experiment cannot run on this machine at all, with the figures; None when it can."""
    fit = fits(ExperimentSpec.model_validate(spec), machine_memory_bytes())
    return None if fit.ok else fit.text


async def _serve(home: Home, request: StartRequest, ready: Readiness) -> int:
    store, rebuilt = open_or_rebuild(home, Clock())
    try:
        return await Daemon(home, store, Clock(), request, rebuilt).live(ready)
    finally:
        store.close()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(prog="supervisor.daemon", description=__doc__)
    parser.add_argument("--ready-fd", type=int, default=None)
    arguments = parser.parse_args(argv)
    ready = Readiness(arguments.ready_fd)
    home = find_home()
    try:
        home.refuse_network_disk()
        home.prepare()
        set_up_logging(home)
        request = StartRequest(**json.load(sys.stdin))
        lock = take_lock(home, f"plan {request.plan}" if request.plan else "")
        try:
            return asyncio.run(_serve(home, request, ready))
        finally:
            os.close(lock)
    except SweepError as error:
        log.error("%s", error.render())  # noqa: TRY400 - an error of ours says it all; a trace would bury it
        return status_for_manager(ready.fail(error), launchd=under_launchd())
    except OSError as error:
        log.exception("the operating system refused")
        return ready.fail(SystemRefused.because(error))
