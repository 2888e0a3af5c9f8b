"""The week to come, as `check` and the dry run print it, and the schedule as a run keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from supervisor.domain.work_schedule import Surroundings, Unknown, read_schedule
from supervisor.plan.loader import parse_plan
from supervisor.plan.schema import Plan
from supervisor.preflight.coming_week import MAX_CHANGES, week_lines
from supervisor.preflight.machine import Level
from supervisor.preflight.surroundings import check_schedule

MINIMAL = (
    "name: mine\ntrainable: mine:train\nspace: {x: {type: float, low: 0, high: 1}}\nmax_trials: 2\nmax_epochs: 2\n"
)
SATURDAY = datetime(2025, 3, 29, 12, tzinfo=UTC).timestamp()


def plan_with(schedule: str) -> Plan:
    return parse_plan(f"{MINIMAL}hardware:\n  schedule:\n{schedule}", "mine.yaml").plan


NIGHTS = (
    "    zone: Europe/Berlin\n    hours:\n      daily: pause\n      sat-sun 22:00-06:00: run\n    on_battery: hold\n"
)


def test_each_change_within_a_week_is_a_line_in_the_zones_time_over_a_change_of_its_clocks() -> None:
    assert week_lines(plan_with(NIGHTS).schedule, SATURDAY) == [
        "when to work: now pause",
        "  Sat 22:00 CET  run",
        "  Sun 06:00 CEST  pause",
        "  Sun 22:00 CEST  run",
        "  Mon 06:00 CEST  pause",
        "  hold while on battery",
    ]


def test_a_schedule_of_many_changes_says_that_there_are_more() -> None:
    hours = {f"{hour:02}:00-{hour:02}:30": "pause" for hour in range(24)}
    lines = week_lines({"zone": "UTC", "hours": hours}, SATURDAY)
    assert len(lines) == MAX_CHANGES + 2
    assert lines[-1] == "  and so on"


def test_what_a_schedule_asks_and_this_machine_does_not_tell_is_a_warning_before_the_start() -> None:
    seen = Surroundings(Unknown("loginctl is not installed"), Unknown("unread"))
    (found,) = check_schedule(plan_with("    while_active: pause\n"), lambda _: seen)
    assert (found.level, "unread" in found.detail) == (Level.WARNING, False)
    assert "it is unknown whether a user is active (loginctl is not installed)" in found.detail
    (found,) = check_schedule(plan_with("    while_active: pause\n"), lambda _: Surroundings(0.0))
    assert found.level is Level.OK
    assert check_schedule(parse_plan(MINIMAL, "mine.yaml").plan) == []


def test_a_plan_without_a_schedule_prints_and_keeps_nothing() -> None:
    plan = parse_plan(MINIMAL, "mine.yaml").plan
    assert (week_lines(plan.schedule, SATURDAY), plan.schedule) == ([], None)


def test_a_run_keeps_the_schedule_in_an_order_that_no_store_changes() -> None:
    kept: dict[str, Any] | None = plan_with(NIGHTS).schedule
    assert kept is not None
    assert kept["hours"] == ["daily: pause", "sat-sun 22:00-06:00: run"]
    assert read_schedule(kept).to_json() == kept
