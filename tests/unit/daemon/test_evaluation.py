"""The evaluation of an experiment's answer: once, in a process of its own, and not while an operator holds the run."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.experiments import evaluation
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.stop_request import StopRequest
from supervisor.domain.command import Action, Command, Origin
from supervisor.errors import (
    DiskFailed,
    DiskFull,
    EvaluationFailed,
    EvaluationRefused,
    StoreLocked,
    SweepError,
    WorkerFailed,
)
from supervisor.processes.json_worker import JsonWorker
from supervisor.store import answer_queries, queries
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter
from tests.unit.store.evaluation_stage import (
    OPENING,
    RESULT,
    FixedClock,
    add_trials,
    events,
    finalised,
    point,
    run_of,
)
from tests.waits import NET_S


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(tmp_path / "sweep.db", FixedClock())
    yield opened
    opened.close()


def evaluate(writer: EvaluationWriter, folder: Path, stop: bool = False, name: str = "20k-h1") -> bool:
    async def go() -> bool:
        request = StopRequest()
        if stop:
            asyncio.get_running_loop().call_later(0.05, request.ask, "enough")
        return await asyncio.wait_for(Evaluator(writer, {}).evaluate(name, folder, request), 300)

    return asyncio.run(go())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """Return the requests to the evaluation's process, which answers RESULT."""
    seen: list[dict[str, Any]] = []

    async def answer(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
        seen.append(request)
        return RESULT

    monkeypatch.setattr(evaluation, "compute", answer)
    return seen


def test_the_chosen_configuration_is_evaluated_on_all_its_seeds(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store)
    finalised(writer)
    assert evaluate(writer, tmp_path)
    (request,) = asked
    assert [trial["number"] for trial in request["trials"]] == [8, 9]
    assert len({trial["config"]["seed"] for trial in request["trials"]}) == 2
    assert request["trials"][0]["weights"] == str(tmp_path / "8" / "best.pt")
    assert request["trials"][0]["config"]["budget"] == "20k"
    kept = answer_queries.evaluation_of(store.connection, "one", "20k-h1")
    assert kept is not None
    assert kept["chosen"]["from_trial"] == 0
    assert kept["chosen"]["val_losses"] == pytest.approx([0.48, 0.49])
    view = queries.run_snapshot(store.connection, "one")["experiments"][0]
    assert view["evaluation"] == kept
    assert view["finalized"]["trials"] == [8, 9]
    # The daemon starts again: the result stands, and there is no second evaluation.
    assert evaluate(writer, tmp_path)
    assert len(asked) == 1


def test_with_folds_every_seed_of_the_winner_is_tested_on_every_fold(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store, split="folds")
    finalised(writer)
    assert evaluate(writer, tmp_path)
    (request,) = asked
    trials = {trial["number"]: trial["config"] for trial in request["trials"]}
    assert {number: config["fold"] for number, config in trials.items()} == {8: 3, 9: 3, 12: 1, 13: 1, 14: 2, 15: 2}
    assert {trials[number]["seed"] for number in (8, 12, 14)} == {trials[8]["seed"]}
    (opened,) = events(store, "test.opened")
    assert (opened["trials"], opened["folds"]) == ([8, 9, 12, 13, 14, 15], 3)
    kept = answer_queries.evaluation_of(store.connection, "one", "20k-h1")
    assert kept is not None
    assert kept["seeds_left_out"] == 0


def test_a_search_without_a_finalised_configuration_is_not_evaluated(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store)
    add_trials(writer, "20k-h1", dict.fromkeys(range(8)), {n: point(n) for n in range(8)})
    assert evaluate(writer, tmp_path)
    assert asked == []
    assert events(store, "test.opened") == []
    assert "finalised" in events(store, "test.failed")[0]["error"]


@pytest.mark.parametrize(
    ("error", "outside"), [(EvaluationFailed("no disk"), True), (EvaluationRefused("no weights"), False)]
)
def test_a_failed_evaluation_is_recorded_with_the_side_of_its_cause_and_the_search_stands(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: SweepError, outside: bool
) -> None:
    async def fail(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
        raise error

    monkeypatch.setattr(evaluation, "compute", fail)
    writer = run_of(store)
    finalised(writer)
    assert evaluate(writer, tmp_path)
    assert events(store, "test.failed") == [{"error": error.message, "outside": outside}]
    state = answer_queries.test_of(store.connection, "one", "20k-h1")
    assert state is not None
    assert state["failure"] == {"error": error.message, "outside": outside}
    assert not writer.scored("20k-h1")


@pytest.mark.parametrize("error", [StoreLocked, DiskFull, DiskFailed])
def test_a_store_that_cannot_be_written_is_not_a_failed_evaluation(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]], error: type[SweepError]
) -> None:
    """Else the experiment would end without its evaluation because another program held the store for a moment."""
    writer = run_of(store)
    finalised(writer)
    troubles = [error("not now")]

    def look() -> None:
        if troubles:
            raise troubles.pop()

    store.before_each_change(look)
    with pytest.raises(error):
        evaluate(writer, tmp_path)
    assert events(store, "test.failed") == []
    assert evaluate(writer, tmp_path)
    assert writer.scored("20k-h1")


