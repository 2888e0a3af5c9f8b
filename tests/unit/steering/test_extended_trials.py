"""A person extends ended trials: the log has it, the driver begins anew with them, and a failure keeps their end."""

from __future__ import annotations

import asyncio
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit import invariants
from supervisor.audit.evidence import Evidence
from supervisor.clock import Clock
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.domain import messages
from supervisor.domain.early_ends import Named
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict, UsageError
from supervisor.home import Home
from supervisor.report.view import read_view
from supervisor.store import history_queries, lookups, queries
from supervisor.store.database import Store
from supervisor.store.replay import replay
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.schema import SCHEMA
from supervisor.store.steering.extended_trials import Extended, ExtendedTrials, newest_checkpoint
from supervisor.store.trial_writer import TrialWriter
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until
from tests.unit.steering.steering_stage import steering

ENDS = {"pruned": 0.5, "finished": 0.25, "operator": None}


class Ended:
    """A run whose experiment has trials that ended after 4 epochs, as ENDS says; 0 and 1 keep checkpoints."""

    def __init__(self, folder: Path) -> None:
        self.home = Home(folder)
        self.home.state.mkdir()
        self.store = Store(self.home.store, Clock())
        spec = {
            "name": "a", "mode": "min", "metric": "loss", "max_trials": 3, "concurrency": 1, "max_epochs": 4,
            "max_hours": None, "cell": {},
        }  # fmt: skip
        create_run(
            self.store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=[spec],
        )  # fmt: skip
        self.writer, self.trials = RunWriter(self.store, "r"), TrialWriter(self.store, "r")
        for state in (ProcessState.STARTING, ProcessState.RUNNING):
            self.writer.move_experiment("a", state)
        for number, (reason, value) in enumerate(ENDS.items()):
            self.say(messages.TrialAdded(number, {"x": 0.1}, "sampled"))
            self.attempt(number, 1, None, range(1, 5))
            self.end(number, 1, reason, value)

    def say(self, message: Any) -> None:
        assert self.trials.handle("a", message), message

    def file(self, number: int, step: int) -> Path:
        return self.home.run_folder("r") / "a" / str(number) / f"checkpoint-{step}.pt"

    def attempt(self, number: int, attempt: int, begins: int | None, steps: range) -> None:
        self.say(messages.TrialStarted(number, attempt, "ray", "node", 1, begins))
        for step in steps:
            path = self.file(number, step)
            path.parent.mkdir(parents=True, exist_ok=True)
            saved = number < 2 and step % 2 == 1
            if saved:
                path.write_bytes(b"x")
            metrics = {"time_this_iter_s": 1.0}
            said = str(path) if saved else None
            self.say(messages.ResultReported(number, attempt, step, 1.0 / (step + attempt), metrics, said))

    def end(self, number: int, attempt: int, reason: str, value: float | None) -> None:
        error = None if value is not None else "it broke"
        self.say(messages.TrialEnded(number, attempt, reason, value, error))

    def row(self, number: int) -> dict[str, Any]:
        found = lookups.trial(self.store, "r", "a", number)
        assert found is not None
        keys = ("state", "end_reason", "value", "error", "checkpoint_step")
        return {key: found[key] for key in keys}

    def extend(self, *numbers: int, epochs: int = 6, anew: bool = False) -> list[Extended]:
        more = {Named("a", number): epochs for number in numbers}
        return ExtendedTrials(self.store, "r").extend(more, "ann", anew=anew)

    def best(self) -> Any:
        view = queries.run_snapshot(self.store.connection, "r")
        best, reported = view["experiments"][0]["best"], read_view(view, 0.0).experiments[0].best
        assert reported is not None
        assert (reported.number, reported.value) == (best["trial"], best["value"]), "so does the report"
        (run,) = history_queries.history(self.store.connection, 1)
        assert run["experiments"][0]["best"] == best["value"], "history and status say the same"
        return best["trial"], best["value"]

    def check(self) -> None:
        """Check that the events alone give back every row, and that the audit is content with the trials."""
        events = queries.events_of(self.store.connection, "r")
        stored = queries.tables_of(self.store.connection, "r")
        with closing(sqlite3.connect(":memory:")) as memory:
            memory.row_factory = sqlite3.Row
            memory.executescript(SCHEMA)
            for event in events:
                replay(memory, event)
            assert queries.tables_of(memory, "r") == stored
        evidence = Evidence("r", "p", logged=events, committed=events, stored=stored)
        faults = {verdict.name: verdict.faults for verdict in invariants.check(evidence)}
        assert [faults[name] for name in ("results", "attempts", "ends", "causes", "epochs")] == [[]] * 5


