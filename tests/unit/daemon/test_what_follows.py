"""Start what follows an experiment while its last trials run, where there is room and nothing holds work back."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import psutil
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.daemon.experiments.driver_ahead import DriverAhead
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.experiments.what_follows import ROOM_BYTES, WORKER_BYTES, WhatFollows, workers_ahead
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import FinishAsked, Prepare
from supervisor.processes.driver_process import DriverProcess
from supervisor.report.process import ReportAhead
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until

LAST: list[list[Any]] = [["trial", 0, 0.25], ["result", 1, 1]]
"""The last trial has reported, and does not end by itself."""
RUN = Command(Action.RUN, Origin.OPERATOR, "")
PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "lunch")


@pytest.fixture(autouse=True)
def room(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Give the machine so much free memory; enough, unless a test calls it."""

    def give(free: int) -> None:
        monkeypatch.setattr("supervisor.daemon.orchestrator.available_memory_bytes", lambda: free)

    give(ROOM_BYTES)
    return give


@pytest.fixture
def spawned(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    pids: list[int] = []
    spawn = DriverProcess.spawn

    async def spawn_and_note(self: DriverProcess) -> None:
        await spawn(self)
        pids.append(self.pid)

    monkeypatch.setattr(DriverProcess, "spawn", spawn_and_note)
    return pids


def ahead_of(orchestrator: Orchestrator) -> DriverAhead:
    return orchestrator._ahead


def test_the_next_driver_waits_while_the_last_trial_runs_and_then_does_the_work(
    tmp_path: Path, spawned: list[int]
) -> None:
    stage = Stage(tmp_path, a=[[*LAST, ["await", "FinishAsked"]]], b=[DONE])

    async def go_on(orchestrator: Orchestrator) -> None:
        await until(lambda: ahead_of(orchestrator).experiment == "b" and len(spawned) == 2, "the next driver waits")
        assert orchestrator.experiment == "a"
        assert [fact["pid"] for fact in stage.facts("driver.started")] == spawned[:1], "one driver an experiment"
        await orchestrator._drivers.send(FinishAsked())

    stage.live(go_on)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert [fact["pid"] for fact in stage.facts("driver.started")] == spawned
    assert len(spawned) == 2


def test_a_pause_ends_the_driver_that_waits(tmp_path: Path, spawned: list[int]) -> None:
    stage = Stage(tmp_path, a=[[*LAST, ["finish"]]], b=[DONE])

    async def pause(orchestrator: Orchestrator) -> None:
        await until(lambda: len(spawned) == 2, "the next driver waits")
        stage.writer.put_command(PAUSE, "ann")
        await orchestrator.commands_changed()
        await until(lambda: not psutil.pid_exists(spawned[1]), "it has ended")
        assert ahead_of(orchestrator).experiment is None
        orchestrator.stop.ask("enough")

    stage.live(pause)
    assert psutil.pid_exists(spawned[0]) is False


def test_before_the_last_trial_nothing_waits(tmp_path: Path, spawned: list[int]) -> None:
    stage = Stage(tmp_path, a=[[["result", 0, 1], ["finish"]]], b=[DONE])

    async def stop(orchestrator: Orchestrator) -> None:
        await until(lambda: stage.recorded("trial.reported") != [], "the first trial reports")
        await asyncio.gather(*orchestrator._follows._changes)
        orchestrator.stop.ask("enough")

    stage.live(stop)
    assert len(spawned) == 1
    assert stage.report.asked == []


def test_without_room_nothing_waits(tmp_path: Path, spawned: list[int], room: Callable[[int], None]) -> None:
    room(ROOM_BYTES - 1)
    stage = Stage(tmp_path, a=[[*LAST, ["finish"]]], b=[DONE])

    async def stop(orchestrator: Orchestrator) -> None:
        await until(lambda: len(stage.recorded("trial.reported")) == 2, "the last trial reports")
        await asyncio.gather(*orchestrator._follows._changes)
        orchestrator.stop.ask("enough")

    stage.live(stop)
    assert len(spawned) == 1


def test_after_the_last_experiment_the_report_follows(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    stage.live()
    assert stage.report.asked == ["start with 2"]


class Noted:
    """Stands in for the three processes that may wait."""

    def __init__(self, fails: bool = False, address: str | None = None) -> None:
        self.calls: list[str] = []
        self.told: list[object] = []
        self.address, self._fails = address, fails

    async def start(self, what: Any, *rest: object) -> None:
        self.calls.append("report" if isinstance(what, dict) else f"driver of {what}")
        self.told += rest[1:]
        if self._fails:
            raise OSError(28, "No space left on device")

    async def end(self) -> None:
        self.calls.append("end")

    async def start_ahead(self, name: str) -> None:
        self.calls.append(f"test of {name}")

    async def end_ahead(self) -> None:
        self.calls.append("end")


def follows(stage: Stage, noted: Noted) -> WhatFollows:
    return WhatFollows(
        stage.writer, cast(DriverAhead, noted), cast(Evaluator, noted), cast(ReportAhead, noted),
        lambda: ["a", "b"], stage.home.root, lambda: ROOM_BYTES, lambda: noted.address,
    )  # fmt: skip


class LastTrials:
    """Stands in for the state of an experiment whose last trials run."""

    in_last_trials = True

    def __init__(self, name: str) -> None:
        self.name = name


def look(*looks: tuple[str, Command], stage: Stage, noted: Noted) -> list[str]:
    async def story() -> list[str]:
        watched = follows(stage, noted)
        for name, command in looks:
            watched.look(cast(ExperimentState, LastTrials(name)), command)
            await asyncio.gather(*watched._changes)
        return noted.calls

    return asyncio.run(story())


def test_each_process_is_started_once_and_again_after_a_pause(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    told = look(("a", RUN), ("a", RUN), ("a", PAUSE), ("a", PAUSE), ("a", RUN), stage=stage, noted=Noted())
    once = ["test of a", "driver of b"]
    assert told == [*once, "end", "end", "end", *once]


def test_a_full_disk_costs_only_the_head_start(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    assert look(("a", RUN), ("a", RUN), stage=stage, noted=Noted(fails=True)) == ["test of a", "driver of b"]


def test_the_next_driver_is_told_to_join_the_ray_that_is_up_by_the_plan_of_that_moment(tmp_path: Path) -> None:
    stage, noted = Stage(tmp_path, a=[DONE], b=[DONE]), Noted(address="127.0.0.1:6")
    look(("a", RUN), stage=stage, noted=noted)
    (prepare,) = noted.told
    assert isinstance(prepare, Prepare)
    assert (prepare.ray_address, prepare.experiment["name"], prepare.workers) == ("127.0.0.1:6", "b", 0)


def test_without_ray_it_only_imports(tmp_path: Path) -> None:
    noted = Noted()
    look(("a", RUN), stage=Stage(tmp_path, a=[DONE], b=[DONE]), noted=noted)
    assert noted.told == [None]


@given(st.integers(1, 64), st.integers(0, 2**40))
def test_no_more_workers_wait_than_trials_begin_at_once_or_memory_has_room_for(concurrency: int, free: int) -> None:
    workers = workers_ahead(concurrency, free)
    assert 0 <= workers <= concurrency
    assert workers == 0 or ROOM_BYTES + workers * WORKER_BYTES <= free
    assert workers == concurrency or ROOM_BYTES + (workers + 1) * WORKER_BYTES > free
