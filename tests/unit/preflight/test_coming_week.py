"""The week to come, as `check` and the dry run print it, and the schedule as a run keeps it."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from supervisor.domain.work_schedule import read_schedule
from supervisor.plan.loader import parse_plan
from supervisor.plan.schema import Plan
from supervisor.preflight.coming_week import schedule_of, week_lines

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
    assert week_lines(plan_with(NIGHTS), SATURDAY) == [
        "when to work: now pause",
        "  Sat 22:00 CET  run",
        "  Sun 06:00 CEST  pause",
        "  Sun 22:00 CEST  run",
        "  Mon 06:00 CEST  pause",
        "  hold while on battery",
    ]


def test_a_plan_without_a_schedule_prints_and_keeps_nothing() -> None:
    plan = parse_plan(MINIMAL, "mine.yaml").plan
    assert (week_lines(plan, SATURDAY), schedule_of(plan)) == ([], None)


def test_a_run_keeps_the_schedule_in_an_order_that_no_store_changes() -> None:
    kept: dict[str, Any] | None = schedule_of(plan_with(NIGHTS))
    assert kept is not None
    assert kept["hours"] == ["daily: pause", "sat-sun 22:00-06:00: run"]
    assert read_schedule(kept).to_json() == kept
