"""The schedule's command: the strictest of hours, user and battery; the unknown restrains; a person overrules it."""

from __future__ import annotations

import math
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.command import Action, Command, Origin, in_force_on, strictest
from supervisor.domain.work_schedule import (
    NOT_ASKED,
    Schedule,
    ScheduleError,
    Surroundings,
    Unknown,
    decide,
    overrules,
    overruling,
    read_schedule,
    unknowns,
)

OFFICE = {"zone": "Europe/Berlin", "hours": {"mon-fri 09:00-18:00": "pause", "sat,sun": "run"}}
MONDAY_NOON = datetime(2025, 12, 1, 11, 0, tzinfo=UTC).timestamp()
AWAY, ON_MAINS = Surroundings(math.inf, False), False
STATES = st.builds(
    Surroundings,
    st.one_of(st.floats(0, 1e6), st.just(math.inf), st.just(Unknown("no logind"))),
    st.one_of(st.booleans(), st.just(Unknown("unread"))),
)
SCHEDULES = st.builds(
    lambda active, battery, hours: read_schedule(
        {"zone": "UTC", "while_active": active, "on_battery": battery, "hours": hours}
    ),
    st.sampled_from(("run", "hold", "pause")), st.sampled_from((None, "hold", "pause")),
    st.sampled_from((None, {"mon-fri 09:00-18:00": "pause"}, ["daily: hold", "sat: run"])),
)  # fmt: skip


def test_the_hours_say_what_until_when_and_by_which_line() -> None:
    found = decide(read_schedule(OFFICE), MONDAY_NOON, AWAY)
    assert (found.action, found.origin) == (Action.PAUSE, Origin.SCHEDULE)
    assert found.reason == "by schedule until Mon 18:00 CET (mon-fri 09:00-18:00)"
    assert found.until_wall == datetime(2025, 12, 1, 17, 0, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("idle_s", "paused"), [(0.0, True), (599.0, True), (600.0, False), (math.inf, False), (Unknown("no logind"), True)]
)
def test_a_user_counts_as_active_until_the_idle_minutes_are_over_or_while_it_is_unknown(
    idle_s: float | Unknown, paused: bool
) -> None:
    found = decide(read_schedule({"while_active": "pause"}), MONDAY_NOON, Surroundings(idle_s, NOT_ASKED))
    assert (found.action is Action.PAUSE) == paused


@pytest.mark.parametrize(("drains", "paused"), [(True, True), (False, False), (Unknown("unread"), True)])
def test_a_battery_restrains_while_it_drains_or_is_unknown(drains: bool | Unknown, paused: bool) -> None:
    found = decide(read_schedule({"on_battery": "pause"}), MONDAY_NOON, Surroundings(NOT_ASKED, drains))
    assert (found.action is Action.PAUSE) == paused


@given(SCHEDULES, STATES, st.floats(0, 4e9))
def test_the_unknown_restrains_at_least_as_much_as_the_known(
    schedule: Schedule, seen: Surroundings, now_s: float
) -> None:
    blind = Surroundings(Unknown("?"), Unknown("?"))
    assert decide(schedule, now_s, blind).step >= decide(schedule, now_s, seen).step


@given(SCHEDULES, STATES, st.floats(0, 4e9))
def test_a_schedule_is_read_back_from_its_record(schedule: Schedule, seen: Surroundings, now_s: float) -> None:
    assert decide(read_schedule(schedule.to_json()), now_s, seen) == decide(schedule, now_s, seen)


@given(SCHEDULES, STATES, st.sampled_from(Action), st.sampled_from(Action))
def test_no_origin_lifts_another(schedule: Schedule, seen: Surroundings, operators: Action, governors: Action) -> None:
    ours = decide(schedule, MONDAY_NOON, seen)
    theirs = Command(operators, Origin.OPERATOR, "visitors"), Command(governors, Origin.GOVERNOR, "92 C", "n")
    found = in_force_on("n", [theirs[0], ours], theirs[1])
    assert found.step == max(command.step for command in (ours, *theirs))
    assert strictest([ours, *theirs]).step == found.step
    if found.origin is Origin.SCHEDULE:
        assert all(found.step > command.step for command in theirs), "its end would lift nothing of theirs"


def test_a_person_overrules_for_a_time_only() -> None:
    schedule = read_schedule(OFFICE)
    mine = overruling(schedule, MONDAY_NOON, 7200.0, "pat")
    assert "overruled by pat until Mon 14:00 CET" in mine.reason
    assert decide(schedule, MONDAY_NOON + 7199, AWAY, mine) == mine
    assert decide(schedule, MONDAY_NOON + 7200, AWAY, mine).action is Action.PAUSE


def test_a_clock_that_is_set_back_ends_an_overruling() -> None:
    mine = overruling(read_schedule(OFFICE), MONDAY_NOON, 7200.0, "pat")
    assert overrules(mine, MONDAY_NOON - 2)
    assert not overrules(mine, MONDAY_NOON - 86_400)


def test_the_schedules_own_command_overrules_nothing() -> None:
    schedule = read_schedule(OFFICE)
    earlier = decide(schedule, MONDAY_NOON, AWAY)
    assert decide(schedule, MONDAY_NOON + 6 * 3600, AWAY, earlier).action is Action.RUN


def test_only_the_unknown_that_is_asked_for_is_named() -> None:
    blind = Surroundings(Unknown("no logind"), Unknown("unread"))
    assert unknowns(read_schedule({"while_active": "hold"}), blind) == [("whether a user is active", "no logind")]
    assert unknowns(read_schedule(OFFICE), blind) == []


@pytest.mark.parametrize(
    ("value", "path", "words"),
    [
        ("nights", (), "mapping"), ({}, (), "none"), ({"hour": {}}, ("hour",), "unknown key"),
        ({"hours": {"mo-fr 9-18": "pause"}}, ("hours", "mo-fr 9-18"), "expected days"),
        ({"hours": {"mon": "stop"}}, ("hours", "mon"), "expected the action run, hold, pause"),
        ({"hours": ["mon 09:00-18:00"]}, ("hours", 0), "expected"), ({"hours": 3}, ("hours",), "expected"),
        ({"hours": [f"{','.join(f'{h:02}:00-{h:02}:30' for h in range(24))}: hold"] * 3}, ("hours",), "at most 400"),
        ({**OFFICE, "zone": "Berlin"}, ("zone",), "no zone Berlin"), ({**OFFICE, "zone": ""}, ("zone",), "no zone"),
        ({**OFFICE, "zone": "/etc/localtime"}, ("zone",), "no zone"), ({**OFFICE, "zone": 3}, ("zone",), "no zone"),
        ({"while_active": "stop"}, ("while_active",), "expected run"),
        ({"on_battery": True}, ("on_battery",), "expected run"),
        ({"while_active": "pause", "idle_minutes": 0}, ("idle_minutes",), "from 1 to 1440"),
    ],
)  # fmt: skip
def test_a_bad_schedule_is_refused_with_its_key_the_expected_form_and_a_cure(
    value: Any, path: tuple[str | int, ...], words: str
) -> None:
    with pytest.raises(ScheduleError) as refused:
        read_schedule(value)
    assert refused.value.path == path
    assert words in refused.value.what
    assert refused.value.remedy
