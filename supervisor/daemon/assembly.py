"""Assembles the daemon of a run from its parts."""

from __future__ import annotations

import json
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from supervisor import failpoints
from supervisor.audit.log import AuditLog, open_audit_log
from supervisor.audit.rebuild import Rebuilt
from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.control.server import ControlServer
from supervisor.daemon.daemon import Daemon
from supervisor.daemon.early_end import EarlyEnd, disk_errors_logged
from supervisor.daemon.handlers import Handlers
from supervisor.daemon.live_page import LivePage
from supervisor.daemon.news.dead_man import DeadMan
from supervisor.daemon.news.notifier import Notifier
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.recovery import AuditFeed, Recovery
from supervisor.daemon.run_selection import choose_run
from supervisor.daemon.signals import DaemonSignals
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.background import Task, keep_house, watch_disk, watch_log, watch_time
from supervisor.daemon.upkeep.checkpoint_retention import CheckpointRetention
from supervisor.daemon.upkeep.disk_low import DiskLow
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.daemon.upkeep.estimate import record_estimate
from supervisor.daemon.upkeep.hardware_log import HardwareLog, sampler
from supervisor.daemon.upkeep.schedule_watch import ScheduleWatch, schedule_of
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.daemon.upkeep.stalls import StallWatch
from supervisor.daemon.upkeep.underuse import UnderuseWatch
from supervisor.filesystem import free_bytes
from supervisor.home import Home
from supervisor.plan.drift import PlanSource
from supervisor.plan.expansion import ExperimentSpec
from supervisor.preflight.checkpoint_space import hold_bytes
from supervisor.preflight.estimate import misfit
from supervisor.preflight.hours import trial_seconds
from supervisor.preflight.machine import machine_memory_bytes, usable_cores
from supervisor.preflight.probe import choice_for
from supervisor.preflight.surroundings import look_at_machine
from supervisor.preflight.timing import kept_times
from supervisor.preflight.work_figures import work_figures
from supervisor.processes.driver_process import DriverProcess
from supervisor.processes.environment import ray_environment
from supervisor.processes.ray_head import RayHead
from supervisor.processes.wake_lock import WakeLock
from supervisor.report.process import ReportAhead
from supervisor.store import lookups
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter


def assemble(
    home: Home, store: Store, clock: Clock, request: StartRequest, rebuilt: Rebuilt | None = None,
    service: ServiceNotify | None = None,
) -> Daemon:  # fmt: skip
    """Choose the run that `request` means, and make its daemon, with this process's `service`. Raises SweepError."""
    reserve = DiskReserve(home.state, clock)
    store.before_each_change(reserve.look)
    run_id = choose_run(store, request, clock)
    row = lookups.run(store, run_id)
    plan, run_folder, hardware = str(row["plan"]), home.run_folder(run_id), json.loads(row["hardware"])
    writer = RunWriter(store, run_id)
    _freeze_plan(run_folder, row["plan_text"])
    audit, replaced_log, feed = _audit(home, writer, plan)
    plan_path = None if row["source"] == "built-in" else Path(row["source"])
    source = PlanSource(plan_path, hardware.pop("source_sha256", None))
    wake_lock = WakeLock() if hardware.pop("wake_lock", True) else None
    report, checkpoints = ReportAhead(run_folder), CheckpointRetention(writer, run_folder)
    orchestrator = _orchestrator(home, writer, clock, reserve, plan_path, hardware, report)
    early_end = EarlyEnd(writer, clock, orchestrator.stop, orchestrator.kill)
    schedule = _schedule(writer, clock, orchestrator)
    underuse, page = UnderuseWatch(writer, clock, orchestrator.scene), LivePage(home, writer, clock)
    handlers = Handlers(
        home, writer, clock, plan, orchestrator, reserve, source, rebuilt, underuse, schedule,
        early_end.disk_failed, page,
    )  # fmt: skip
    server = _server(home, writer, clock, handlers)
    notifier, dead_man = _news(home, writer, plan, clock, lambda: handlers.status(trials=False))
    return Daemon(
        writer=writer,
        clock=clock,
        run_folder=run_folder,
        recovery=Recovery(home, writer, clock, feed, rebuilt, replaced_log, request.by_service),
        reserve=reserve,
        orchestrator=orchestrator,
        handlers=handlers,
        server=server,
        page=page,
        page_asked=request.http,
        signals=DaemonSignals(orchestrator.stop, audit, source, writer),
        early_end=early_end,
        background=(
            server.guard,
            *_upkeep(home, writer, clock, reserve, orchestrator, checkpoints),
            lambda: watch_log(audit, plan, writer, clock),
            schedule.run,
            underuse.run,
            *_watches(home, writer, clock, orchestrator),
            notifier.run,
            dead_man.run,
            early_end.enforce_stop,
        ),
        checkpoints=checkpoints,
        report=report,
        notifier=notifier,
        dead_man=dead_man,
        service=service or ServiceNotify(),
        queue=PlanQueue(home),
        wake_lock=wake_lock,
        audit=audit,
    )


