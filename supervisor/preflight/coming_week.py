"""Shows what a plan's schedule does in the coming week, before anything starts."""

from __future__ import annotations

from collections.abc import Mapping
from itertools import islice
from typing import Any

from supervisor.domain.weekly_hours import ACTIONS, WEEK_S, action_at, changes, instant_words
from supervisor.domain.work_schedule import Schedule, read_schedule

MAX_CHANGES = 30


def week_lines(schedule: Mapping[str, Any] | None, now_s: float) -> list[str]:
    """Return what a run's schedule says now, each change within a week, and its conditions; nothing without one."""
    return _lines(read_schedule(schedule), now_s) if schedule else []


def _lines(schedule: Schedule, now_s: float) -> list[str]:
    words = {action: word for word, action in ACTIONS.items()}
    local, rules = schedule.local, schedule.rules
    lines = [f"when to work: now {words[action_at(rules, local, now_s)]}"]
    found = list(islice(changes(rules, local, now_s, WEEK_S), MAX_CHANGES + 1))
    lines += [f"  {instant_words(local, at, now_s)}  {words[action]}" for at, action in found[:MAX_CHANGES]]
    if len(found) > MAX_CHANGES:
        lines.append("  and so on")
    if schedule.while_active is not None:
        idle = f"{schedule.idle_minutes:g} idle minutes"
        lines.append(f"  {words[schedule.while_active]} while a user is active, and until {idle}")
    if schedule.on_battery is not None:
        lines.append(f"  {words[schedule.on_battery]} while on battery")
    return lines
