"""Decides when to work: hours of the week, a user at the machine, a battery. Pure; standard library only.

The third origin of commands, beside the operator and the governor; the strictest of all three is in force.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.time_accounting import BY_SCHEDULE
from supervisor.domain.weekly_hours import (
    ACTIONS,
    MAX_RULES,
    MAX_SPANS,
    Local,
    Rule,
    instant_words,
    local_of,
    next_change,
    read_rule,
    rule_at,
)

KEYS = ("zone", "hours", "while_active", "idle_minutes", "on_battery")
IDLE_MINUTES = 10.0
ON_BATTERY = "while on battery"
"""The words of a reason that holds for the battery; news tell it by them (daemon.news.topics)."""
SET_BACK_S = 300.0
"""A clock that was set back by more ends an overruling: its end would lie further away than a person asked for."""
EXAMPLES = {
    "hours": "write it so: `mon-fri 09:00-18:00: pause`; hours without a line are for work",
    "zone": "write an IANA zone, such as `zone: Europe/Berlin`; left out, it is the machine's",
    "while_active": "write it so: `while_active: pause`",
    "idle_minutes": "write it so: `idle_minutes: 10`",
    "on_battery": "write it so: `on_battery: pause`",
}


class ScheduleError(ValueError):
    """Says what is wrong with a schedule: the path of the key below `schedule`, the problem and its cure."""

    def __init__(self, path: tuple[str | int, ...], what: str, remedy: str) -> None:
        super().__init__(what)
        self.path, self.what, self.remedy = path, what, remedy


@dataclass(frozen=True)
class Unknown:
    """Stands for a state of the surroundings that nothing tells. It is neither yes nor no."""

    reason: str


NOT_ASKED = Unknown("it was not looked at yet")


@dataclass(frozen=True)
class Surroundings:
    """Holds the seconds since a user was active (infinite: none is there), and whether a battery drains."""

    idle_s: float | Unknown = NOT_ASKED
    on_battery: bool | Unknown = NOT_ASKED


@dataclass(frozen=True)
class Schedule:
    """Holds when to work. `zone` None is the machine's; an action None is not asked for.

    Of the rules of `hours` the last that holds counts.
    """

    rules: tuple[Rule, ...] = ()
    zone: str | None = None
    while_active: Action | None = None
    idle_minutes: float = IDLE_MINUTES
    on_battery: Action | None = None

    @cached_property
    def local(self) -> Local:
        """The clock of the schedule's zone."""
        return local_of(self.zone)

    def to_json(self) -> dict[str, Any]:
        """Return the schedule as `read_schedule` reads it. A list keeps the order of the hours in every store."""
        words = {action: word for word, action in ACTIONS.items()}
        return {
            "hours": [rule.text for rule in self.rules],
            "zone": self.zone,
            "while_active": None if self.while_active is None else words[self.while_active],
            "idle_minutes": self.idle_minutes,
            "on_battery": None if self.on_battery is None else words[self.on_battery],
        }


def read_schedule(value: object) -> Schedule:
    """Return the schedule of a plan's `hardware.schedule`. Raises ScheduleError."""
    if not isinstance(value, Mapping):
        raise ScheduleError((), f"expected a mapping, found {_shown(value)}", f"keys: {', '.join(KEYS)}")
    for key in value:
        if key not in KEYS:
            raise ScheduleError((key,), "unknown key", f"keys: {', '.join(KEYS)}")
    schedule = Schedule(
        rules=_rules(value.get("hours")),
        zone=_zone(value.get("zone")),
        while_active=_action(value.get("while_active"), "while_active"),
        idle_minutes=_minutes(value.get("idle_minutes")),
        on_battery=_action(value.get("on_battery"), "on_battery"),
    )
    if not schedule.rules and schedule.while_active is None and schedule.on_battery is None:
        raise ScheduleError((), "expected hours, while_active or on_battery, found none", EXAMPLES["hours"])
    return schedule


def _shown(value: object) -> str:
    return json.dumps(value, default=repr)[:60]


def _rules(value: object) -> tuple[Rule, ...]:
    """Return the rules of {WHEN: ACTION, ...} or ["WHEN: ACTION", ...]."""
    if value is None:
        return ()
    pairs: list[tuple[str | int, str, object]]
    if isinstance(value, Mapping):
        pairs = [(str(when), str(when), action) for when, action in value.items()]
    elif isinstance(value, list | tuple):
        split = [str(line).rpartition(":") for line in value]
        pairs = [(place, when, action.strip()) for place, (when, _, action) in enumerate(split)]
    else:
        raise ScheduleError(("hours",), f"expected DAYS HOURS: ACTION, found {_shown(value)}", EXAMPLES["hours"])
    if len(pairs) > MAX_RULES:
        raise ScheduleError(("hours",), f"expected at most {MAX_RULES} lines, found {len(pairs)}", "shorten them")
    rules = tuple(_rule(place, when, action) for place, when, action in pairs)
    if (spans := sum(len(rule.spans) for rule in rules)) > MAX_SPANS:
        raise ScheduleError(("hours",), f"expected at most {MAX_SPANS} spans in a week, found {spans}", "shorten them")
    return rules


