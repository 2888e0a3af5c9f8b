"""Looks at what a schedule asks about this machine: whether a user is active, and whether a battery drains."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

from supervisor.clock import Clock
from supervisor.domain.work_schedule import Schedule, Surroundings, Unknown, read_schedule, unknowns
from supervisor.plan.schema import Plan
from supervisor.preflight.machine import Check, Level, ok
from supervisor.sensors.presence import IdleTime, PowerSource
from supervisor.sensors.provider import Absence

T = TypeVar("T", bool, float)
Look = Callable[[Schedule], Surroundings]
"""Returns the surroundings, as far as a schedule asks for them. It may block: a daemon calls it in a thread."""


def look_at_machine(clock: Clock) -> Look:
    """Return the look at this machine."""
    idle, power = IdleTime(clock), PowerSource.of_machine(clock)

    def look(schedule: Schedule) -> Surroundings:
        seen = Surroundings()
        if schedule.while_active is not None:
            seen = replace(seen, idle_s=_known(idle.seconds()))
        if schedule.on_battery is not None:
            seen = replace(seen, on_battery=_known(power.drains()))
        return seen

    return look


def _known(found: T | Absence) -> T | Unknown:
    return Unknown(found.detail) if isinstance(found, Absence) else found


def check_schedule(plan: Plan, look: Look | None = None) -> list[Check]:
    """Check that this machine tells what the plan's schedule asks; without a schedule there is no check."""
    if plan.schedule is None:
        return []
    schedule = read_schedule(plan.schedule)
    found = unknowns(schedule, (look or look_at_machine(Clock()))(schedule))
    if not found:
        return [ok("schedule", "this machine tells what it asks")]
    detail = "; ".join(f"it is unknown {what} ({why})" for what, why in found)
    cure = "install or start what is missing, or take `while_active` or `on_battery` out of the schedule"
    return [Check("schedule", Level.WARNING, f"{detail}: this counts like a yes, so it may hold the work back", cure)]
