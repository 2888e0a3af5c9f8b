"""Weekly hours follow the clock on the wall: over each change of a zone's clocks, as a look at every minute would."""

from __future__ import annotations

from datetime import UTC, datetime
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.domain.command import Action
from supervisor.domain.weekly_hours import (
    ACTIONS,
    DAYS,
    Rule,
    action_at,
    changes,
    instant_words,
    let_work,
    local_of,
    next_change,
    read_rule,
)

ZONES = (
    "Europe/Berlin", "America/New_York", "America/Sao_Paulo", "Australia/Lord_Howe", "Asia/Kolkata",
    "Africa/Casablanca", "Antarctica/Troll", "Pacific/Apia", "America/St_Johns", "Asia/Gaza", "UTC",
)  # fmt: skip
MINUTE = st.integers(0, 1439)


def clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"


@st.composite
def hours(draw: st.DrawFn) -> tuple[str, int, int, int, int, str]:
    """Draw a rule as text and as numbers: first and last day, begin and end in minutes, action."""
    first, last = draw(st.integers(0, 6)), draw(st.integers(0, 6))
    begin, end = draw(st.tuples(MINUTE, MINUTE).filter(lambda pair: pair[0] != pair[1]))
    action = draw(st.sampled_from(sorted(ACTIONS)))
    return f"{DAYS[first]}-{DAYS[last]} {clock(begin)}-{clock(end)}", first, last, begin, end, action


def plainly(drawn: list[tuple[str, int, int, int, int, str]], zone: str, wall_s: float) -> Action:
    """Return the action at an instant, spelled out: the weekday, the time, and hours that began the day before."""
    shown = datetime.fromtimestamp(wall_s, ZoneInfo(zone))
    minute, found = shown.hour * 60 + shown.minute, Action.RUN
    for _, first, last, begin, end, action in drawn:
        listed = {(first + step) % 7 for step in range(7) if step <= (last - first) % 7}
        today, yesterday = shown.weekday() in listed, (shown.weekday() - 1) % 7 in listed
        inside = begin <= minute < end if begin < end else minute >= begin
        if (today and inside) or (yesterday and begin > end and minute < end):
            found = ACTIONS[action]
    return found


def near_a_change_of_clocks(zone: str, year: int, days: int) -> float:
    """Return an instant some days before the first change of the zone's offset in a year; the new year without one."""
    known, start = ZoneInfo(zone), int(datetime(year, 1, 1, tzinfo=UTC).timestamp())
    for hour in range(366 * 24):
        here, then = (datetime.fromtimestamp(start + step * 3600, known).utcoffset() for step in (hour, hour + 1))
        if here != then:
            return start + hour * 3600 - days * 86_400.0
    return float(start)


@settings(max_examples=60, deadline=None)
@given(
    st.lists(hours(), min_size=1, max_size=3), st.sampled_from(ZONES), st.integers(1995, 2035), st.integers(0, 2),
    st.floats(0, 86_400),
)  # fmt: skip
def test_the_next_change_is_that_of_a_look_at_every_minute(
    drawn: list[tuple[str, int, int, int, int, str]], zone: str, year: int, days: int, more_s: float
) -> None:
    rules = [read_rule(when, action) for when, *_, action in drawn]
    local, now_s = local_of(zone), near_a_change_of_clocks(zone, year, days) + more_s
    assert action_at(rules, local, now_s) is plainly(drawn, zone, now_s)
    found, before = next_change(rules, local, now_s), plainly(drawn, zone, now_s)
    minute_s, last_s = now_s // 60 * 60 + 60, now_s + 3 * 86_400
    while minute_s < last_s and plainly(drawn, zone, minute_s) is before:
        minute_s += 60
    if minute_s < last_s:
        assert found == minute_s
    else:
        assert found is None or found >= last_s


BERLIN = local_of("Europe/Berlin")


def berlin(day: str) -> float:
    return datetime.fromisoformat(day).replace(tzinfo=UTC).timestamp()


def test_hours_that_begin_in_a_skipped_time_begin_after_it() -> None:
    # On 30 March 2025 the clock went from 02:00 to 03:00, at 01:00 UTC.
    rules = [read_rule("sun 02:30-04:00", "pause")]
    found = list(changes(rules, BERLIN, berlin("2025-03-29T12:00"), 86_400))
    assert found == [(berlin("2025-03-30T01:00"), Action.PAUSE), (berlin("2025-03-30T02:00"), Action.RUN)]


