"""Test the commands in force on a run, and its experiment's state under them."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.daemon.experiments import experiment_state
from supervisor.daemon.experiments.experiment_runner import MAX_FRUITLESS_STARTS
from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.upkeep.disk_reserve import DiskReserve, ReserveLimits
from supervisor.domain.command import Action, Command, Origin
from supervisor.errors import Conflict
from supervisor.store import lookups
from tests.unit.daemon.orchestrator_stage import DONE, Stage, governors, until


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_state, "BACKOFF_CAP_S", 0.1)


def operators(action: Action) -> Command:
    return Command(action, Origin.OPERATOR, "visitors", since_wall=1.0, who="ann")


@pytest.mark.parametrize("action", [Action.HOLD, Action.PAUSE])
def test_an_operators_pause_pauses_the_experiment_reaches_the_driver_and_is_lifted(
    tmp_path: Path, action: Action
) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], ["trial", 0, 0.5], ["finish"]], DONE])

    async def pause_and_resume(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "the driver is up")
        stage.writer.put_command(operators(action), "now")
        await at_work.commands_changed()
        assert stage.states() == {"a": "PAUSED"}
        assert at_work.in_force() == operators(action)
        await until(lambda: len(stage.facts("trial.finished")) == 1, "the driver has received the pause")
        stage.writer.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states() == {"a": "RUNNING"}
        at_work.stop.ask("enough")

    stage.live(pause_and_resume)
    assert [name for name, _ in stage.recorded("experiment.paused", "experiment.resumed")] == [
        "experiment.paused", "experiment.resumed",
    ]  # fmt: skip


def test_a_pause_holds_across_a_drivers_death(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["die"]], [["finish"]]])
    stage.writer.put_command(operators(Action.PAUSE), "now")

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("driver.exited")) == 1, "the driver has died")
        await until(lambda: stage.states()["a"] == "PAUSED", "its successor is up")
        at_work.stop.ask("enough")

    stage.live(watch)
    assert stage.states() == {"a": "STOPPED"}


def test_neither_origin_lifts_the_pause_of_the_other(tmp_path: Path) -> None:
    stage = Stage(
        tmp_path,
        a=[
            [
                governors(Action.SHED),
                governors(Action.PAUSE),
                watchdog_up("node-1"),
                ["await", "DrillAsked"],
                governors(Action.RUN),
                ["result", 0, 1],
                ["finish"],
            ]
        ],
    )

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor pauses")
        assert at_work.in_force().origin is Origin.GOVERNOR
        stage.writer.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states()["a"] == "PAUSED", "an operator's resume does not end a governor's pause"
        stage.writer.put_command(operators(Action.HOLD), "after running trials")
        await at_work.commands_changed()
        await until(lambda: bool(stage.facts("watchdog.started")), "the driver waits for a drill")
        await at_work.drill("heat", 5.0, None)
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the governor has ended its pause")
        assert stage.states()["a"] == "PAUSED", "cooling down does not end an operator's pause"
        stage.writer.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states()["a"] == "RUNNING"
        at_work.stop.ask("enough")

    stage.live(watch)
    changes = [(fact["previous"], fact["action"], fact["drill"]) for fact in stage.facts("action.changed")]
    assert changes == [("RUN", "SHED", True), ("SHED", "PAUSE", True), ("PAUSE", "RUN", True)]


def test_a_pause_that_changes_its_cause_names_the_new_one(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[governors(Action.PAUSE), ["await", "Commanded"], governors(Action.RUN), ["finish"]]])

    def cause() -> tuple[Any, ...]:
        row = lookups.experiment(stage.store, "r", "a")
        return row["state"], row["action"], row["origin"], row["reason"]

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: cause() == ("PAUSED", "PAUSE", "governor", "92 C"), "the governor pauses")
        stage.writer.put_command(operators(Action.HOLD), "after running trials")
        await at_work.commands_changed()
        # The driver ends the governor's pause as soon as it has the command, so only the order of causes is sure.
        await until(lambda: cause() == ("PAUSED", "HOLD", "operator", "visitors"), "only the operator's pause is left")
        at_work.stop.ask("enough")

    stage.live(watch)
    assert [fact["origin"] for fact in stage.facts("experiment.paused")] == ["governor", "operator"]
    assert stage.facts("experiment.resumed") == []


def test_an_operators_hold_pauses_the_experiment_while_the_governor_sheds(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[governors(Action.SHED), ["finish"]]])

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: bool(stage.facts("action.changed")), "the governor sheds")
        assert stage.states() == {"a": "RUNNING"}
        stage.writer.put_command(operators(Action.HOLD), "after running trials")
        await at_work.commands_changed()
        assert stage.states() == {"a": "PAUSED"}
        stage.writer.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states() == {"a": "RUNNING"}
        at_work.stop.ask("enough")

    stage.live(watch)


def scoped(scope: str, action: Action = Action.PAUSE) -> Command:
    return dataclasses.replace(operators(action), scope=scope)


def test_a_pause_of_one_trial_or_one_node_does_not_pause_the_experiment(tmp_path: Path) -> None:
    """Only with its last node is the experiment paused, too."""
    up = [["message", "ActionChanged", {"node": node, "command": run_().to_json()}] for node in ("n1", "n2")]
    stage = Stage(tmp_path, a=[[*up, ["result", 0, 1], ["finish"]], DONE])

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the driver is up")
        for command, paused in ((scoped("a/0"), False), (scoped("n1"), False), (scoped("n2"), True)):
            stage.writer.put_command(command, "now")
            await at_work.commands_changed()
            assert stage.states() == {"a": "PAUSED" if paused else "RUNNING"}
        assert at_work.in_force().scope in ("n1", "n2")
        at_work.stop.ask("enough")

    stage.live(watch)


def run_() -> Command:
    return Command(Action.RUN, Origin.GOVERNOR, "nothing to hold for")


def test_a_trials_pause_ends_with_the_trial(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])
    stage.writer.put_command(scoped("a/0"), "now")
    stage.live()
    assert stage.writer.commands() == []
    assert [fact["scope"] for fact in stage.facts("run.resumed")] == ["a/0"]


def test_a_nodes_pause_becomes_one_for_all_nodes_in_a_new_cluster(tmp_path: Path) -> None:
    """The node's machine may be any of the new ones, and a pause must not be lost with an id."""
    stage = Stage(tmp_path, a=[[["finish"]]])
    stage.writer.put_command(scoped("n1"), "now")

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the pause holds")
        at_work.stop.ask("enough")

    stage.live(watch)
    assert [(command.scope, command.who) for command in stage.writer.commands()] == [("all", "ann")]


