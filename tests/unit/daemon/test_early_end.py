"""Test the early end of a daemon, by a failed disk or a slow stop."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.early_end import CLOSE_WITHIN_S, STOP_WITHIN_S, EarlyEnd
from supervisor.daemon.stop_request import StopRequest
from supervisor.errors import DiskFailed
from tests.unit.daemon.orchestrator_stage import Stage


class ShortClock(Clock):
    """Sleeps for no time, except while the daemon closes."""

    def __init__(self) -> None:
        self.slept: list[float] = []

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        if seconds == CLOSE_WITHIN_S:
            await asyncio.Event().wait()


async def never() -> None:
    await asyncio.Event().wait()


def test_a_failed_disk_ends_the_main_task_with_its_error(tmp_path: Path) -> None:
    early_end = EarlyEnd(Stage(tmp_path).writer, Clock(), StopRequest(), never)
    failure = DiskFailed("the disk is broken")

    async def main() -> None:
        early_end.disk_failed(failure)
        await never()

    with pytest.raises(DiskFailed) as caught:
        asyncio.run(early_end.run(main))
    assert caught.value is failure


def test_a_stop_that_takes_too_long_kills_the_run_and_ends_the_main_task(tmp_path: Path) -> None:
    stage, clock, stop = Stage(tmp_path), ShortClock(), StopRequest()
    killed: list[bool] = []

    async def kill() -> None:
        killed.append(True)

    early_end = EarlyEnd(stage.writer, clock, stop, kill)

    async def life() -> None:
        enforcer = asyncio.create_task(early_end.enforce_stop())
        stop.ask("SIGTERM")
        await early_end.run(never)
        enforcer.cancel()

    asyncio.run(life())
    assert early_end.forced
    assert killed == [True]
    assert clock.slept[0] == STOP_WITHIN_S
    assert stage.facts("stop.forced") == [{"what": "the daemon", "after_s": STOP_WITHIN_S}]


def test_a_main_task_that_ends_by_itself_is_left_alone(tmp_path: Path) -> None:
    early_end = EarlyEnd(Stage(tmp_path).writer, Clock(), StopRequest(), never)

    async def main() -> None:
        """Do no work."""

    asyncio.run(early_end.run(main))
    assert not early_end.forced


def test_a_cancellation_from_outside_is_passed_on(tmp_path: Path) -> None:
    early_end = EarlyEnd(Stage(tmp_path).writer, Clock(), StopRequest(), never)

    async def life() -> None:
        task = asyncio.create_task(early_end.run(never))
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(life())


def test_waiting_for_a_stop_returns_whether_it_was_asked() -> None:
    async def life() -> list[bool]:
        stop = StopRequest()
        before = await stop.within(0.0)
        stop.ask("SIGTERM")
        return [before, await stop.within(None), stop.asked()]

    assert asyncio.run(life()) == [False, True, True]
