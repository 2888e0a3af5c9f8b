"""The schedule in the daemon: recorded once, right after a restart, a sleep or a set clock, overruled for a time."""

from __future__ import annotations

import asyncio
import math
import threading
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from types import SimpleNamespace as Fake
from typing import Any, cast

import pytest

from supervisor.clock import Clock
from supervisor.daemon.handlers import Handlers
from supervisor.daemon.upkeep import schedule_watch
from supervisor.daemon.upkeep.schedule_watch import LOOK_PERIOD_S, ScheduleWatch, schedule_of
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.work_schedule import NOT_ASKED, Schedule, Surroundings, Unknown, read_schedule
from supervisor.errors import Conflict, UsageError
from supervisor.plan.drift import PlanSource
from supervisor.store import queries
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.steering.steer_writer import PlanChange, SteerWriter
from tests.unit.daemon.orchestrator_stage import Stage

OFFICE = read_schedule({"zone": "Europe/Berlin", "hours": {"mon-fri 09:00-18:00": "pause"}})
MONDAY_NOON = datetime(2025, 12, 1, 11, 0, tzinfo=UTC).timestamp()


class HandClock(Clock):
    now_s = 0.0
    wall_now_s = MONDAY_NOON

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return self.wall_now_s


class Life:
    """One daemon's life with a schedule on a stage's store."""

    def __init__(
        self, stage: Stage, clock: HandClock, schedule: Schedule | None = OFFICE,
        look: Callable[[], Surroundings] = Surroundings,
    ) -> None:  # fmt: skip
        self.told, self.looks, self._asked = 0, 0, look
        self.stage, self.schedule = stage, schedule
        self.watch = ScheduleWatch(stage.writer, clock, lambda: self.schedule, self._changed, self._look)

    async def _changed(self) -> None:
        self.told += 1

    def _look(self, _: Schedule) -> Surroundings:
        self.looks += 1
        return self._asked()

    def tick(self) -> Action:
        """Decide once; return the action that the store has then."""
        asyncio.run(self.watch.tick())
        found = self.stage.writer.schedule()
        assert found is not None
        return found.action

    def recorded(self) -> list[str]:
        return [str(facts["action"]) for facts in self.stage.facts("schedule.changed")]


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path, a=[[]])


def test_a_command_is_recorded_and_passed_on_once(stage: Stage) -> None:
    life = Life(stage, HandClock())
    assert [life.tick(), life.tick()] == [Action.PAUSE, Action.PAUSE]
    assert (life.recorded(), life.told) == (["PAUSE"], 1)


def test_a_restart_records_nothing_again_and_keeps_since_when(stage: Stage) -> None:
    clock = HandClock()
    Life(stage, clock).tick()
    clock.wall_now_s += 600
    life = Life(stage, clock)
    assert life.tick() is Action.PAUSE
    assert (life.recorded(), life.told) == (["PAUSE"], 0)
    command = stage.writer.schedule()
    assert command is not None
    assert command.since_wall == MONDAY_NOON


@pytest.mark.parametrize(
    ("moved_s", "action"), [(8 * 3600, Action.RUN), (-8 * 3600, Action.RUN), (86_400, Action.PAUSE)]
)
def test_the_first_tick_after_a_sleep_or_a_jump_is_right(stage: Stage, moved_s: float, action: Action) -> None:
    clock = HandClock()
    life = Life(stage, clock)
    life.tick()
    clock.wall_now_s += moved_s
    assert life.tick() is action


def test_a_person_overrules_for_a_time_over_a_restart_and_then_the_hours_count_again(stage: Stage) -> None:
    clock = HandClock()
    life = Life(stage, clock)
    life.tick()
    life.watch.overrule(7200.0, "pat")
    clock.wall_now_s += 7000
    assert Life(stage, clock).tick() is Action.RUN
    clock.wall_now_s += 300
    assert Life(stage, clock).tick() is Action.PAUSE
    assert life.recorded() == ["PAUSE", "RUN", "PAUSE"]


@pytest.mark.parametrize("asked", [{"force": True}, {"node": "ab12"}])
def test_overruling_is_for_the_whole_run_and_the_schedule_alone_or_nothing_happens(
    stage: Stage, asked: dict[str, Any]
) -> None:
    nothing = cast(Any, None)
    orchestrator = cast(Any, Fake(experiment="a", nodes=["ab12"]))
    handlers = Handlers(
        stage.home, stage.writer, Clock(), "p", orchestrator, nothing, PlanSource(None, None), None, nothing,
        Life(stage, HandClock()).watch, nothing, nothing,
    )  # fmt: skip
    with pytest.raises(UsageError, match="--for overrules the schedule of the whole run"):
        asyncio.run(handlers.resume(**{"target": None, "who": "pat", "for_s": 60.0, **asked}))
    assert (stage.writer.schedule(), stage.recorded("governor.forced")) == (None, [])


def test_without_a_schedule_nothing_is_decided_and_overruling_is_refused(stage: Stage) -> None:
    life = Life(stage, HandClock(), None)
    asyncio.run(life.watch.tick())
    assert stage.writer.schedule() is None
    with pytest.raises(Conflict, match="no schedule"):
        life.watch.overrule(7200.0, "pat")


def test_a_schedule_that_changes_during_a_look_is_decided_on_by_the_next_tick(stage: Stage) -> None:
    def taken_away() -> Surroundings:
        life.schedule = None
        return Surroundings(NOT_ASKED, True)

    life = Life(stage, HandClock(), read_schedule({"on_battery": "pause"}), taken_away)
    asyncio.run(life.watch.tick())
    assert (stage.writer.schedule(), life.recorded(), life.told) == (None, [], 0)
    life.schedule = OFFICE
    assert life.tick() is Action.PAUSE


