"""What the store says of an answer: a test is opened once, a warm start is frozen once; and who has it examined."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.daemon.experiments import evaluation
from supervisor.daemon.experiments.evaluation import Evaluator
from supervisor.daemon.stop_request import StopRequest
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import finalists
from supervisor.errors import EvaluationFailed, TestRefused, WorkerFailed
from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan
from supervisor.processes.json_worker import JsonWorker
from supervisor.store import queries
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter, create_run

SHA = "ab" * 32
INTERVAL = {"value": 0.6, "low": 0.5, "high": 0.7}
RESULT = {
    "param_count": 20_000,
    "dates": {"train": ["a", "b"], "val": ["c", "d"], "test": ["e", "f"]},
    "windows": {"train": 3, "val": 2, "test": 1},
    "models": {name: {"test": {"bce": INTERVAL}} for name in ("patchtst", "prior")},
    "predictions": {"file": "predictions.json", "sha256": "cd" * 32},
}
OPENING = {
    "by": "a test", "reason": "its turn", "dataset": "x.parquet", "dataset_sha256": SHA, "split": {}, "horizon": 1,
    "trials": [8, 9],
}  # fmt: skip


class FixedClock(Clock):
    def wall_s(self) -> float:
        return 1_700_000_000.0


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(tmp_path / "sweep.db", FixedClock())
    yield opened
    opened.close()


def run_of(store: Store, run_id: str = "one") -> EvaluationWriter:
    plan = load_plan("phase6a-mini", ["matrix.horizon=[1]"]).plan
    specs = [spec.model_dump(mode="json") for spec in expand(plan, 25, "/data/x.parquet")]
    create_run(
        store, run_id, plan="mini", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    return EvaluationWriter(store, run_id)


def add_trials(ledger: EvaluationWriter, name: str, values: dict[int, float | None], params: dict[int, Any]) -> None:
    record = json.dumps({"num_features": 25, "dataset_sha256": SHA, "device": {"chosen": "cpu"}})
    with ledger.store.change(ledger.run_id) as change:
        for number, value in values.items():
            change.execute(
                "INSERT INTO trial (run, experiment, number, state, params, source, attempt, end_reason, value, record,"
                " added_wall) VALUES (?, ?, ?, ?, ?, 'sampled', 1, ?, ?, ?, 0)",
                ledger.run_id, name, number, "ERROR" if value is None else "TERMINATED", json.dumps(params[number]),
                "error" if value is None else "finished", value, record,
            )  # fmt: skip


def point(number: int) -> dict[str, Any]:
    return {
        "shape_rank": number % 9, "heads_log2": 1, "learning_rate": 1e-3 + number * 1e-5, "weight_decay": 0.02,
        "dropout": 0.2, "batch_size": 64, "warmup_fraction": 0.05,
    }  # fmt: skip


def finalised(ledger: EvaluationWriter, name: str = "20k-h1") -> None:
    """All trials of an experiment ended, those of its finalisation too."""
    add_trials(ledger, name, {n: 0.5 + n / 100 for n in range(8)}, {n: point(n) for n in range(8)})
    of = {n: p for found in finalists(ledger.spec(name), ledger.trials(name)) for n, p in found.trials().items()}
    add_trials(ledger, name, {n: 0.4 + n / 100 for n in of}, of)


def events(store: Store, name: str) -> list[dict[str, Any]]:
    return [event.fields for event in store.events_after(0) if event.name == name]


def test_an_opening_is_written_before_the_look_and_the_result_after(store: Store) -> None:
    ledger = run_of(store)
    opened = ledger.open_test("20k-h1", OPENING)
    assert opened == {**OPENING, "openings": 1, "earlier_runs": [], "at": "2023-11-14T22:13:20+00:00"}
    assert queries.evaluation_of(store.connection, "one", "20k-h1") is None
    ledger.keep_result("20k-h1", RESULT)
    assert queries.evaluation_of(store.connection, "one", "20k-h1") == {**RESULT, "opening": opened}
    (said,) = events(store, "test.opened")
    assert (said["by"], said["dataset_sha256"], said["trials"]) == ("a test", SHA, [8, 9])
    (scored,) = events(store, "test.scored")
    assert (scored["bce"], scored["last_day"]) == (0.6, "f")
    assert scored["result"] == RESULT, "the log alone must be able to give the result back"


def test_a_second_opening_of_the_same_experiment_is_refused_and_told(store: Store) -> None:
    ledger = run_of(store)
    ledger.open_test("20k-h1", OPENING)
    ledger.keep_result("20k-h1", RESULT)
    before = queries.evaluation_of(store.connection, "one", "20k-h1")
    with pytest.raises(TestRefused, match="tested before"):
        ledger.open_test("20k-h1", OPENING)
    (said,) = events(store, "test.refused")
    assert said["openings"] == 1
    assert queries.evaluation_of(store.connection, "one", "20k-h1") == before
    assert len(events(store, "test.opened")) == 1


def test_an_opening_that_died_without_a_result_is_repeated_and_counted_at_most_three_times(store: Store) -> None:
    ledger = run_of(store)
    assert [ledger.open_test("20k-h1", OPENING)["openings"] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(TestRefused, match="opened 3 times and each time ended without a result"):
        ledger.open_test("20k-h1", OPENING)


def test_a_run_that_looks_at_days_that_another_run_has_seen_says_so(store: Store) -> None:
    first, second = run_of(store, "one"), run_of(store, "two")
    first.open_test("20k-h1", OPENING)
    assert second.open_test("20k-h1", OPENING)["earlier_runs"] == ["one"]
    assert second.open_test("60k-h1", {**OPENING, "dataset_sha256": "other"})["earlier_runs"] == []


def test_a_result_that_stands_is_not_written_over(store: Store) -> None:
    ledger = run_of(store)
    ledger.open_test("20k-h1", OPENING)
    ledger.keep_result("20k-h1", RESULT)
    with pytest.raises(TestRefused, match="found a result"):
        ledger.keep_result("20k-h1", {**RESULT, "param_count": 1})
    assert len(events(store, "test.scored")) == 1
    kept = queries.evaluation_of(store.connection, "one", "20k-h1")
    assert kept is not None
    assert kept["param_count"] == 20_000


# --- the examiner -------------------------------------------------------------------------------------------------


def examine(ledger: EvaluationWriter, folder: Path, stop: bool = False, name: str = "20k-h1") -> bool:
    async def go() -> bool:
        request = StopRequest()
        if stop:
            asyncio.get_running_loop().call_later(0.05, request.ask, "enough")
        return await asyncio.wait_for(Evaluator(ledger, {}).evaluate(name, folder, request), 20)

    return asyncio.run(go())


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[dict[str, Any]]:
    """The requests that reached the process of the test, which answers RESULT."""
    seen: list[dict[str, Any]] = []

    async def answer(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
        seen.append(request)
        return RESULT

    monkeypatch.setattr(evaluation, "compute", answer)
    return seen


def test_the_chosen_configuration_is_tested_on_all_its_seeds(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    ledger = run_of(store)
    finalised(ledger)
    assert examine(ledger, tmp_path)
    (request,) = asked
    assert [trial["number"] for trial in request["trials"]] == [8, 9]
    assert len({trial["config"]["seed"] for trial in request["trials"]}) == 2
    assert request["trials"][0]["weights"] == str(tmp_path / "8" / "best.pt")
    assert request["trials"][0]["config"]["budget"] == "20k"
    kept = queries.evaluation_of(store.connection, "one", "20k-h1")
    assert kept is not None
    assert kept["chosen"]["from_trial"] == 0
    assert kept["chosen"]["val_losses"] == pytest.approx([0.48, 0.49])
    view = queries.run_snapshot(store.connection, "one")["experiments"][0]
    assert view["evaluation"] == kept
    assert view["finalized"]["trials"] == [8, 9]
    # The daemon starts again: the result stands, and nobody looks a second time.
    assert examine(ledger, tmp_path)
    assert len(asked) == 1


def test_a_search_that_nothing_came_of_is_not_tested_and_says_so(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    ledger = run_of(store)
    add_trials(ledger, "20k-h1", dict.fromkeys(range(8)), {n: point(n) for n in range(8)})
    assert examine(ledger, tmp_path)
    assert asked == []
    assert events(store, "test.opened") == []
    assert "finalised" in events(store, "test.failed")[0]["error"]


def test_a_test_that_fails_is_told_and_leaves_the_search_standing(
    store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def fail(request: dict[str, Any], deadline_s: float, mark: dict[str, str]) -> dict[str, Any]:
        raise EvaluationFailed("no disk")

    monkeypatch.setattr(evaluation, "compute", fail)
    ledger = run_of(store)
    finalised(ledger)
    assert examine(ledger, tmp_path)
    assert events(store, "test.failed") == [{"error": "no disk"}]
    assert not ledger.scored("20k-h1")


def test_a_stop_ends_the_test_and_the_next_daemon_repeats_it(
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
    ledger = run_of(store)
    finalised(ledger)
    assert not examine(ledger, tmp_path, stop=True)
    assert len(ended) == 1
    assert not ledger.scored("20k-h1")
    assert ledger.open_test("20k-h1", OPENING)["openings"] == 2


def test_an_operators_pause_holds_the_test_back(store: Store, tmp_path: Path, asked: list[dict[str, Any]]) -> None:
    ledger = run_of(store)
    finalised(ledger)
    hold = Command(Action.HOLD, Origin.OPERATOR, "visitors", who="ann")
    RunWriter(store, "one").put_command(hold, "now")
    assert not examine(ledger, tmp_path, stop=True)
    assert asked == []
    assert events(store, "test.opened") == []


def test_a_user_trainable_is_finalised_but_has_no_test(
    store: Store, tmp_path: Path, asked: list[dict[str, Any]]
) -> None:
    ledger = run_of(store)
    with store.change("one") as change:
        own = {**ledger.spec("20k-h1"), "trainable": "mine:function"}
        change.execute("UPDATE experiment SET spec = ? WHERE run = 'one' AND name = '20k-h1'", json.dumps(own))
    finalised(ledger)
    assert examine(ledger, tmp_path)
    assert asked == []
    assert queries.run_snapshot(store.connection, "one")["experiments"][0]["finalized"]["trials"] == [8, 9]


def test_a_process_that_dies_is_quoted(tmp_path: Path) -> None:
    """The real process, asked nonsense."""
    with pytest.raises(EvaluationFailed, match=r"ended with exit code 1: .*KeyError: 'trials'"):
        asyncio.run(evaluation.compute({"threads": 1}, 60, {}))


def test_a_process_that_takes_too_long_is_ended(tmp_path: Path) -> None:
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