def test_the_governors_stop_waits_for_an_operators_force(tmp_path: Path) -> None:
    """No driver starts before; the next one lets its watchdog be overruled."""
    stage = Stage(tmp_path, a=[[governors(Action.STOP), ["exit"]], DONE])

    async def watch(at_work: Orchestrator) -> None:
        with pytest.raises(Conflict, match="pauses nothing"):
            await at_work.force(None, "ann")
        await until(lambda: bool(stage.facts("driver.stopped")), "the driver has ended")
        row = lookups.experiment(stage.store, "r", "a")
        assert (row["state"], row["action"], row["origin"]) == ("PAUSED", "STOP", "governor")
        assert "resume --force" in row["reason"]
        assert len(stage.facts("driver.started")) == 1
        await at_work.force(None, "ann")

    stage.live(watch)
    assert stage.states() == {"a": "EXITED"}
    assert [(fact["who"], fact["action"], fact["for_s"]) for fact in stage.facts("governor.forced")] == [
        ("ann", "STOP", 600.0)
    ]
    lives = (stage.home.run_folder("r") / "a" / "forced").read_text().split()
    assert lives == ["None", "600.0"]


def test_a_stop_at_the_end_of_an_experiment_does_not_stop_the_next_one(tmp_path: Path) -> None:
    """When a later driver dies for another reason, it is replaced without an operator."""
    stage = Stage(tmp_path, a=[[*DONE, governors(Action.STOP)]], b=[[["die"]], DONE])
    stage.live()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.recorded("driver.exited", "experiment.paused") == [("experiment.paused", "a"), ("driver.exited", "b")]


