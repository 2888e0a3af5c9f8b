"""Test failures of the daemon itself: a failed task, and a bug at each start."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Iterator
from dataclasses import replace
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon import assembly, early_end, run_end
from supervisor.daemon.upkeep import background
from supervisor.daemon.upkeep.crash_loop import judge_start
from supervisor.home import Home
from supervisor.processes.driver_process import DriverProcess
from supervisor.report.process import ReportAhead
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter
from tests.acceptance.lives import REQUEST, FakeHead, Setting, check_everything, life, living, until_recorded


def a_watch_that_fails_at_first() -> None:
    looks: Iterator[int] = iter(range(1000))

    async def watch(writer: RunWriter, _: Clock) -> None:
        if next(looks) == 0:
            raise PermissionError("no look is allowed")
        writer.record("machine.slept", seconds=7.0)
        await asyncio.Event().wait()

    assembly.watch_time = watch  # type: ignore[assignment]
    background.RETRY_AFTER_S = 0.05  # type: ignore[misc]


def test_a_watch_that_fails_says_so_and_begins_anew(home: Home) -> None:
    assert life(home, change=a_watch_that_fails_at_first, pause_s=0.2) == (0, False)
    events = check_everything(home)
    assert [event["seconds"] for event in events if event["event"] == "machine.slept"] == [7.0]
    said = (home.root / "life.log").read_text()
    assert said.count("a background task failed; it starts again") == 1
    assert "no look is allowed" in said


def nothing_can_be_killed() -> None:
    async def in_vain(_: DriverProcess) -> None:
        await asyncio.Event().wait()

    DriverProcess.kill = in_vain  # type: ignore[method-assign]
    early_end.STOP_WITHIN_S = early_end.KILL_WITHIN_S = early_end.CLOSE_WITHIN_S = 0.3  # type: ignore[misc]


def test_a_stop_comes_to_its_end_though_a_driver_cannot_be_killed(home: Home) -> None:
    """As one that waits in the kernel for a disk that hangs."""
    with living(home, Setting(pause_s=0.3, stubborn=True, change=nothing_can_be_killed)) as it:
        until_recorded(home, "trial.reported")
        it.signal(signal.SIGTERM)
        assert it.ended()[0] == 0
    assert "cannot be ended" in (home.root / "life.log").read_text()
    assert life(home) == (0, False)
    assert [event["what"] for event in check_everything(home) if event["event"] == "stop.forced"] == ["the daemon"]


REPORT = run_end.report
"""Which a life has not."""


def no_place_for_a_report() -> None:
    async def write(*_: Any) -> None:
        raise FileNotFoundError(2, "No usable temporary directory found")

    run_end.report = REPORT
    ReportAhead.write = write  # type: ignore[assignment, method-assign]


def test_a_report_that_finds_no_place_to_begin_makes_no_failure_of_a_run_that_passed(home: Home) -> None:
    assert life(home, change=no_place_for_a_report) == (0, False)
    events = check_everything(home)
    (failed,) = [event["error"] for event in events if event["event"] == "report.failed"]
    assert "No usable temporary directory" in failed


def a_bug_as_ray_starts() -> None:
    class Buggy(FakeHead):
        async def start(self) -> None:
            raise RuntimeError("nobody thought of this")

    assembly.RayHead = Buggy  # type: ignore[misc, assignment]


def test_a_daemon_that_a_bug_ends_at_each_start_is_a_crash_loop(home: Home) -> None:
    request = replace(REQUEST, by_service=True)
    for _ in range(2):
        assert life(home, change=a_bug_as_ray_starts, request=request)[0] not in (0, None)
    store = Store(home.store, Clock())
    try:
        run: Any = store.row("SELECT id, state FROM run")
        assert run["state"] == "FATAL"
        assert judge_start(RunWriter(store, run["id"]), Clock()).starts == 2
        failures = store.rows("SELECT fields FROM event WHERE name = 'run.failed'")
        assert all("RuntimeError: nobody thought of this" in row["fields"] for row in failures)
        assert len(failures) == 2
    finally:
        store.close()
    assert life(home, request=request)[0] == 0, "the bug is mended"
    check_everything(home)
