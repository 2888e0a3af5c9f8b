"""Test which events become news, and in which words: a better best, a schedule's pauses, the end of a run."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.daemon.news.topics import OFF_BATTERY, ON_BATTERY, PAUSED
from supervisor.domain.command import Action, Command, Origin
from supervisor.store.run_writer import RunWriter
from tests.unit.news.post import (
    ADDRESS,
    HandClock,
    Service,
    finish_trial,
    look,
    notifier,
    put_schedule,
    record,
    run_of,
    write_addresses,
)


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_addresses(tmp_path / "notify", ADDRESS, "digest = off")


@pytest.fixture
def writer(tmp_path: Path, clock: HandClock) -> Iterator[RunWriter]:
    with run_of(tmp_path, clock) as made:
        yield made


def test_the_best_is_news_where_it_improves(writer: RunWriter, file: Path, clock: HandClock) -> None:
    finish_trial(writer, 0, 0.5)
    service = Service()
    it = notifier(writer, file, service, clock)
    finish_trial(writer, 1, 0.7)
    finish_trial(writer, 2, 0.000012345)
    finish_trial(writer, 3, 0.4)
    look(it)
    assert service.messages == [], "it is worth a wait for more"
    clock.now_s += 601.0
    look(it)
    ((title, _),) = service.messages
    assert title == "smoke: best of one is 1.234e-05 (0.5 before), trial 2"


def test_trials_after_a_search_that_ended_early_are_no_better_best(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    finish_trial(writer, 0, 0.5)
    look(it)
    writer.record("experiment.search_ended", experiment="one", reason="max_hours", trials=1, top=0, seeds=0)
    finish_trial(writer, 1, 0.1)
    clock.now_s += 601.0
    look(it)
    assert [title for title, _ in service.messages] == ["smoke: best of one is 0.5 (the first), trial 0"]


def test_after_its_best_was_discarded_a_search_improves_on_what_is_left(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    finish_trial(writer, 0, 0.5)
    finish_trial(writer, 1, 0.1)
    look(it)
    writer.record("trial.discarded", experiment="one", trial=1, who="ann")
    finish_trial(writer, 2, 0.4)
    clock.now_s += 601.0
    look(it)
    ((title, _),) = service.messages
    assert title == "smoke: best improved 3 times: best of one is 0.4 (0.5 before), trial 2"


def test_a_run_of_weeks_is_told_in_days(writer: RunWriter, file: Path, clock: HandClock) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    record(writer, "experiment.stalled", experiment="one", silent_s=1_234_567.0, limit_s=1800.0)
    look(it)
    assert "no epoch has ended for 14 d 6 h" in service.messages[0][0]


WORK = Command(Action.RUN, Origin.SCHEDULE, "by schedule until Mon 09:00", until_wall=1.0)
HOURS = Command(Action.PAUSE, Origin.SCHEDULE, "by schedule until Mon 18:00 (mon-fri 09:00-18:00)", until_wall=2.0)
BATTERY = Command(Action.PAUSE, Origin.SCHEDULE, "by schedule while on battery")


def test_of_a_schedules_pauses_the_first_is_told_and_a_battery_each_time_with_its_end(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)

    def titles(*commands: Command) -> list[str]:
        service.messages.clear()
        for command in commands:
            put_schedule(writer, command)
            look(it)
            clock.now_s += 6 * 3600.0
            look(it)
        return [title.removeprefix("smoke: ") for title, _ in service.messages]

    assert titles(WORK, HOURS, WORK, HOURS, WORK) == [f"PAUSE {HOURS.reason}"]
    assert titles(BATTERY, WORK) == ["PAUSE by schedule while on battery", f"RUN {WORK.reason}"]
    it = notifier(writer, file, service, clock)  # the daemon starts anew
    assert titles(HOURS, WORK, BATTERY) == ["PAUSE by schedule while on battery"]
    it = notifier(writer, file, service, clock)
    assert titles(WORK) == [f"RUN {WORK.reason}"]


def told(writer: RunWriter, file: Path, clock: HandClock, *events: Command | dict[str, str]) -> list[list[str]]:
    """The titles of the messages about each event: a command of the schedule, or the schedule after a change."""
    service, found = Service(), []
    it = notifier(writer, file, service, clock)
    for event in events:
        service.messages.clear()
        if isinstance(event, Command):
            put_schedule(writer, event)
        else:
            writer.record(
                "plan.changed", who="ann", sets=["hardware.schedule"], experiments=[], specs={}, policy=None,
                plan_text=None, fingerprint=None, source_sha256=None, everywhere=True, schedule=event,
            )  # fmt: skip
        look(it)
        clock.now_s += 6 * 3600.0
        look(it)
        found.append([title.removeprefix("smoke: ") for title, _ in service.messages])
    return found


LOST_MAINS = ["PAUSE by schedule while on battery"]


def test_an_alarm_on_battery_has_its_end_also_where_the_hours_take_its_place(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    hours = [f"now PAUSE {HOURS.reason}; before, it was on battery"]
    assert told(writer, file, clock, HOURS, BATTERY, HOURS, WORK, BATTERY, HOURS, BATTERY, WORK) == [
        [f"PAUSE {HOURS.reason}"], LOST_MAINS, hours, [], LOST_MAINS, hours, LOST_MAINS, [f"RUN {WORK.reason}"]
    ]  # fmt: skip


def test_an_alarm_on_battery_ends_with_its_schedule_and_once(writer: RunWriter, file: Path, clock: HandClock) -> None:
    changes = told(writer, file, clock, BATTERY, {}, {}, {"on_battery": "pause"}, BATTERY, WORK)
    assert [len(titles) for titles in changes] == [1, 1, 0, 0, 1, 1]
    assert changes[1] == ["ann changes the plan of -: hardware.schedule"]


def test_the_end_of_a_hold_for_the_battery_ends_no_pause_of_another_origin() -> None:
    """The governor's pause goes on when the mains are back."""
    assert ON_BATTERY.ended_by == OFF_BATTERY.key != PAUSED.ended_by


def test_the_end_of_a_run_has_its_summary_and_goes_without_a_wait(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    finish_trial(writer, 0, 0.25)
    record(writer, "test.failed")
    look(it)
    for state in ("STARTING", "RUNNING"):
        writer.record("experiment.moved", experiment="one", state=state, reason=None)
    writer.record("experiment.finished", experiment="one", best=0.25, best_trial=0, trials=1, failed=0, seconds=9.0)
    writer.record("run.moved", state="STARTING")
    writer.record("run.started")
    writer.record(
        "run.finished", seconds=540_000.0, passed=1, failed=0, skipped=0, incomplete=0, failed_trials=0,
    )  # fmt: skip
    asyncio.run(it.send_last())
    title, body = service.messages[-1]
    assert title.startswith("smoke: run finished in 6 d 6 h: 1 passed")
    assert "one EXITED, 1 of 50 trials, best 0.25 (trial 0)" in body
    assert "next: `supervisorctl report`" in body