@pytest.fixture
def ended(tmp_path: Path) -> Ended:
    return Ended(tmp_path)


def test_a_trial_trains_on_from_its_newest_checkpoint_and_its_better_value_counts(ended: Ended) -> None:
    assert ended.extend(0) == [Extended("a", 0, 3, 10)]
    assert ended.row(0)["state"] == "PENDING"
    ended.check()
    begun = queries.for_begin(ended.store.connection, "r", "a")[0]
    assert (len(begun["results"]), begun["checkpoint"], begun["lost"]) == (4, str(ended.file(0, 3)), [])
    ended.attempt(0, 2, 3, range(4, 11))
    ended.end(0, 2, "finished", 0.1)
    assert ended.row(0) == {
        "state": "TERMINATED", "end_reason": "finished", "value": 0.1, "error": None, "checkpoint_step": 9,
    }  # fmt: skip
    assert ended.best() == (0, 0.1)
    ended.check()


def test_while_it_trains_on_the_best_trial_is_still_the_best(ended: Ended) -> None:
    assert ended.best() == (1, 0.25)
    ended.extend(1)
    assert ended.best() == (1, 0.25)
    ended.attempt(1, 2, 3, range(4, 6))
    assert ended.best() == (1, 0.25)


@pytest.mark.parametrize("reason", ["error", "oom", "hung", "diverged", "operator"])
@pytest.mark.parametrize("number", [0, 1])
def test_a_failure_keeps_the_end_that_the_trial_had_and_is_in_the_log(ended: Ended, number: int, reason: str) -> None:
    before = ended.row(number)
    ended.extend(number)
    ended.attempt(number, 2, 3, range(4, 6))
    ended.end(number, 2, reason, None)
    assert ended.row(number) == {**before, "checkpoint_step": 5}
    failed = [event for event in ended.store.events_after(0) if event.name == "trial.failed"][-1]
    assert (failed.trial, failed.fields["error"]) == (number, "it broke")
    ended.check()
    # What it has trained so far is kept, and a person may ask once more.
    assert ended.extend(number, epochs=1) == [Extended("a", number, 5, 6)]
    ended.check()


def test_the_hours_that_are_over_keep_its_end_too(ended: Ended) -> None:
    before = ended.row(0)
    ended.extend(0)
    ended.writer.end_unfinished_trials("a", "max_hours reached")
    assert ended.row(0) == before
    ended.check()


def test_a_trial_without_a_checkpoint_is_refused_and_trains_anew_where_a_person_says_so(ended: Ended) -> None:
    with pytest.raises(Conflict, match="a/2: no checkpoint of it is left; with --anew it trains from epoch 0 to 10"):
        ended.extend(0, 2)
    assert ended.row(0)["state"] == "TERMINATED", "a request that is refused in a part changes nothing"
    before = ended.row(2)
    assert ended.extend(2, anew=True) == [Extended("a", 2, None, 10)]
    begun = queries.for_begin(ended.store.connection, "r", "a")[2]
    assert (begun["results"], begun["checkpoint"], begun["attempt"]) == ([], None, 1)
    ended.check()
    ended.attempt(2, 2, None, range(1, 3))
    ended.end(2, 2, "oom", None)
    assert ended.row(2) == before
    ended.check()


def test_an_ended_experiment_and_its_run_are_opened_again(ended: Ended) -> None:
    ended.writer.record(
        "experiment.finished", experiment="a", best=0.25, best_trial=1, trials=3, failed=0, seconds=1.0
    )  # fmt: skip
    for state in (ProcessState.STARTING, ProcessState.EXITED):
        ended.writer.move_run(state)
    ended.extend(1)
    assert (ended.writer.run_state(), ended.writer.experiment_state("a")) == ("STOPPED", "STOPPED")
    ended.check()


