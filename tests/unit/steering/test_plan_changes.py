"""A person changes the plan of a run while the daemon is at work."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.steering import Steering
from supervisor.daemon.upkeep.schedule_watch import ScheduleWatch, schedule_of
from supervisor.domain.command import Action, Origin
from supervisor.domain.work_schedule import NOT_ASKED, Surroundings
from supervisor.errors import Conflict, PlanError, SweepError
from supervisor.plan.drift import sha256_of
from supervisor.store import lookups
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until
from tests.unit.steering.steering_stage import PLAN, planned, steering


def test_a_change_of_the_plan_reaches_the_driver_at_work_and_stays(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["trial", 0, 0.25], ["await", "SpecChanged"], ["trial", 1, 0.5]]], b=[DONE]))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        answer = await steering(stage, at_work).change([], ["concurrency=2", "hardware.min_off_s=9"], "ann")
        assert answer["effects"]["a"] == "2 at once instead of 1, 1 more trial starts now where cores are free"
        assert (answer["effects"]["b"], answer["policy"]) == ("2 at once instead of 1", True)

    stage.live(ask)
    assert [lookups.spec(stage.store, "r", name)["concurrency"] for name in ("a", "b")] == [2, 2]
    assert '"min_off_s": 9' in lookups.run(stage.store, "r")["hardware"]
    (change,) = stage.facts("plan.changed")
    assert (change["who"], change["sets"]) == ("ann", ["concurrency=2", "hardware.min_off_s=9"])


def test_a_schedule_is_set_and_taken_away_in_a_run_at_work_and_its_pause_with_it(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["trial", 0, 0.25], ["await", "SpecChanged"], ["trial", 1, 0.5]]]))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        verbs = steering(stage, at_work)
        watch = ScheduleWatch(
            stage.writer, Clock(), lambda: schedule_of(stage.writer), at_work.commands_changed,
            lambda _: Surroundings(NOT_ASKED, True),
        )  # fmt: skip
        answer = await verbs.change([], ["hardware.schedule={on_battery: pause}"], "ann")
        assert (answer["schedule"]["on_battery"], answer["policy"]) == ("pause", False)
        await watch.tick()
        assert (at_work.in_force().origin, stage.states()["a"]) == (Origin.SCHEDULE, "PAUSED")
        assert (await verbs.change([], ["hardware.schedule=null"], "ann"))["schedule"] == {}
        assert (at_work.in_force().action, stage.states()["a"]) == (Action.RUN, "RUNNING")
        await verbs.change([], ["concurrency=2"], "ann")

    stage.live(ask)
    assert stage.states() == {"a": "EXITED"}
    assert [facts["schedule"] for facts in stage.facts("plan.changed")][1:] == [{}, None]


def test_the_hours_of_the_experiment_at_work_follow_what_a_person_sets(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, max_hours=5.0, a=[[["trial", 0, 0.25], ["finish"]]]))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 1, "a trial has ended")
        with pytest.raises(Conflict, match="h are too few"):
            await steering(stage, at_work).change(["a"], ["max_hours=0.0000000001"], "ann")
        await steering(stage, at_work).change(["a"], ["max_hours=1"], "ann")
        await until(lambda: (at_work.left_s["a"] or 0.0) < 3601.0, "the countdown follows")
        at_work.stop.ask("enough")

    stage.live(ask)
    assert lookups.spec(stage.store, "r", "a")["max_hours"] == 1.0


def test_trials_that_a_person_adds_are_searched_by_the_next_driver(tmp_path: Path) -> None:
    """The driver at work was about to end."""
    stage = planned(Stage(tmp_path, a=[[*DONE, ["await", "SpecChanged"]], [["trial", 2, 0.1]]]))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 2, "both trials have ended")
        await steering(stage, at_work).change(["a"], ["max_trials=3"], "ann")

    stage.live(ask)
    assert [value for *_, value in stage.trials("a")] == [0.25, 0.75, 0.1]
    assert stage.states() == {"a": "EXITED"}


def test_what_cannot_change_is_refused_by_name_and_leaves_no_event(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[DONE], b=[[["await", "Commanded"], *DONE]]))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        for sets, targets, words in (
            (["metric=loss"], [], "metric cannot change in a run"),
            (["concurrency=2"], ["a"], r"a: it has ended \(EXITED\)"),
            (["concurrency=1"], [], "each experiment has these values already"),
            (["concurrency=2", "max_trials=0"], [], "max_trials"),
        ):
            with pytest.raises(SweepError, match=words):
                await steering(stage, at_work).change(targets, sets, "ann")
        assert stage.facts("plan.changed") == []
        await at_work.commands_changed()

    stage.live(ask)


def test_an_experiment_that_has_ended_is_extended_and_runs_again(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE, [["trial", 2, 0.1]]], b=[[["await", "Commanded"], *DONE]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["b"] == "RUNNING", "b runs")
        answer = await steering(stage, at_work).extend(["a"], 1, 0.0, "ann")
        assert answer == {"max_trials": {"a": 3}, "set_aside": []}
        await at_work.commands_changed()

    stage.live(ask)
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert [value for *_, value in stage.trials("a")] == [0.25, 0.75, 0.1]


def test_the_experiment_at_work_is_extended(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[*DONE, ["await", "SpecChanged"], ["trial", 2, 0.1]]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.finished")) == 2, "both trials have ended")
        await steering(stage, at_work).extend(["all"], 1, 0.0, "ann")

    stage.live(ask)
    assert [value for *_, value in stage.trials("a")] == [0.25, 0.75, 0.1]


def test_hours_are_given_only_where_there_is_a_limit_and_then_nothing_changes(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], *DONE]])

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        with pytest.raises(Conflict, match="a: it has no limit of hours"):
            await steering(stage, at_work).extend(["a"], 1, 2.0, "ann")
        assert stage.facts("experiment.enlarged") == []
        await at_work.commands_changed()

    stage.live(ask)


def with_file(stage: Stage, text: str) -> Path:
    """Give the run a plan's file beside its own copy."""
    file = stage.home.root / "p.yaml"
    file.write_text(text)
    stage.store.connection.execute("UPDATE run SET source = ?", (str(file),))
    return file


