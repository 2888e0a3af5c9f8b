"""Run the daemon of benchmarks/soak.py: the real one, on a clock that its driver's heartbeats move."""

from __future__ import annotations

import asyncio
import heapq
import itertools
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from benchmarks.stages.soak_driver import SCENARIO_VARIABLE, TICK_S, Scenario
from supervisor.clock import Clock
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.daemon import assembly, run_end
from supervisor.daemon.daemon import Daemon
from supervisor.daemon.upkeep.debug_log import set_up_logging
from supervisor.domain import messages as link
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.processes.driver_process import DriverProcess
from supervisor.report.process import ReportAhead
from supervisor.store.database import Store

POOL_THREADS = 6
"""As asyncio takes on two cores."""


class ScenarioClock(Clock):
    """A clock that moves by `advance` only, which also wakes sleepers."""

    def __init__(self) -> None:
        self.passed_s = 0.0
        self._turn = itertools.count()
        self._sleepers: list[tuple[float, int, asyncio.Future[None]]] = []

    def wall_s(self) -> float:
        return 1.7e9 + self.passed_s

    def mono_s(self) -> float:
        return 1000.0 + self.passed_s

    def boot_s(self) -> float | None:
        return self.mono_s()

    async def sleep(self, seconds: float) -> None:
        wakes: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        heapq.heappush(self._sleepers, (self.passed_s + seconds, next(self._turn), wakes))
        await wakes

    def advance(self, seconds: float) -> None:
        self.passed_s += seconds
        while self._sleepers and self._sleepers[0][0] <= self.passed_s:
            wakes = heapq.heappop(self._sleepers)[2]
            if not wakes.done():
                wakes.set_result(None)


class NoHead:
    """Takes the place of a Ray head."""

    def __init__(self, *_: Any) -> None:
        self.address, self.dashboard, self.pid, self.port_taken = "127.0.0.1:1", "http://127.0.0.1:2", 1, None

    async def start(self) -> None:
        """Do nothing: there is no head."""

    async def exited(self) -> int:
        await asyncio.Event().wait()
        return 0

    async def stop(self) -> None:
        """Do nothing: there is no head."""


class ScenarioDriver(DriverProcess):
    """A real process on real pipes; each of its heartbeats is a tick of the clock."""

    clock: ScenarioClock

    async def messages(self) -> AsyncIterator[tuple[link.Message, int | None]]:
        async for message, number in super().messages():
            if isinstance(message, link.Heartbeat):
                self.clock.advance(TICK_S)
                # Let woken tasks run before the next message, as on a real day.
                await asyncio.sleep(0)
            yield message, number


DRIVER_COMMAND = (sys.executable, "-c", "from benchmarks.stages.soak_driver import main; main()")


async def _no_report(*_: Any) -> None:
    """Write no report."""


class NoReportAhead(ReportAhead):
    """Takes the place of the report's process that waits for the end of the run."""

    async def start(self, view: dict[str, Any]) -> None:
        """Start nothing: there is no report."""


async def _live(daemon: Daemon) -> int:
    """Live as the daemon, with all threads of asyncio's pool from the start: one that comes later is no leak."""
    pool, all_wait = ThreadPoolExecutor(POOL_THREADS), threading.Barrier(POOL_THREADS + 1)
    for _ in range(POOL_THREADS):
        pool.submit(all_wait.wait)
    all_wait.wait()
    asyncio.get_running_loop().set_default_executor(pool)
    return await daemon.live(Readiness(None))


def main() -> int:
    scenario = Scenario(**json.loads(os.environ[SCENARIO_VARIABLE]))
    home, clock = Home(Path(scenario.home)), ScenarioClock()
    ScenarioDriver.clock = clock
    assembly.RayHead = NoHead  # type: ignore[misc, assignment]
    assembly.DriverProcess = lambda _, log: ScenarioDriver(  # type: ignore[misc, assignment]
        dict(os.environ), log, 120.0, DRIVER_COMMAND
    )
    assembly.skip_reason = lambda _: None
    assembly.ReportAhead = NoReportAhead  # type: ignore[misc]
    run_end.report = _no_report
    specs = [
        {"name": f"x{place}", "mode": "min", "max_trials": scenario.trials, "concurrency": 4, "max_hours": None,
         "enqueue": []}
        for place in range(scenario.experiments)
    ]  # fmt: skip
    request = StartRequest(
        "soak", fingerprint="f", plan_text="name: soak\n", hardware={"wake_lock": False}, specs=specs
    )
    home.prepare()
    set_up_logging(home)
    lock = take_lock(home)
    try:
        store = Store(home.store, clock)
        return asyncio.run(_live(assembly.assemble(home, store, clock, request)))
    finally:
        os.close(lock)