def test_a_finalisation_that_has_begun_is_set_aside_and_a_test_that_was_opened_forbids_it(ended: Ended) -> None:
    with ended.store.change("r") as change:
        change.record("experiment.search_ended", experiment="a", reason="all", trials=3, top=None, seeds=None)
        change.record("trial.added", experiment="a", trial=3, params={"x": 0.1, "seed": 1}, source="finalize")
    ended.extend(0)
    assert ended.row(3)["end_reason"] == "set_aside"
    assert ended.row(0)["state"] == "PENDING"
    ended.check()


def test_the_newest_checkpoint_is_one_of_an_epoch_that_counts(tmp_path: Path) -> None:
    folder, elsewhere = tmp_path / "0", tmp_path / "checkpoint-2.pt"
    assert newest_checkpoint(folder, None, None, 4) is None
    elsewhere.write_bytes(b"x")
    assert newest_checkpoint(folder, str(elsewhere), 2, 4) == (2, elsewhere)
    folder.mkdir()
    for step in (1, 3, 5):
        (folder / f"checkpoint-{step}.pt").write_bytes(b"x")
    (folder / ".checkpoint-4.pt.9.part").write_bytes(b"x")
    assert newest_checkpoint(folder, str(elsewhere), 2, 4) == (3, folder / "checkpoint-3.pt")
    assert newest_checkpoint(tmp_path / "none", str(tmp_path / "gone"), 2, 4) is None


def test_the_driver_at_work_begins_anew_and_the_next_one_gets_the_trial(tmp_path: Path) -> None:
    again = ["message", "TrialStarted", {
        "number": 0, "attempt": 2, "ray_trial_id": "ray", "node": "node", "worker_pid": 1, "resumed_step": None,
    }]  # fmt: skip
    better = ["message", "TrialEnded", {
        "number": 0, "attempt": 2, "end_reason": "finished", "value": 0.125, "error": None,
    }]  # fmt: skip
    stage = Stage(
        tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["finish"]], [again, better, ["trial", 1, 0.75]]]
    )  # fmt: skip
    stage.store.connection.execute("UPDATE experiment SET spec = json_set(spec, '$.max_epochs', 1)")

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        with pytest.raises(UsageError, match="expected trials for --epochs"):
            await steering(stage, at_work).extend_trials(["a"], 5, True, "ann")
        answer = await steering(stage, at_work).extend_trials(["0"], 5, True, "ann")
        assert answer == {
            "trials": [{"experiment": "a", "trial": 0, "from_step": None, "last_step": 6}], "set_aside": [],
        }  # fmt: skip

    stage.live(ask)
    assert stage.trials("a") == [(0, "TERMINATED", 2, 0.125), (1, "TERMINATED", 2, 0.75)]
    assert stage.recorded("driver.exited") == [], "no driver died"
    assert stage.states() == {"a": "EXITED"}


def test_an_experiment_that_has_ended_runs_again_for_its_trial_and_after_the_run_only_start_helps(
    tmp_path: Path,
) -> None:
    again = ["message", "TrialStarted", {
        "number": 0, "attempt": 2, "ray_trial_id": "ray", "node": "node", "worker_pid": 1, "resumed_step": None,
    }]  # fmt: skip
    ends = ["message", "TrialEnded", {"number": 0, "attempt": 2, "end_reason": "error", "value": None, "error": "x"}]
    stage = Stage(tmp_path, a=[DONE, [again, ends]], b=[[["await", "Commanded"], *DONE]])
    stage.store.connection.execute("UPDATE experiment SET spec = json_set(spec, '$.max_epochs', 1)")

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states() == {"a": "EXITED", "b": "RUNNING"}, "a has ended, b runs")
        await steering(stage, at_work).extend_trials(["a/0"], 5, True, "ann")
        assert stage.states()["a"] == "STOPPED"
        await at_work.commands_changed()

    async def at_the_end() -> None:
        assert stage.now is not None
        with pytest.raises(Conflict, match="ending") as caught:
            await steering(stage, stage.now).extend_trials(["a/0"], 5, True, "ann")
        assert "supervisord start --extend EXPERIMENT/TRIAL=EPOCHS" in str(caught.value.remedy)

    stage.live(ask)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.trials("a")[0] == (0, "TERMINATED", 2, 0.25), "a failure keeps the end that it had"
    asyncio.run(at_the_end())