def _audit(home: Home, writer: RunWriter, plan: str) -> tuple[AuditLog, Path | None, AuditFeed]:
    """Return the open log, the path of one that it replaced, and the feed that writes each event of the store."""
    audit, replaced_log = open_audit_log(home.audit_log(plan), writer.store)
    feed = AuditFeed(audit, writer, plan)
    writer.store.after_each_change(feed.write)
    return audit, replaced_log, feed


def _schedule(writer: RunWriter, clock: Clock, orchestrator: Orchestrator) -> ScheduleWatch:
    changed, look = orchestrator.commands_changed, look_at_machine(clock)
    return ScheduleWatch(writer, clock, lambda: schedule_of(writer), changed, look)


def _upkeep(
    home: Home,
    writer: RunWriter,
    clock: Clock,
    reserve: DiskReserve,
    orchestrator: Orchestrator,
    checkpoints: CheckpointRetention,
) -> tuple[Callable[[], Coroutine[Any, Any, None]], ...]:
    """Return the loops that look after disk, time and the first estimate."""
    hold, folder = orchestrator.hold_for_disk, str(home.state)
    return (
        lambda: keep_house(home, writer.run_id, clock, checkpoints),
        lambda: watch_disk(reserve, writer, clock, hold, folder),
        lambda: watch_time(writer, clock),
        lambda: record_estimate(writer, lambda specs: work_figures(home, specs, usable_cores())),
    )


def _freeze_plan(run_folder: Path, plan_text: str) -> None:
    """Write the run's copy of its plan, for people to read; the store's copy is the one that counts."""
    failpoints.hit("run.folder")
    run_folder.mkdir(exist_ok=True)
    failpoints.hit("run.plan")
    (run_folder / "plan.yaml").write_text(plan_text)


def _orchestrator(
    home: Home, writer: RunWriter, clock: Clock, reserve: DiskReserve, plan_path: Path | None,
    hardware: dict[str, Any], report: ReportAhead,
) -> Orchestrator:  # fmt: skip
    run_folder = home.run_folder(writer.run_id)
    for not_of_the_watchdog in ("options", "schedule"):
        hardware.pop(not_of_the_watchdog, None)
    plan_folder = None if plan_path is None else plan_path.parent
    environment = ray_environment(home, writer.run_id, plan_folder, hardware.pop("pass_environment", ()))
    cpus = usable_cores()  # as the check of a plan's cores has them
    return Orchestrator(
        home, writer, clock, StopRequest(), reserve,
        new_head=lambda: RayHead(home, environment, cpus, run_folder / "ray.log"),
        new_driver=lambda name: DriverProcess(environment, run_folder / name / "driver.log"),
        skip_reason=skip_reason,
        choose_share=choice_for,
        watchdog={
            "gate": str(home.gate(writer.run_id)),
            "state": str(home.state / "governor"),
            "folders": [str(home.state), str(home.runs), str(home.logs)],
            **hardware,
        },
        trial_seconds=lambda spec: known_trial_seconds(home, spec, cpus),
        report=report,
    )  # fmt: skip


def _server(home: Home, writer: RunWriter, clock: Clock, handlers: Handlers) -> ControlServer:
    def refused(uid: int) -> None:
        with disk_errors_logged():
            writer.record("peer.refused", uid=uid)

    def rebound() -> None:
        with disk_errors_logged():
            writer.record("socket.restored", path=str(home.socket))

    return ControlServer(home, clock, handlers, refused, rebound)


def _news(
    home: Home, writer: RunWriter, plan: str, clock: Clock, view: Callable[[], dict[str, Any]]
) -> tuple[Notifier, DeadMan]:
    notifier = Notifier(writer, plan, home.notify, clock, view)
    return notifier, DeadMan(writer, home.notify, clock)


def _watches(home: Home, writer: RunWriter, clock: Clock, orchestrator: Orchestrator) -> tuple[Task, ...]:
    """Return the tasks that look for a full disk, a stall, and what the hardware shows."""
    disk_low = DiskLow(writer, clock, str(home.runs), lambda: _free(home.runs), lambda: _hold_bytes(writer))
    stalls = StallWatch(writer, clock, lambda: orchestrator.at_work, orchestrator.in_force)
    log = HardwareLog(writer, clock, lambda: orchestrator.nodes, sampler(home))
    return disk_low.run, stalls.run, log.run


def _hold_bytes(writer: RunWriter) -> float:
    """Return hold_bytes by the policy of the run as it is now: a person may have changed it."""
    return hold_bytes(json.loads(lookups.run(writer.store, writer.run_id)["hardware"]).get("policy", {}))


def _free(folder: Path) -> int | None:
    """Return the free bytes of a folder's disk; None if they cannot be read."""
    try:
        return free_bytes(folder)
    except OSError:
        return None


def skip_reason(spec: dict[str, Any]) -> str | None:
    """Return why an experiment cannot run on this machine, with the figures; None when it can."""
    return misfit(ExperimentSpec.model_validate(spec), machine_memory_bytes())


def known_trial_seconds(home: Home, spec: dict[str, Any], cores: int) -> dict[int, float] | None:
    """Return the seconds of a whole trial by the rank of its shape; None where they are unknown."""
    validated = ExperimentSpec.model_validate(spec)
    return trial_seconds(validated, cores, kept_times(home, validated))
