"""What holds a run's work back: the operator's commands, the governors, and how the experiment's state follows."""

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
from tests.unit.daemon.orchestrator_stage import DONE, Stage, until


@pytest.fixture(autouse=True)
def short_back_off(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(experiment_state, "BACKOFF_CAP_S", 0.1)


def operators(action: Action) -> Command:
    return Command(action, Origin.OPERATOR, "visitors", since_wall=1.0, who="ann")


@pytest.mark.parametrize("action", [Action.HOLD, Action.PAUSE])
def test_an_operators_pause_shows_reaches_the_driver_and_is_lifted(tmp_path: Path, action: Action) -> None:
    stage = Stage(tmp_path, a=[[["await", "Commanded"], ["trial", 0, 0.5], ["finish"]], DONE])

    async def pause_and_resume(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "RUNNING", "the driver is up")
        stage.ledger.put_command(operators(action), "now")
        await at_work.commands_changed()
        assert stage.states() == {"a": "PAUSED"}
        assert at_work.in_force() == operators(action)
        await until(lambda: len(stage.facts("trial.finished")) == 1, "the driver has heard of it")
        stage.ledger.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states() == {"a": "RUNNING"}
        at_work.stop.ask("enough")

    stage.conduct(pause_and_resume)
    assert [name for name, _ in stage.told("experiment.paused", "experiment.resumed")] == [
        "experiment.paused", "experiment.resumed",
    ]  # fmt: skip


def test_a_pause_holds_across_a_drivers_death(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[["die"]], [["finish"]]])
    stage.ledger.put_command(operators(Action.PAUSE), "now")

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("driver.exited")) == 1, "the driver has died")
        await until(lambda: stage.states()["a"] == "PAUSED", "its successor is up")
        at_work.stop.ask("enough")

    stage.conduct(watch)
    assert stage.states() == {"a": "STOPPED"}


def governors(action: Action) -> list[Any]:
    command = Command(action, Origin.GOVERNOR, "92 C", "node-1", 1.0, drill=True)
    return ["message", "ActionChanged", {"node": "node-1", "command": command.to_json()}]


def test_a_governors_pause_shows_and_neither_origin_lifts_the_others(tmp_path: Path) -> None:
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
        stage.ledger.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states()["a"] == "PAUSED", "an operator's resume does not end a governor's pause"
        stage.ledger.put_command(operators(Action.HOLD), "after running trials")
        await at_work.commands_changed()
        await until(lambda: bool(stage.facts("watchdog.started")), "the driver waits for a drill")
        await at_work.drill("heat", 5.0, None)
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the governor has ended its pause")
        assert stage.states()["a"] == "PAUSED", "cooling down does not end an operator's pause"
        stage.ledger.drop_command("all", "ann")
        await at_work.commands_changed()
        assert stage.states()["a"] == "RUNNING"
        at_work.stop.ask("enough")

    stage.conduct(watch)
    changes = [(fact["previous"], fact["action"], fact["drill"]) for fact in stage.facts("action.changed")]
    assert changes == [("RUN", "SHED", True), ("SHED", "PAUSE", True), ("PAUSE", "RUN", True)]


def scoped(scope: str, action: Action = Action.PAUSE) -> Command:
    return dataclasses.replace(operators(action), scope=scope)


def test_a_pause_of_one_trial_or_one_node_is_not_the_experiments(tmp_path: Path) -> None:
    """Others work on; with its last node the experiment stands, too."""
    up = [["message", "ActionChanged", {"node": node, "command": run_().to_json()}] for node in ("n1", "n2")]
    stage = Stage(tmp_path, a=[[*up, ["result", 0, 1], ["finish"]], DONE])

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: len(stage.facts("trial.reported")) == 1, "the driver is up")
        for command, paused in ((scoped("a/0"), False), (scoped("n1"), False), (scoped("n2"), True)):
            stage.ledger.put_command(command, "now")
            await at_work.commands_changed()
            assert stage.states() == {"a": "PAUSED" if paused else "RUNNING"}
        assert at_work.in_force().scope in ("n1", "n2")
        at_work.stop.ask("enough")

    stage.conduct(watch)


def run_() -> Command:
    return Command(Action.RUN, Origin.GOVERNOR, "nothing to hold for")


def test_a_trials_pause_ends_with_the_trial(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[DONE])
    stage.ledger.put_command(scoped("a/0"), "now")
    stage.conduct()
    assert stage.ledger.commands() == []
    assert [fact["scope"] for fact in stage.facts("run.resumed")] == ["a/0"]


def test_a_nodes_pause_holds_for_all_once_its_cluster_is_gone(tmp_path: Path) -> None:
    """Its machine may be any of the new cluster's, and a pause must not be lost with an id."""
    stage = Stage(tmp_path, a=[[["finish"]]])
    stage.ledger.put_command(scoped("n1"), "now")

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the pause holds")
        at_work.stop.ask("enough")

    stage.conduct(watch)
    assert [(command.scope, command.who) for command in stage.ledger.commands()] == [("all", "ann")]


