"""The schedule in the daemon: recorded once, right after a restart, a sleep or a set clock, overruled for a time."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.upkeep.schedule_watch import LOOK_PERIOD_S, ScheduleWatch, schedule_of
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.work_schedule import NOT_ASKED, Schedule, Surroundings, Unknown, read_schedule
from supervisor.errors import Conflict
from supervisor.store import queries
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter, create_run
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


def test_without_a_schedule_nothing_is_decided_and_overruling_is_refused(stage: Stage) -> None:
    life = Life(stage, HandClock(), None)
    asyncio.run(life.watch.tick())
    assert stage.writer.schedule() is None
    with pytest.raises(Conflict, match="no schedule"):
        life.watch.overrule(7200.0, "pat")


def test_a_schedule_that_is_taken_away_lifts_its_own_pause(stage: Stage) -> None:
    life = Life(stage, HandClock())
    assert life.tick() is Action.PAUSE
    life.schedule = None
    assert [life.tick(), life.tick()] == [Action.RUN, Action.RUN]
    assert (life.recorded(), life.told) == (["PAUSE", "RUN"], 2)


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
    assert tests.operator_holds()
    clock.wall_now_s += 8 * 3600
    life.tick()
    assert not tests.operator_holds()


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