def _rule(place: str | int, when: str, action: object) -> Rule:
    try:
        return read_rule(when, action)
    except ValueError as error:
        raise ScheduleError(("hours", place), str(error), EXAMPLES["hours"]) from None


def _zone(value: object) -> str | None:
    if value is None:
        return None
    try:
        local_of(str(value))
    except ValueError as error:
        raise ScheduleError(("zone",), f"expected an IANA zone: {error}", EXAMPLES["zone"]) from None
    return str(value)


def _action(value: object, key: str) -> Action | None:
    if value is None:
        return None
    if value not in ACTIONS:
        raise ScheduleError((key,), f"expected {', '.join(ACTIONS)}, found {_shown(value)}", EXAMPLES[key])
    return ACTIONS[str(value)]


def _minutes(value: object) -> float:
    if value is None:
        return IDLE_MINUTES
    if isinstance(value, bool) or not isinstance(value, int | float) or not 1 <= value <= 1440:
        what = f"expected minutes from 1 to 1440, found {_shown(value)}"
        raise ScheduleError(("idle_minutes",), what, EXAMPLES["idle_minutes"])
    return float(value)


def decide(schedule: Schedule, now_s: float, seen: Surroundings, overruled: Command | None = None) -> Command:
    """Return the schedule's command at `now_s`, seconds since the epoch: the strictest of its parts.

    `overruled` is a person's command in place of it, while `overrules` holds. An unknown state restrains like a yes:
    absence never lifts a pause. Of two as strict, that of the hours counts, since it says until when.
    """
    if overruled is not None and overrules(overruled, now_s):
        return overruled
    parts = [_by_hours(schedule, now_s), _by_user(schedule, seen), _by_battery(schedule, seen)]
    return max((part for part in parts if part is not None), key=lambda command: command.step)


def _by_hours(schedule: Schedule, now_s: float) -> Command:
    rule = rule_at(schedule.rules, schedule.local, now_s)
    until_s = next_change(schedule.rules, schedule.local, now_s)
    until = "" if until_s is None else f" until {instant_words(schedule.local, until_s, now_s)}"
    why = "" if rule is None else f" ({rule.text.rpartition(':')[0]})"
    action = Action.RUN if rule is None else rule.action
    return Command(action, Origin.SCHEDULE, f"{BY_SCHEDULE}{until}{why}", until_wall=until_s)


def _by_user(schedule: Schedule, seen: Surroundings) -> Command | None:
    if schedule.while_active is None:
        return None
    if isinstance(seen.idle_s, Unknown):
        why = f"since it is unknown whether a user is active: {seen.idle_s.reason}"
    elif seen.idle_s < schedule.idle_minutes * 60:
        why = f"while a user is active, until {schedule.idle_minutes:g} idle minutes"
    else:
        return None
    return Command(schedule.while_active, Origin.SCHEDULE, f"{BY_SCHEDULE} {why}")


def _by_battery(schedule: Schedule, seen: Surroundings) -> Command | None:
    if schedule.on_battery is None or seen.on_battery is False:
        return None
    unknown = seen.on_battery if isinstance(seen.on_battery, Unknown) else None
    why = ON_BATTERY if unknown is None else f"since the battery is unknown: {unknown.reason}"
    return Command(schedule.on_battery, Origin.SCHEDULE, f"{BY_SCHEDULE} {why}")


def overruling(schedule: Schedule, now_s: float, for_s: float, who: str) -> Command:
    """Return a person's command in place of the schedule's, for `for_s` seconds."""
    until_s = now_s + for_s
    reason = f"{BY_SCHEDULE}, overruled by {who} until {instant_words(schedule.local, until_s, now_s)}"
    return Command(Action.RUN, Origin.SCHEDULE, reason, since_wall=now_s, who=who, until_wall=until_s)


def overrules(command: Command, now_s: float) -> bool:
    """Return whether a command of the schedule is a person's, and its time is not over."""
    if command.who is None or command.since_wall is None or command.until_wall is None:
        return False
    return command.since_wall - SET_BACK_S <= now_s < command.until_wall


def unknowns(schedule: Schedule, seen: Surroundings) -> list[tuple[str, str]]:
    """Return what the schedule asks for and nothing tells, each with the reason."""
    asked = [
        ("whether a user is active", schedule.while_active, seen.idle_s),
        ("whether a battery drains", schedule.on_battery, seen.on_battery),
    ]
    return [(what, found.reason) for what, action, found in asked if action is not None and isinstance(found, Unknown)]
