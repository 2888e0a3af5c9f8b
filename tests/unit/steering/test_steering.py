"""A person ends trials and leaves experiments out while the daemon is at work, and what was asked survives it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.run_selection import try_again
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import known_to_the_search
from supervisor.errors import Conflict, NotFound
from supervisor.store import lookups, queries
from supervisor.store.steering.retry_writer import RetryWriter
from tests.unit.daemon.orchestrator_stage import DONE, Stage, governors, until
from tests.unit.steering.steering_stage import steering

ENDED_EARLY: list[Any] = ["message", "TrialEnded", {
    "number": 1, "attempt": 1, "end_reason": "early_stopped", "value": 0.5, "error": None,
}]  # fmt: skip


def test_a_running_trial_is_ended_by_its_driver_and_a_hold_on_it_is_lifted(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["await", "SpecChanged"], ENDED_EARLY]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        for scope in ("a/1", "all"):
            stage.writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "a look", scope, who="bob"), "x")
        assert await steering(stage, at_work).end(["1"], "ann") == {
            "trials": [{"experiment": "a", "trial": 1, "state": "RUNNING"}]
        }

    stage.live(ask)
    assert stage.trials("a")[1] == (1, "TERMINATED", 1, 0.5)
    assert stage.facts("trial.end_asked") == [{"who": "ann"}]
    assert [command.scope for command in stage.writer.commands()] == ["all"]


def test_an_end_that_was_asked_between_two_drivers_is_in_the_begin_of_the_next(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["die"]], [["trial", 1, 0.5]]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states() == {"a": "BACKOFF"}, "the driver has died")
        answer = await steering(stage, at_work).end(["a/1"], "ann")
        assert answer["trials"][0]["state"] == "PENDING"

    stage.live(ask)
    assert lookups.spec(stage.store, "r", "a")["ending"] == {"1": "ann"}


def test_a_trial_that_begins_anew_is_not_ended_by_an_old_wish(tmp_path: Path) -> None:
    fails = ["message", "TrialEnded", {"number": 1, "attempt": 1, "end_reason": "oom", "value": None, "error": "x"}]
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["await", "SpecChanged"], fails]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        await steering(stage, at_work).end(["1"], "ann")

    stage.live(ask)
    try_again(RetryWriter(stage.store, "r"), "ann")
    assert lookups.spec(stage.store, "r", "a")["ending"] == {}


def test_a_trial_that_has_ended_is_refused_by_name_and_then_none_is_ended(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["await", "Commanded"], ["trial", 1, 0.5]]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        with pytest.raises(Conflict, match=r"a/0: it has ended \(finished\)"):
            await steering(stage, at_work).end(["0", "1"], "ann")
        with pytest.raises(NotFound):
            await steering(stage, at_work).end(["7"], "ann")
        assert stage.facts("trial.end_asked") == []
        # A pattern means those that can be ended.
        assert [one["trial"] for one in (await steering(stage, at_work).end(["all"], "ann"))["trials"]] == [1]

    stage.live(ask)


def test_an_experiment_that_waits_is_left_out_at_once_and_the_others_run(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], *DONE]], b=[DONE], c=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        assert await steering(stage, at_work).skip(["b"], "ann") == {"experiments": ["b"]}
        assert stage.states()["b"] == "SKIPPED"
        await at_work.commands_changed()

    stage.live(ask)
    assert stage.states() == {"a": "EXITED", "b": "SKIPPED", "c": "EXITED"}
    assert stage.reason("b") == "left out by ann"


def test_the_experiment_at_work_is_left_out_and_the_next_begins(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.25], ["result", 1, 1], ["sleep"]]], b=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        await steering(stage, at_work).skip(["a"], "ann")

    stage.live(ask)
    assert stage.states() == {"a": "SKIPPED", "b": "EXITED"}
    assert stage.trials("a") == [(0, "TERMINATED", 1, 0.25), (1, "PENDING", 1, None)]
    assert stage.recorded("experiment.failed", "driver.exited") == []


def test_an_experiment_is_left_out_during_its_back_off(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["die"]]], b=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "BACKOFF", "the driver has died")
        await steering(stage, at_work).skip(["a"], "ann")

    stage.live(ask)
    assert stage.states() == {"a": "SKIPPED", "b": "EXITED"}


def test_after_a_kill_the_next_daemon_leaves_out_what_was_asked(tmp_path: Path) -> None:
    """The wish was committed; nothing else was."""
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    for name in ("a", "b"):
        stage.writer.record("experiment.skip_asked", experiment=name, who="ann")
    stage.live()
    assert stage.states() == {"a": "SKIPPED", "b": "SKIPPED"}
    assert stage.recorded("driver.started") == []


def test_what_has_ended_is_not_left_out_any_more_and_then_nothing_is(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[[["await", "Commanded"], *DONE]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        with pytest.raises(Conflict, match=r"a: it has ended \(EXITED\)"):
            await steering(stage, at_work).skip(["a", "b"], "ann")
        await at_work.commands_changed()

    stage.live(ask)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}


def test_only_a_retry_by_name_takes_in_again_what_a_person_left_out(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[DONE])
    stage.writer.record("experiment.skip_asked", experiment="b", who="ann")
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "SKIPPED"}
    with pytest.raises(Conflict, match="b was left out: `supervisorctl retry b` takes it in again"):
        try_again(RetryWriter(stage.store, "r"), "ann")
    try_again(RetryWriter(stage.store, "r"), "ann", "b")
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}


def test_nothing_is_steered_in_a_run_that_ends(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        at_work.stop.ask("SIGTERM")
        await asyncio.sleep(0)
        for verb in (steering(stage, at_work).end, steering(stage, at_work).skip):
            with pytest.raises(Conflict, match="the run is ending"):
                await verb(["all"], "ann")

    stage.live(ask)


def test_an_experiment_that_is_put_next_begins_before_the_others(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], *DONE]], b=[DONE], c=[DONE], d=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        assert await steering(stage, at_work).put_next(["d"], "ann") == {"experiments": ["d"]}
        with pytest.raises(Conflict, match="a: it has begun already"):
            await steering(stage, at_work).put_next(["a", "c"], "ann")
        await at_work.commands_changed()

    stage.live(ask)
    assert [name for _, name in stage.recorded("experiment.started")] == ["a", "d", "b", "c"]


def test_after_a_kill_the_experiment_at_work_goes_on_before_the_one_that_is_next(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["trial", 0, 0.5], ["finish"]], [["trial", 1, 0.25]]], b=[DONE], c=[DONE])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        await steering(stage, at_work).put_next(["c"], "ann")
        at_work.stop.ask("SIGTERM")

    stage.live(ask)
    stage.live()
    assert [name for _, name in stage.recorded("experiment.started")] == ["a", "a", "c", "b"]


def test_the_next_driver_gets_a_discarded_trial_as_a_tombstone_and_follows_at_once(tmp_path: Path) -> None:
    """Its number stays; a restored one comes back as it was."""
    story = [["trial", 0, 0.25], ["result", 1, 1], ["finish"]]
    stage = Stage(tmp_path, a=[story, [["finish"]], [["trial", 1, 0.75]]])
    begun: list[list[Any]] = []

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        answer = await steering(stage, at_work).discard(["0"], False, "ann")
        assert answer == {"trials": ["a/0"], "set_aside": []}
        begun.append(known(stage))
        await until(lambda: len(stage.recorded("driver.started")) == 2, "the next driver")
        await until(lambda: stage.states() == {"a": "RUNNING"}, "it has said hello")
        await steering(stage, at_work).discard(["0"], True, "ann")
        begun.append(known(stage))

    stage.live(ask)
    assert begun == [[("ERROR", None, []), ("RUNNING", None, [[1, 0.5]])],
                     [("TERMINATED", 0.25, [[1, 0.25]]), ("PENDING", None, [[1, 0.5]])]]  # fmt: skip
    assert stage.recorded("driver.exited") == [], "no driver died"
    assert stage.states() == {"a": "EXITED"}
    assert stage.trials("a")[0] == (0, "TERMINATED", 1, 0.25), "the store keeps all of it"


def test_a_governors_stop_waits_for_a_person_also_where_the_driver_was_to_begin_anew(tmp_path: Path) -> None:
    story = [["trial", 0, 0.25], ["result", 1, 1], governors(Action.STOP), ["finish"]]
    stage = Stage(tmp_path, a=[story, [["trial", 1, 0.75]]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 2, "both trials have reported")
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor's stop is known")
        await steering(stage, at_work).discard(["0"], False, "ann")
        await until(lambda: bool(stage.facts("driver.stopped")), "the driver has ended")
        assert len(stage.facts("driver.started")) == 1
        await at_work.force(None, "ann")

    stage.live(ask)
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("driver.started")) == 2


def known(stage: Stage) -> list[Any]:
    """Return the trials of experiment a as its next driver will get them."""
    trials = queries.for_begin(stage.store.connection, "r", "a")
    found = known_to_the_search(lookups.spec(stage.store, "r", "a"), trials)
    return [(trial["state"], trial["value"], trial["results"]) for trial in found]


def test_a_discarded_trial_is_not_the_best_and_stays_in_the_store(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE], b=[[["await", "Commanded"], *DONE]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        await steering(stage, at_work).discard(["a/0"], False, "ann")
        await at_work.commands_changed()

    stage.live(ask)
    view = queries.run_snapshot(stage.store.connection, "r")
    assert view["experiments"][0]["best"]["trial"] == 1
    assert [trial["number"] for trial in view["experiments"][0]["trials"]] == [0, 1], "the store keeps it"