def test_a_stop_ends_the_evaluation_and_the_next_daemon_repeats_it(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ended = []

    async def last_long(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
        try:
            await asyncio.sleep(60)
        finally:
            ended.append(request)
        return RESULT

    monkeypatch.setattr(evaluation, "compute", last_long)
    writer = run_of(store)
    finalised(writer)
    assert not evaluate(writer, tmp_path, stop=True)
    assert len(ended) == 1
    assert not writer.scored("20k-h1")
    assert writer.open_test("20k-h1", OPENING)["openings"] == 2


def test_an_operators_pause_delays_the_evaluation(store: Store, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    writer = run_of(store)
    finalised(writer)
    hold = Command(Action.HOLD, Origin.OPERATOR, "visitors", who="ann")
    RunWriter(store, "one").put_command(hold, "now")
    assert not evaluate(writer, tmp_path, stop=True)
    assert asked == []
    assert events(store, "test.opened") == []


def test_a_users_trainable_is_finalised_and_not_evaluated(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store)
    with store.change("one") as change:
        own = {**writer.spec("20k-h1"), "trainable": "mine:function"}
        change.execute("UPDATE experiment SET spec = ? WHERE run = 'one' AND name = '20k-h1'", json.dumps(own))
    finalised(writer)
    assert evaluate(writer, tmp_path)
    assert asked == []
    assert queries.run_snapshot(store.connection, "one")["experiments"][0]["finalized"]["trials"] == [8, 9]


def test_the_error_of_a_process_that_dies_is_quoted(tmp_path: Path) -> None:
    """The real process gets a malformed request."""
    with pytest.raises(EvaluationFailed, match=r"ended with exit code 1: .*KeyError: 'trials'"):
        asyncio.run(evaluation.compute({"threads": 1}, NET_S, {}))


def test_a_fault_of_what_the_request_names_is_a_refusal(tmp_path: Path) -> None:
    """Refuse by the class of the real process's error: a repeat would meet it again."""
    request = {
        "threads": 1, "folder": str(tmp_path), "device": "cpu", "opening": {},
        "trials": [{"number": 1, "config": {"budget": 1}, "weights": "w"}],
    }  # fmt: skip
    with pytest.raises(EvaluationRefused, match="SettingsError: "):
        asyncio.run(evaluation.compute(request, NET_S, {}))


class Waiting:
    """Stands in for a process that waits for its request."""

    def __init__(self, *, lives: bool = True) -> None:
        self.lives, self.told = lives, list[Any]()

    async def ask(self, request: Any) -> dict[str, Any]:
        self.told.append(request)
        return RESULT

    async def end(self) -> None:
        self.told.append("end")


@pytest.fixture
def started(monkeypatch: pytest.MonkeyPatch) -> list[Waiting]:
    """Return the processes that are started before their turn, which are no real ones."""
    found: list[Waiting] = []

    async def start(_: JsonWorker) -> Waiting:
        found.append(Waiting())
        return found[-1]

    monkeypatch.setattr(JsonWorker, "start", start)
    return found


def evaluate_ahead(writer: EvaluationWriter, folder: Path, between: Callable[[], object]) -> bool:
    async def go() -> bool:
        evaluator = Evaluator(writer, {})
        await evaluator.start_ahead("20k-h1")
        between()
        return await evaluator.evaluate("20k-h1", folder, StopRequest())

    return asyncio.run(go())


def test_the_process_that_waits_gets_the_request_once_the_opening_is_committed(
    store: Store, tmp_path: Path, started: list[Waiting], asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store)
    finalised(writer)

    def nothing_is_opened() -> None:
        assert [waiting.told for waiting in started] == [[]]
        assert events(store, "test.opened") == []

    assert evaluate_ahead(writer, tmp_path, nothing_is_opened)
    (waiting,) = started
    (request,) = waiting.told
    assert request["opening"]["record"] == "test-opened-1.json"
    assert asked == []
    assert answer_queries.evaluation_of(store.connection, "one", "20k-h1") is not None


def test_a_process_that_died_while_it_waited_is_replaced(
    store: Store, tmp_path: Path, started: list[Waiting], asked: list[dict[str, Any]]
) -> None:
    writer = run_of(store)
    finalised(writer)
    assert evaluate_ahead(writer, tmp_path, lambda: setattr(started[0], "lives", False))
    assert started[0].told == ["end"]
    assert len(asked) == 1


def test_an_experiment_without_a_test_starts_no_process_before_its_turn(
    store: Store, started: list[Waiting], monkeypatch: pytest.MonkeyPatch
) -> None:
    writer = run_of(store)
    spec = {**writer.spec("20k-h1"), "finalize": None}
    monkeypatch.setattr(EvaluationWriter, "spec", lambda *_: spec)
    asyncio.run(Evaluator(writer, {}).start_ahead("20k-h1"))
    assert started == []


def test_a_process_that_takes_too_long_is_killed(tmp_path: Path) -> None:
    with pytest.raises(EvaluationFailed, match=r"longer than 0\.01 s"):
        asyncio.run(evaluation.compute({"threads": 1}, 0.01, {}))


def test_the_process_carries_the_mark_by_which_orphans_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Else an orphan of a killed daemon would run beside its own repetition, and write the same file."""
    workers: list[JsonWorker] = []

    async def refuse(worker: JsonWorker, _: object) -> None:
        workers.append(worker)
        raise WorkerFailed("cannot start: not today")

    monkeypatch.setattr(JsonWorker, "ask", refuse)
    with pytest.raises(EvaluationFailed, match="cannot start: not today"):
        asyncio.run(evaluation.compute({"threads": 2}, 60, {"SWEEP_OWNER": "home"}))
    environment = workers[0].environment
    assert (environment["SWEEP_OWNER"], environment["OMP_NUM_THREADS"]) == ("home", "2")