def test_a_force_against_a_pause_is_sent_to_the_driver_at_work(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[governors(Action.PAUSE), ["await", "ForceAsked"], ["trial", 0, 0.5]]])

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor pauses")
        await at_work.force(None, "ann")

    stage.live(watch)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("governor.forced")[0]["reason"] == "92 C"


def test_each_event_of_a_drill_is_marked_also_the_end_of_its_pauses(tmp_path: Path) -> None:
    lost = ["message", "SensorNoted", {"node": "n", "kind": "sensor.lost", "facts": {"sensor": "s", "drill": True}}]
    held = [
        ["message", "TrialHeld", {"number": 1, "attempt": 1, "state": state, "reason": "92 C", "drill": True}]
        for state in ("PAUSED", "RUNNING")
    ]
    back = dataclasses.replace(run_(), scope="node-1").to_json()
    story = [
        ["result", 1, 1], lost, governors(Action.SHED), governors(Action.PAUSE), *held,
        ["message", "ActionChanged", {"node": "node-1", "command": back}],
    ]  # fmt: skip
    stage = Stage(tmp_path, a=[story])
    stage.live()
    caused = [
        "sensor.lost",
        "action.changed",
        "experiment.paused",
        "trial.paused",
        "trial.resumed",
        "experiment.resumed",
    ]
    for name in caused:
        assert [fact["drill"] for fact in stage.facts(name)] == [True] * max(1, 3 * (name == "action.changed")), name


def test_a_governors_pause_ends_with_its_driver(tmp_path: Path) -> None:
    """Only the next driver's watchdog knows whether the node is still hot."""
    stage = Stage(tmp_path, a=[[governors(Action.PAUSE), ["die"]], DONE])
    stage.live()
    assert stage.states() == {"a": "EXITED"}
    assert stage.recorded("experiment.paused") == [("experiment.paused", "a")]


def watchdog_up(node: str) -> list[Any]:
    return ["message", "WatchdogUp", {"node": node, "pid": 1, "protected": True, "missing": {}}]


def test_a_drill_is_recorded_and_sent_to_the_driver(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[watchdog_up("n"), ["await", "DrillAsked"], ["trial", 0, 0.5]]])

    async def drill(at_work: Orchestrator) -> None:
        await until(lambda: bool(stage.facts("watchdog.started")), "the watchdog is up")
        assert await at_work.drill("heat", 5.0, None) is True

    stage.live(drill)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("drill.started") == [{"name": "heat", "duration_s": 5.0, "node": None, "drill": True}]


def test_a_drill_waits_for_the_next_watchdog_and_is_refused_after_the_last(tmp_path: Path) -> None:
    """A drill that is asked for while an experiment begins starts a little later."""
    stage = Stage(tmp_path, a=[[watchdog_up("n"), ["await", "DrillAsked"], ["trial", 0, 0.5]]])

    async def drill(at_work: Orchestrator) -> None:
        assert await at_work.drill("heat", 7.0, None) is False
        assert await at_work.drill("flap", 5.0, None) is False

    stage.live(drill)
    assert stage.states() == {"a": "EXITED"}
    assert [(fact["name"], fact["duration_s"]) for fact in stage.facts("drill.started")] == [("flap", 5.0)]
    assert [name for name, _ in stage.recorded("watchdog.started", "drill.started")] == [
        "watchdog.started", "drill.started",
    ]  # fmt: skip
    assert stage.now is not None
    with pytest.raises(Conflict, match="the run is ending"):
        asyncio.run(stage.now.drill("heat", 5.0, None))


def test_drivers_that_die_on_a_full_disk_do_not_count_as_fruitless(tmp_path: Path) -> None:
    """No other driver starts until there is space."""
    free = [0]
    limits = ReserveLimits(reserve_bytes=4096, low_bytes=1000, enough_bytes=2000)
    reserve = DiskReserve(tmp_path, Clock(), limits, free=lambda _: free[0])
    reserve.give_up()
    deaths: list[list[list[Any]]] = [[["die"]]] * MAX_FRUITLESS_STARTS
    stage = Stage(tmp_path, a=[*deaths, DONE])
    stage.reserve = reserve

    async def make_space(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("driver.exited")) == 1, "the first driver has died")
        free[0] = 1 << 30

    stage.live(make_space)
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("driver.exited")) == MAX_FRUITLESS_STARTS
