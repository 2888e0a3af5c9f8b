"""A driver that was started before its turn: the one at work is that very process, or it leaves no trace."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path

import psutil
import pytest

from supervisor.daemon.experiments.driver_ahead import DriverAhead
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.domain.messages import Prepare
from supervisor.errors import RayStartFailed
from supervisor.processes.driver_process import DriverProcess
from tests.unit.daemon.orchestrator_stage import DONE, FakeHead, Stage, first_spawn_fails
from tests.waits import until_ended


@pytest.fixture
def told(monkeypatch: pytest.MonkeyPatch) -> list[str | int]:
    """Return the pid of each driver that starts, and "Ray" where Ray does, in order."""
    found: list[str | int] = []
    spawn, start = DriverProcess.spawn, FakeHead.start

    async def spawn_and_tell(self: DriverProcess) -> None:
        await spawn(self)
        found.append(self.pid)

    async def start_and_tell(self: FakeHead) -> None:
        found.append("Ray")
        await start(self)

    monkeypatch.setattr(DriverProcess, "spawn", spawn_and_tell)
    monkeypatch.setattr(FakeHead, "start", start_and_tell)
    return found


def drivers(told: list[str | int]) -> list[int]:
    return [each for each in told if isinstance(each, int)]


def test_the_first_driver_is_started_before_ray_and_does_the_work(tmp_path: Path, told: list[str | int]) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    stage.live(begin=True)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert [each == "Ray" for each in told] == [False, True, False]
    assert drivers(told) == [fact["pid"] for fact in stage.facts("driver.started")]


def test_one_that_dies_before_its_turn_is_replaced_and_blamed_for_nothing(
    tmp_path: Path, told: list[str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = Stage(tmp_path, a=[DONE])
    take = DriverAhead.take

    async def take_a_dead_one(self: DriverAhead, experiment: str, address: str | None) -> DriverProcess | None:
        if self.experiment is not None:
            os.killpg(drivers(told)[0], signal.SIGKILL)
            assert self._kept is not None
            await self._kept[1].exited()
        return await take(self, experiment, address)

    monkeypatch.setattr(DriverAhead, "take", take_a_dead_one)
    stage.live(begin=True)
    assert stage.states() == {"a": "EXITED"}
    assert len(drivers(told)) == 2
    assert [fact["pid"] for fact in stage.facts("driver.started")] == drivers(told)[1:]
    assert stage.facts("driver.exited") == []


def test_one_whose_experiment_does_not_come_is_killed(tmp_path: Path, told: list[str | int]) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    stage.too_large = {"a"}
    stage.live(begin=True)
    assert stage.states() == {"a": "SKIPPED", "b": "EXITED"}
    waited, worked = drivers(told)
    assert not psutil.pid_exists(waited)
    assert [fact["pid"] for fact in stage.facts("driver.started")] == [worked]


def test_one_that_cannot_be_started_costs_only_its_head_start(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stage = Stage(tmp_path, a=[DONE])
    failures = first_spawn_fails(monkeypatch)
    stage.live(begin=True)
    assert stage.states() == {"a": "EXITED"}
    assert failures == stage.facts("driver.exited") == []


def test_no_driver_outlives_a_ray_that_does_not_start(
    tmp_path: Path, told: list[str | int], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(FakeHead, "broken", True)
    with pytest.raises(RayStartFailed):
        Stage(tmp_path, a=[DONE]).live(begin=True)
    (waited,) = drivers(told)
    assert not psutil.pid_exists(waited)


def test_no_driver_outlives_a_stop_before_its_turn(tmp_path: Path, told: list[str | int]) -> None:
    stage = Stage(tmp_path, a=[DONE])
    stage.live(stop="enough", begin=True)
    (waited,) = drivers(told)
    assert not psutil.pid_exists(waited)
    assert stage.facts("driver.started") == []


def test_a_forced_end_kills_it_too(tmp_path: Path, told: list[str | int]) -> None:
    async def kill(orchestrator: Orchestrator) -> None:
        orchestrator.stop.ask("enough")
        await orchestrator.kill()

    stage = Stage(tmp_path, a=[[["sleep"]]])
    stage.live(kill, begin=True)
    for pid in drivers(told):
        until_ended(pid)


def test_a_second_start_for_the_same_experiment_starts_nothing(tmp_path: Path, told: list[str | int]) -> None:
    stage = Stage(tmp_path, a=[DONE])

    async def story() -> None:
        ahead = DriverAhead(stage._new_driver)
        await ahead.start("a", tmp_path / "a")
        await ahead.start("a", tmp_path / "a")
        assert ahead.experiment == "a"
        assert len(drivers(told)) == 1
        await ahead.end()
        assert await ahead.take("a", None) is None
        assert ahead.experiment is None

    (tmp_path / "runs" / "r" / "a").mkdir(parents=True)
    asyncio.run(story())


def joining(address: str) -> Prepare:
    """Return what makes the driver of an experiment join the Ray at that address."""
    return Prepare(address, {"name": "a"}, 1)


@pytest.mark.parametrize(("address", "taken"), [("here:1", True), ("elsewhere:2", False), (None, False)])
def test_one_that_joined_a_ray_works_only_for_that_one(
    tmp_path: Path, told: list[str | int], address: str | None, *, taken: bool
) -> None:
    stage = Stage(tmp_path, a=[DONE])

    async def story() -> None:
        ahead = DriverAhead(stage._new_driver)
        await ahead.start("a", stage.home.run_folder("r") / "a", joining("here:1"))
        driver = await ahead.take("a", address)
        assert (driver is not None) is taken
        assert ahead.experiment is None
        if driver is not None:
            await driver.kill()

    asyncio.run(story())
    (waited,) = drivers(told)
    assert not psutil.pid_exists(waited)


@pytest.mark.parametrize("joins", [True, False])
def test_the_end_of_ray_ends_one_that_has_joined_it(tmp_path: Path, told: list[str | int], *, joins: bool) -> None:
    stage = Stage(tmp_path, a=[DONE])

    async def story() -> None:
        ahead = DriverAhead(stage._new_driver)
        prepare = joining("here:1") if joins else None
        await ahead.start("a", stage.home.run_folder("r") / "a", prepare)
        await ahead.ray_ended()
        assert ahead.experiment == (None if joins else "a")
        await ahead.end()

    asyncio.run(story())
    (waited,) = drivers(told)
    assert not psutil.pid_exists(waited)