def test_the_governors_stop_waits_for_an_operators_force(tmp_path: Path) -> None:
    """No further driver starts by itself; the next one is told to overrule its watchdog."""
    stage = Stage(tmp_path, a=[[governors(Action.STOP), ["exit"]], DONE])

    async def watch(at_work: Orchestrator) -> None:
        with pytest.raises(Conflict, match="pauses nothing"):
            await at_work.force(None, "ann")
        await until(lambda: stage.states()["a"] == "BACKOFF", "the driver has ended")
        assert "resume --force" in stage.reason("a")
        assert len(stage.facts("driver.started")) == 1
        await at_work.force(None, "ann")

    stage.conduct(watch)
    assert stage.states() == {"a": "EXITED"}
    assert [(fact["who"], fact["action"], fact["for_s"]) for fact in stage.facts("governor.forced")] == [
        ("ann", "STOP", 600.0)
    ]
    lives = (stage.home.run_folder("r") / "a" / "forced").read_text().split()
    assert lives == ["None", "600.0"]


def test_a_stop_that_came_as_an_experiment_ended_holds_no_later_one(tmp_path: Path) -> None:
    """The death of a later driver is not its work: that one is followed by another, without an operator."""
    stage = Stage(tmp_path, a=[[*DONE, governors(Action.STOP)]], b=[[["die"]], DONE])
    stage.conduct()
    assert stage.states() == {"a": "EXITED", "b": "EXITED"}
    assert stage.told("driver.exited", "experiment.paused") == [("experiment.paused", "a"), ("driver.exited", "b")]


def test_force_against_a_pause_goes_to_the_driver_at_work(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[governors(Action.PAUSE), ["await", "ForceAsked"], ["trial", 0, 0.5]]])

    async def watch(at_work: Orchestrator) -> None:
        await until(lambda: stage.states()["a"] == "PAUSED", "the governor pauses")
        await at_work.force(None, "ann")

    stage.conduct(watch)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("governor.forced")[0]["reason"] == "92 C"


def test_each_event_of_a_drill_says_so_also_the_end_of_what_it_began(tmp_path: Path) -> None:
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
    stage.conduct()
    caused = [
        "sensor.lost",
        "action.changed",
        "experiment.paused",
        "trial.paused",
        "trial.resumed",
        "experiment.resumed",
    ]
    for name in caused:
        assert [fact["drill"] for fact in stage.facts(name)] == [True] * max(1, 3 * (name == "action.changed"))


def test_a_dead_drivers_governor_holds_nobody(tmp_path: Path) -> None:
    """Its pause could not be lifted any more: only the next driver's watchdog knows whether it is still hot."""
    stage = Stage(tmp_path, a=[[governors(Action.PAUSE), ["die"]], DONE])
    stage.conduct()
    assert stage.states() == {"a": "EXITED"}
    assert stage.told("experiment.paused") == [("experiment.paused", "a")]


def watchdog_up(node: str) -> list[Any]:
    return ["message", "WatchdogUp", {"node": node, "pid": 1, "protected": True, "missing": {}}]


def test_a_drill_is_told_and_passed_on(tmp_path: Path) -> None:
    stage = Stage(tmp_path, a=[[watchdog_up("n"), ["await", "DrillAsked"], ["trial", 0, 0.5]]])

    async def drill(at_work: Orchestrator) -> None:
        await until(lambda: bool(stage.facts("watchdog.started")), "the watchdog is up")
        assert await at_work.drill("heat", 5.0, None) is True

    stage.conduct(drill)
    assert stage.states() == {"a": "EXITED"}
    assert stage.facts("drill.started") == [{"name": "heat", "duration_s": 5.0, "node": None, "drill": True}]


def test_a_drill_between_two_watchdogs_waits_for_the_next_and_after_the_last_it_is_refused(tmp_path: Path) -> None:
    """Whoever asks for one while an experiment begins gets it a little later, not never."""
    stage = Stage(tmp_path, a=[[watchdog_up("n"), ["await", "DrillAsked"], ["trial", 0, 0.5]]])

    async def drill(at_work: Orchestrator) -> None:
        assert await at_work.drill("heat", 7.0, None) is False
        assert await at_work.drill("flap", 5.0, None) is False

    stage.conduct(drill)
    assert stage.states() == {"a": "EXITED"}
    assert [(fact["name"], fact["duration_s"]) for fact in stage.facts("drill.started")] == [("flap", 5.0)]
    assert [name for name, _ in stage.told("watchdog.started", "drill.started")] == [
        "watchdog.started", "drill.started",
    ]  # fmt: skip
    assert stage.now is not None
    with pytest.raises(Conflict, match="the run is ending"):
        asyncio.run(stage.now.drill("heat", 5.0, None))


def test_drivers_that_die_on_a_full_disk_do_not_use_up_the_experiments_starts(tmp_path: Path) -> None:
    """Not a driver more until there is space; then all starts are left."""
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

    stage.conduct(make_space)
    assert stage.states() == {"a": "EXITED"}
    assert len(stage.facts("driver.exited")) == MAX_FRUITLESS_STARTS