def test_an_edited_plan_is_shown_and_taken_over_once(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["await", "SpecChanged"], *DONE], [["trial", 2, 0.1]]], b=[DONE]))
    file = with_file(stage, PLAN.replace("max_trials: 2", "max_trials: 3") + "hardware: {min_off_s: 9.0}\n")
    told: list[str] = []

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        verbs = Steering(stage.writer, at_work, told.append)
        changes = ["max_trials: 2 -> 3", "hardware.min_off_s: absent -> 9.0"]
        shown = await verbs.reread(False, "ann")
        assert (sorted(shown["changes"]), shown["refused"], shown["applied"]) == (sorted(changes), [], False)
        assert stage.facts("plan.changed") == []
        answer = await verbs.reread(True, "ann")
        assert answer["effects"] == dict.fromkeys("ab", "3 trials instead of 2")
        assert (await verbs.reread(True, "ann"))["changes"] == [], "the run is as the file now"

    stage.live(ask)
    (change,) = stage.facts("plan.changed")
    assert lookups.run(stage.store, "r")["fingerprint"] == change["fingerprint"] != "f"
    assert told == [change["source_sha256"]] == [sha256_of(file)]
    assert [lookups.spec(stage.store, "r", name)["max_trials"] for name in "ab"] == [3, 3]


def test_the_answer_has_the_schedule_of_the_file_where_it_differs(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["await", "SpecChanged"], *DONE]], b=[DONE]))
    with_file(stage, PLAN + "hardware: {schedule: {on_battery: hold}}\nmax_failures: 7\n")

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        answer = await steering(stage, at_work).reread(True, "ann")
        assert (answer["applied"], answer["schedule"]["on_battery"]) == (True, "hold")
        assert (await steering(stage, at_work).reread(True, "ann"))["schedule"] is None

    stage.live(ask)


def test_a_change_of_one_experiment_is_no_difference_of_the_plan(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["await", "SpecChanged"], *DONE]], b=[DONE]))
    with_file(stage, PLAN)

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        verbs = steering(stage, at_work)
        await verbs.change(["b"], ["max_trials=3"], "ann")
        assert (await verbs.reread(True, "ann"))["changes"] == []
        await verbs.change([], ["max_failures=7"], "ann")
        assert (await verbs.reread(False, "ann"))["changes"] == ["max_failures: 7 -> absent"]

    stage.live(ask)
    assert lookups.spec(stage.store, "r", "b")["max_trials"] == 3


def test_of_an_edited_plan_the_rest_is_refused_by_name(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["await", "SpecChanged"], *DONE], [["trial", 2, 0.1]]], b=[DONE]))
    with_file(stage, PLAN.replace("max_epochs: 2", "max_epochs: 7").replace("max_trials: 2", "max_trials: 3"))

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        answer = await steering(stage, at_work).reread(True, "ann")
        assert [why.partition(":")[0] for why in answer["refused"]] == ["max_epochs"]
        assert answer["effects"].keys() == {"a", "b"}
        again = await steering(stage, at_work).reread(True, "ann")
        assert (again["changes"], again["applied"]) == (["max_epochs: 2 -> 7"], False)

    stage.live(ask)
    (change,) = stage.facts("plan.changed")
    assert (change["fingerprint"], lookups.run(stage.store, "r")["fingerprint"]) == (None, "f")
    assert lookups.spec(stage.store, "r", "a")["max_epochs"] == 2


def test_a_file_that_is_no_plan_now_changes_nothing(tmp_path: Path) -> None:
    stage = planned(Stage(tmp_path, a=[[["await", "Commanded"], *DONE]]))
    with_file(stage, "name: [")

    async def ask(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "a runs")
        with pytest.raises(PlanError):
            await steering(stage, at_work).reread(True, "ann")
        assert stage.facts("plan.changed") == []
        await at_work.commands_changed()

    stage.live(ask)