def test_hours_wholly_in_a_skipped_time_fall_out_once() -> None:
    rules = [read_rule("sun 02:10-02:50", "pause")]
    assert next_change(rules, BERLIN, berlin("2025-03-29T12:00")) == berlin("2025-04-06T00:10")


def test_hours_in_a_time_that_comes_twice_hold_twice() -> None:
    # On 26 October 2025 the clock went from 03:00 back to 02:00, at 01:00 UTC.
    rules = [read_rule("sun 02:10-02:20", "pause")]
    found = list(changes(rules, BERLIN, berlin("2025-10-25T12:00"), 86_400))
    assert [at for at, _ in found] == [berlin(f"2025-10-26T{time}") for time in ("00:10", "00:20", "01:10", "01:20")]


def test_a_day_that_a_zone_leaves_out_falls_out() -> None:
    # Samoa had no Friday, 30 December 2011: it went over the date line.
    rules, local = [read_rule("fri", "pause")], local_of("Pacific/Apia")
    found = next_change(rules, local, datetime(2011, 12, 27, tzinfo=UTC).timestamp())
    assert found == datetime(2012, 1, 6, tzinfo=ZoneInfo("Pacific/Apia")).timestamp()


@pytest.mark.parametrize(
    ("when", "covered", "left_out"),
    [
        ("mon-fri 09:00-18:00", "mon 09:00", "mon 18:00"), ("mon-fri 09:00-18:00", "fri 17:59", "sat 09:00"),
        ("sat,sun", "sun 23:59", "mon 00:00"), ("fri 22:00-06:00", "sat 05:59", "fri 05:00"),
        ("sun 22:00-06:00", "mon 05:59", "sun 05:00"), ("fri-mon", "sun 12:00", "tue 00:00"),
        ("12:00-13:00", "wed 12:30", "wed 13:00"), ("daily 00:00-24:00", "thu 00:00", ""),
        ("mon 08:00-12:00,13:00-17:00", "mon 13:00", "mon 12:30"),
    ],
)  # fmt: skip
def test_a_rule_covers_its_hours_and_no_others(when: str, covered: str, left_out: str) -> None:
    rule = read_rule(when, "pause")
    assert rule.covers(_minute(covered))
    assert not left_out or not rule.covers(_minute(left_out))


def _minute(text: str) -> int:
    day, time = text.split()
    return DAYS.index(day) * 1440 + int(time[:2]) * 60 + int(time[3:])


@pytest.mark.parametrize(
    ("lines", "works"),
    [
        ([], True), (["daily: pause"], False), (["daily: hold", "sat: pause"], False),
        (["daily: pause", "sun 23:59-24:00: run"], True), (["daily 00:00-23:59: pause"], True),
        (["sat-sun: pause", "mon-fri: hold"], False), (["sun: run", "daily: pause"], False),
    ],
)  # fmt: skip
def test_hours_let_work_go_on_or_never_do(lines: list[str], works: bool) -> None:
    assert let_work([read_rule(*line.rsplit(": ", 1)) for line in lines]) is works


def test_the_last_rule_that_holds_counts() -> None:
    rules: list[Rule] = [read_rule("daily", "pause"), read_rule("22:00-06:00", "run")]
    utc = local_of("UTC")
    assert action_at(rules, utc, berlin("2025-06-02T12:00")) is Action.PAUSE
    assert action_at(rules, utc, berlin("2025-06-02T23:00")) is Action.RUN


@pytest.mark.parametrize(
    "when", ["", "mond", "mon 9-18", "mon 09:00-25:00", "mon 09:60-10:00", "mon 09:00-09:00", "a b c"]
)
def test_hours_that_cannot_be_read_are_refused(when: str) -> None:
    with pytest.raises(ValueError, match="expected"):
        read_rule(when, "pause")


def test_an_instant_nearly_a_week_away_has_its_date() -> None:
    now_s = berlin("2025-12-01T12:00")
    assert instant_words(BERLIN, berlin("2025-12-01T17:00"), now_s) == "Mon 18:00 CET"
    assert instant_words(BERLIN, berlin("2025-12-08T08:00"), now_s) == "Mon 8 Dec 09:00 CET"
