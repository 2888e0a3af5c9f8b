"""Run the daemon of benchmarks/overhead: the real one with a real Ray head, and with timers if its scenario asks."""

from __future__ import annotations

import asyncio
import os
import sys
from pathlib import Path
from typing import Any

from benchmarks.overhead.scenario import VARIABLE, Scenario
from benchmarks.overhead.timers import Timers
from benchmarks.ray_stage import experiment
from supervisor.clock import Clock
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.daemon import assembly, run_end
from supervisor.daemon.experiments import what_follows
from supervisor.daemon.recovery import AuditFeed
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.domain import codec
from supervisor.domain.messages import TrialEnded
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.processes.driver_process import DriverProcess
from supervisor.store.database import Store
from supervisor.store.trial_writer import TrialWriter

PLAN = "overhead"
DRIVER_COMMAND = (sys.executable, "-P", "-m", "benchmarks.overhead.driver")
READ, ROWS, COMMIT = "messages: read", "checked and put into rows", "commit of the store, with its sync"
LINE, SYNC, ANSWER = "line of the event log", "sync of the event log", "acknowledgement: made into a line"


def instrument(timers: Timers) -> None:
    """Time the pieces of a message in this process, and mark each trial's end."""
    timers.wrap(codec, "decode", READ)
    timers.wrap(codec, "encode", ANSWER)
    timers.wrap(TrialWriter, "handle", ROWS)
    timers.wrap(Store, "_commit", COMMIT)
    timers.wrap(AuditFeed, "write", LINE)
    timers.wrap(os, "fsync", SYNC)
    timers.mark_after(TrialWriter, "handle", lambda *given: isinstance(given[-1], TrialEnded))


async def _no_report(*_: Any) -> None:
    """Write no report."""


def request(scenario: Scenario) -> StartRequest:
    """Return the request for a run of one experiment."""
    spec = experiment("x", scenario.trainable, max_trials=scenario.trials, concurrency=scenario.concurrency, axes={})
    hardware = {"wake_lock": False, "policy": {}, "pass_environment": ["PYTHONPATH", VARIABLE]}
    return StartRequest(PLAN, fingerprint="f", plan_text=f"name: {PLAN}\n", hardware=hardware, specs=[spec])


def main() -> int:
    scenario, timers, clock = Scenario.from_environment(), Timers(), Clock()
    if scenario.timed:
        instrument(timers)
    if scenario.timed or scenario.profile is not None:
        assembly.DriverProcess = lambda environment, log: DriverProcess(  # type: ignore[misc, assignment]
            environment, log, command=DRIVER_COMMAND
        )
    assembly.skip_reason = lambda _: None
    run_end.report = _no_report
    # Nothing is started early: it would take the time of the last trials.
    what_follows.ROOM_BYTES = 2**62
    home = Home(Path(scenario.home))
    home.prepare()
    set_up_logging(home)
    lock = take_lock(home)
    try:
        store = Store(home.store, clock)
        return asyncio.run(assembly.assemble(home, store, clock, request(scenario)).live(Readiness(None)))
    finally:
        scenario.write_marked("daemon", timers)
        os.close(lock)
