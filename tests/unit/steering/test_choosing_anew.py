"""A person changes a search whose finalisation has begun: the driver begins anew, and the experiment chooses anew."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.experiments import evaluation
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import after_search
from supervisor.domain.scope import ALL_NODES
from supervisor.errors import Conflict
from supervisor.store import lookups, queries
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until
from tests.unit.steering.steering_stage import steering

FINALIZE = {"top": 1, "seeds": 1, "folds": 1}


def finalises(folder: Path, **stories: list[list[list[Any]]]) -> Stage:
    """Stage experiments that search with two trials, and train the best one again."""
    stage = Stage(folder, **stories)
    for name in stories:
        spec = lookups.spec(stage.store, "r", name)
        # In the event, too: there the plan's finalisation stands.
        spec |= {"max_trials": 3, "finalize": FINALIZE, "seed": 1, "enqueue": [], "metric": "loss",
                 "trainable": "own.code:train"}  # fmt: skip
        stage.store.connection.execute("UPDATE experiment SET spec = ? WHERE name = ?", (json.dumps(spec), name))
        stage.store.connection.execute(
            "UPDATE event SET fields = json_set(fields, '$.specs', json(?)) WHERE name = 'run.created'",
            (json.dumps([lookups.spec(stage.store, "r", each) for each in stories]),),
        )
    return stage


def again(number: int, value: float | None = 0.2) -> list[list[Any]]:
    """Tell the story of a trial that trains configuration {"lr": 0.1} again; without a value it only begins."""
    spec = {"max_trials": 3, "finalize": FINALIZE, "mode": "min", "seed": 1}
    row = {"state": "TERMINATED", "end_reason": "finished", "params": {"lr": 0.1}}
    ((_, (source, params)),) = after_search(spec, [{**row, "number": n, "value": 0.5} for n in range(2)]).items()
    story: list[list[Any]] = [
        ["message", "TrialAdded", {"number": number, "params": params, "source": source}],
        ["message", "TrialStarted", {
            "number": number, "attempt": 1, "ray_trial_id": "ray", "node": "node", "worker_pid": 1,
            "resumed_step": None,
        }],
        ["message", "ResultReported", {
            "number": number, "attempt": 1, "step": 1, "value": 0.2, "metrics": {}, "checkpoint": None,
        }],
    ]  # fmt: skip
    ends = {"number": number, "attempt": 1, "end_reason": "finished", "value": value, "error": None}
    return story + ([] if value is None else [["message", "TrialEnded", ends]])


def ends(stage: Stage) -> list[tuple[int, str]]:
    rows = lookups.trials(stage.store, "r", "a")
    return [(row["number"], row["end_reason"]) for row in rows]


def finalised(stage: Stage) -> list[int]:
    view = queries.run_snapshot(stage.store.connection, "r")["experiments"][0]
    found: list[int] = view["finalized"]["trials"]
    return found


async def begun(stage: Stage) -> None:
    await until(lambda: len(stage.facts("trial.reported")) == 3, "the finalisation has begun")


def test_an_extended_search_goes_on_in_the_next_driver_and_chooses_anew(tmp_path: Path) -> None:
    first = [*DONE, *again(2, None), ["finish"]]
    stage = finalises(tmp_path, a=[first, [["trial", 3, 0.1], *again(4)]])

    async def ask(at_work: Orchestrator) -> None:
        await begun(stage)
        assert await steering(stage, at_work).extend(["a"], 1, 0.0, "ann") == {
            "max_trials": {"a": 5}, "set_aside": ["a"]
        }  # fmt: skip

    stage.live(ask)
    assert stage.states() == {"a": "EXITED"}
    assert ends(stage) == [(0, "finished"), (1, "finished"), (2, "set_aside"), (3, "finished"), (4, "finished")]
    assert finalised(stage) == [4]
    assert stage.recorded("driver.exited") == [], "no driver died"


def test_a_discarded_trial_is_chosen_no_more(tmp_path: Path) -> None:
    stage = finalises(tmp_path, a=[[*DONE, *again(2, None), ["finish"]], again(3)])

    async def ask(at_work: Orchestrator) -> None:
        await begun(stage)
        answer = await steering(stage, at_work).discard(["0"], False, "ann")
        assert answer == {"trials": ["a/0"], "set_aside": ["a"]}

    stage.live(ask)
    assert ends(stage) == [(0, "finished"), (1, "finished"), (2, "set_aside"), (3, "finished")]
    view = queries.run_snapshot(stage.store.connection, "r")["experiments"][0]
    assert (view["finalized"]["from_trial"], view["finalized"]["trials"]) == (1, [3])


def test_a_driver_that_ends_as_it_is_asked_is_followed_by_one_that_chooses_anew(tmp_path: Path) -> None:
    """All its trials have ended: it says that the experiment has, too."""
    stage = finalises(tmp_path, a=[[*DONE, *again(2), ["await", "SpecChanged"]], again(3)])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 3, "the finalisation has ended")
        await steering(stage, at_work).discard(["0"], False, "ann")

    stage.live(ask)
    assert stage.states() == {"a": "EXITED"}
    assert finalised(stage) == [3]


def test_what_is_asked_while_the_test_waits_to_be_opened_keeps_it_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """An operator's pause holds the test back; meanwhile a person discards the winner."""
    monkeypatch.setattr(evaluation, "HOLD_POLL_S", 0.05)
    stage = finalises(tmp_path, a=[[*DONE, *again(2)], again(3)])
    spec = lookups.spec(stage.store, "r", "a") | {"trainable": "patchtst"}
    stage.store.connection.execute("UPDATE experiment SET spec = ? WHERE name = 'a'", (json.dumps(spec),))
    hold = Command(Action.HOLD, Origin.OPERATOR, "a look", ALL_NODES, who="bob")
    stage.writer.put_command(hold, "now")

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 3, "the finalisation has ended")
        await until(lambda: at_work.experiment is None, "its driver has ended")
        await steering(stage, at_work).discard(["a/0"], False, "ann")
        stage.writer.drop_command(hold.scope, "bob")
        await until(lambda: len(stage.facts("driver.started")) == 2, "the next driver")
        stage.writer.put_command(hold, "now")
        await until(lambda: len(stage.facts("trial.finished")) == 4, "another finalisation has ended")
        at_work.stop.ask("enough")

    stage.live(ask)
    assert stage.recorded("test.opened", "test.failed") == []
    assert ends(stage)[2:] == [(2, "set_aside"), (3, "finished")]
    assert finalised(stage) == [3]


