"""Test which run follows another: the plans of the queue, in order, and none twice after a kill."""

from __future__ import annotations

import asyncio
import contextlib
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.control.handshake import Readiness, StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.daemon import __main__ as process
from supervisor.daemon.run_selection import choose_run
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import NotFound, PlanChanged
from supervisor.home import Home
from supervisor.store.database import Change, Store
from supervisor.store.run_writer import RunWriter


def request(plan: str, fingerprint: str = "f") -> StartRequest:
    spec = {"name": "x", "mode": "min", "max_trials": 1, "concurrency": 1}
    return StartRequest(plan, fingerprint=fingerprint, specs=[spec])


@dataclass
class StandIn:
    """Plays the daemon of a run: it ends in `state` at once."""

    writer: RunWriter
    state: ProcessState

    async def live(self, ready: Readiness) -> int:
        self.writer.move_run(ProcessState.STARTING)
        if self.state is ProcessState.STOPPED:
            self.writer.move_run(ProcessState.STOPPING)
        self.writer.move_run(self.state)
        return 0 if self.state is ProcessState.EXITED else 5


class Stage:
    """A home whose daemons are stand-ins; `ends` says how the run of a plan ends."""

    def __init__(self, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.home = Home(folder)
        for each in (self.home.state, self.home.logs, self.home.runs):
            each.mkdir()
        self.queue, self.ends = PlanQueue(self.home), dict[str, ProcessState]()
        monkeypatch.setattr(process, "assemble", self._assemble)

    def _assemble(self, home: Home, store: Store, clock: Clock, asked: StartRequest, *_: Any, **__: Any) -> StandIn:
        run = choose_run(store, asked, clock)
        plan = str(store.rows("SELECT plan FROM run WHERE id = ?", run)[0]["plan"])
        return StandIn(RunWriter(store, run), self.ends.get(plan, ProcessState.EXITED))

    def add(self, *plans: str) -> None:
        for place, plan in enumerate(plans):
            self.queue.add(request(plan), "ann", 1_700_000_000.0 + place)

    def start(self, asked: StartRequest) -> int:
        return asyncio.run(process.serve(self.home, asked, Readiness(None)))

    def runs(self) -> list[tuple[str, str]]:
        store = Store(self.home.store, Clock())
        try:
            return [(row["plan"], row["state"]) for row in store.rows("SELECT plan, state FROM run ORDER BY rowid")]
        finally:
            store.close()


@pytest.fixture
def stage(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Stage:
    return Stage(tmp_path, monkeypatch)


def test_the_plans_of_the_queue_follow_in_order(stage: Stage) -> None:
    stage.add("b", "c")
    assert stage.start(request("a")) == 0
    assert stage.runs() == [("a", "EXITED"), ("b", "EXITED"), ("c", "EXITED")]
    assert stage.queue.entries() == []


def test_a_run_that_is_stopped_keeps_the_queue_waiting(stage: Stage) -> None:
    stage.ends["a"] = ProcessState.STOPPED
    stage.add("b")
    assert stage.start(request("a")) == 5
    assert stage.runs() == [("a", "STOPPED")]
    assert [entry.plan for entry in stage.queue.entries()] == ["b"]


def test_a_start_without_a_plan_begins_the_queue_when_no_run_is_left(stage: Stage) -> None:
    with pytest.raises(NotFound):
        stage.start(StartRequest(None))
    stage.add("b")
    assert stage.start(StartRequest(None)) == 0
    assert stage.runs() == [("b", "EXITED")]


def test_a_plan_that_cannot_begin_is_passed_over_with_its_reason(stage: Stage) -> None:
    stage.ends["b"] = ProcessState.STOPPED
    stage.start(request("b", "another"))
    stage.add("b", "c")
    stage.start(request("a"))
    assert stage.runs() == [("b", "STOPPED"), ("a", "EXITED"), ("c", "EXITED")]
    (left,) = stage.queue.entries()
    assert left.plan == "b"
    assert "the plan has changed" in (left.error or "")
    with pytest.raises(PlanChanged):
        stage.start(request("b"))


def test_a_kill_before_the_entry_is_dropped_begins_its_plan_once(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    stage.add("b")
    with monkeypatch.context() as patch:
        patch.setattr(PlanQueue, "drop", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
        with pytest.raises(KeyboardInterrupt):
            stage.start(request("a"))
    assert stage.runs() == [("a", "EXITED"), ("b", "STOPPED")]
    assert stage.start(StartRequest(None)) == 0
    assert stage.runs() == [("a", "EXITED"), ("b", "EXITED")]
    assert stage.queue.entries() == []


def test_a_queue_that_cannot_be_read_fails_no_run_that_has_ended(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    (stage.home.state / "queue.json").write_text("[5")
    assert stage.start(request("a")) == 0
    assert stage.runs() == [("a", "EXITED")]
    assert "the queue is left alone" in caplog.text


def test_a_queued_plan_has_advanced_only_with_its_stopped_run_wanted_again(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A kill between the two would drop the plan, and nothing would run it."""
    stage.ends["b"] = ProcessState.STOPPED
    stage.start(request("b"))
    with contextlib.closing(Store(stage.home.store, Clock())) as store:
        RunWriter(store, store.rows("SELECT id FROM run")[0]["id"]).record("run.stopped", who="ann")
    stage.add("b")
    record = Change.record

    def killed(change: Change, name: str, /, **fields: Any) -> Any:
        if name == "run.wanted":
            raise KeyboardInterrupt
        return record(change, name, **fields)

    with monkeypatch.context() as patch:
        patch.setattr(Change, "record", killed)
        with pytest.raises(KeyboardInterrupt):
            stage.start(request("a"))
    assert stage.runs() == [("b", "STOPPED"), ("a", "EXITED")]
    del stage.ends["b"]
    assert stage.start(StartRequest(None)) == 0
    assert stage.runs() == [("b", "EXITED"), ("a", "EXITED")]
