"""Shows what a plan's schedule does in the coming week, before anything starts."""

from __future__ import annotations

from itertools import islice
from typing import Any

from supervisor.domain.weekly_hours import ACTIONS, WEEK_S, action_at, changes, instant_words
from supervisor.domain.work_schedule import Schedule, read_schedule
from supervisor.plan.schema import Plan

MAX_CHANGES = 30


def schedule_of(plan: Plan) -> dict[str, Any] | None:
    """Return the plan's schedule as a run keeps it; None without one."""
    value = plan.hardware.get("schedule")
    return None if value is None else read_schedule(value).to_json()


def week_lines(plan: Plan, now_s: float) -> list[str]:
    """Return the schedule now, each change of it within a week, and its conditions; nothing without a schedule."""
    value = plan.hardware.get("schedule")
    return [] if value is None else _lines(read_schedule(value), now_s)


def _lines(schedule: Schedule, now_s: float) -> list[str]:
    words = {action: word for word, action in ACTIONS.items()}
    local, rules = schedule.local, schedule.rules
    lines = [f"when to work: now {words[action_at(rules, local, now_s)]}"]
    for at, action in islice(changes(rules, local, now_s, WEEK_S), MAX_CHANGES):
        lines.append(f"  {instant_words(local, at, now_s)}  {words[action]}")
    if schedule.while_active is not None:
        idle = f"{schedule.idle_minutes:g} idle minutes"
        lines.append(f"  {words[schedule.while_active]} while a user is active, and until {idle}")
    if schedule.on_battery is not None:
        lines.append(f"  {words[schedule.on_battery]} while on battery")
    return lines