def test_a_look_that_hung_says_nothing_about_the_schedule_that_came_meanwhile(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    goes_on = threading.Event()

    def look(schedule: Schedule) -> Surroundings:
        goes_on.wait(60.0)
        return Surroundings(NOT_ASKED, False) if schedule.while_active is None else Surroundings(math.inf, NOT_ASKED)

    schedule = read_schedule({"on_battery": "pause"})
    watch = ScheduleWatch(stage.writer, HandClock(), lambda: schedule, _told, look)

    async def life() -> None:
        nonlocal schedule
        monkeypatch.setattr(schedule_watch, "LOOK_WITHIN_S", 0.0)
        await watch.tick()
        monkeypatch.setattr(schedule_watch, "LOOK_WITHIN_S", 60.0)
        schedule = read_schedule({"while_active": "pause"})
        goes_on.set()
        await watch.tick()

    asyncio.run(life())
    assert [facts["action"] for facts in stage.facts("schedule.changed")] == ["PAUSE", "RUN"]


def changed(stage: Stage, schedule: Schedule | None) -> None:
    """Change the run's schedule as `set` does."""
    value: dict[str, Any] = {} if schedule is None else schedule.to_json()
    SteerWriter(stage.store, "r").change_plan([], PlanChange(["hardware.schedule=..."], {}, schedule=value), "ann")


def test_a_schedule_is_set_changed_and_taken_away_in_a_live_run_and_a_restart_knows_it(stage: Stage) -> None:
    evenings = read_schedule({"zone": "Europe/Berlin", "hours": {"mon 18:00-22:00": "pause"}})

    def tick() -> Action | None:
        asyncio.run(ScheduleWatch(stage.writer, HandClock(), lambda: schedule_of(stage.writer), _told, _look).tick())
        command = stage.writer.schedule()
        return None if command is None else command.action

    assert tick() is None
    changed(stage, OFFICE)
    assert (schedule_of(stage.writer), tick()) == (OFFICE, Action.PAUSE)
    changed(stage, evenings)
    assert (schedule_of(stage.writer), tick()) == (evenings, Action.RUN)
    changed(stage, OFFICE)
    assert tick() is Action.PAUSE
    changed(stage, read_schedule({"zone": "Europe/Berlin", "hours": {"mon 12:00-18:00": "pause"}}))
    assert tick() is Action.PAUSE
    command = stage.writer.schedule()
    assert command is not None
    assert (command.reason, command.since_wall) == ("by schedule until Mon 18:00 CET (mon 12:00-18:00)", MONDAY_NOON)
    changed(stage, None)
    assert stage.writer.schedule() is None, "its pause ends with it, in the same transaction"
    assert (schedule_of(stage.writer), tick()) == (None, None)


async def _told() -> None:
    pass


def _look(_: Schedule) -> Surroundings:
    return Surroundings()


def test_the_schedule_is_that_of_the_runs_row(stage: Stage) -> None:
    assert schedule_of(stage.writer) is None
    hardware = {"policy": {}, "schedule": OFFICE.to_json()}
    create_run(
        stage.store, "s", plan="p", fingerprint="f", source="built-in", plan_text="", hardware=hardware, data={},
        specs=[],
    )  # fmt: skip
    assert schedule_of(RunWriter(stage.store, "s")) == OFFICE


def test_an_operators_commands_and_the_schedules_are_apart(stage: Stage) -> None:
    life = Life(stage, HandClock())
    life.tick()
    assert stage.writer.commands() == []
    assert not stage.writer.drop_command("all", "pat"), "there is no pause of the operator to lift"
    mine = Command(Action.PAUSE, Origin.OPERATOR, "visitors", since_wall=1.0, who="ann")
    stage.writer.put_command(mine, "now")
    life.watch.overrule(7200.0, "pat")
    assert stage.writer.commands() == [mine]
    view = queries.run_itself(stage.store.connection, "r")
    assert sorted(command["origin"] for command in view["commands"]) == ["operator", "schedule"]


def test_a_test_waits_for_the_schedule_as_for_the_operator(stage: Stage) -> None:
    clock, tests = HandClock(), EvaluationWriter(stage.store, "r")
    life = Life(stage, clock)
    life.tick()
    assert tests.is_held()
    clock.wall_now_s += 8 * 3600
    life.tick()
    assert not tests.is_held()


def test_an_unknown_idle_time_holds_work_back_and_is_said_once(stage: Stage) -> None:
    clock = HandClock()
    unknown = Surroundings(Unknown("loginctl is not installed"), NOT_ASKED)
    life = Life(stage, clock, read_schedule({"while_active": "pause"}), lambda: unknown)
    for _ in range(3):
        assert life.tick() is Action.PAUSE
        clock.now_s += LOOK_PERIOD_S
    again = Life(stage, clock, life.schedule, lambda: unknown)
    assert again.tick() is Action.PAUSE
    assert len(stage.recorded("schedule.uninformed")) == 1, "a restart says it no second time"
    assert life.recorded() == ["PAUSE"]
    assert life.looks == 3


def test_the_machine_is_looked_at_no_more_often_than_its_period_and_only_if_asked_for(stage: Stage) -> None:
    clock = HandClock()
    life = Life(stage, clock, read_schedule({"on_battery": "hold"}), lambda: Surroundings(NOT_ASKED, True))
    assert [life.tick(), life.tick()] == [Action.HOLD, Action.HOLD]
    assert life.looks == 1
    idle = Life(stage, clock)
    idle.tick()
    assert idle.looks == 0