def test_an_experiment_that_has_ended_runs_again_to_choose_anew(tmp_path: Path) -> None:
    stage = finalises(tmp_path, a=[[*DONE, *again(2)], again(3)], b=[[["await", "Commanded"], *DONE, *again(2)]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        await steering(stage, at_work).discard(["a/0"], False, "ann")
        assert stage.states()["a"] == "STOPPED"
        await at_work.commands_changed()

    stage.live(ask)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert finalised(stage) == [3]


def test_after_the_opening_of_the_test_nothing_is_changed(tmp_path: Path) -> None:
    stage = finalises(tmp_path, a=[[*DONE, *again(2)]], b=[[["await", "Commanded"], *DONE, *again(2)]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        stage.writer.record(
            "test.opened", experiment="a", dataset="d", by="x", reason="r", dataset_sha256="s", split={}, horizon=1,
            trials=[2], folds=1, openings=1, sealed_days=[], earlier_looks=[],
        )  # fmt: skip
        for ask in (
            lambda verbs: verbs.discard(["a/0"], False, "ann"), lambda verbs: verbs.extend(["a"], 1, 0.0, "ann")
        ):  # fmt: skip
            with pytest.raises(Conflict, match="the test of its experiment was opened"):
                await ask(steering(stage, at_work))
        assert stage.facts("finalisation.set_aside") == []
        await at_work.commands_changed()

    stage.live(ask)
