"""Reads weekly hours: their action at an instant, and the instant of its next change. Pure; standard library only.

The hours mean what a clock on the wall shows. A time that the clock skips never comes: hours that begin in it begin
with the first minute after it. A time that the clock shows twice counts both times.
"""

from __future__ import annotations

import math
import re
import time
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from supervisor.domain.command import Action

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
_MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")
DAY, WEEK = 1440, 10080
"""Minutes of a day and of a week."""
WEEK_S = WEEK * 60.0
ACTIONS = {"run": Action.RUN, "hold": Action.HOLD, "pause": Action.PAUSE}
"""The words for an action: work, start no new trials, stop at the next batch."""
MAX_RULES = 50
MAX_SPANS = 400
"""Spans of all rules in a week; the search for the next change takes 0.1 s with so many."""
HORIZON_S = 15 * 86_400
"""A change that comes at all comes within two weeks and a day: a skipped hour lets a weekly one fall out once."""
_PROBE_S = 6 * 3600
"""No two changes of a zone's offset lie so close together."""

_TIMES = re.compile(r"(\d{1,2}):(\d{2})-(\d{1,2}):(\d{2})")


@dataclass(frozen=True)
class Rule:
    """Holds one line of weekly hours; `spans` are its first minutes of the week and their lengths, in minutes."""

    text: str
    action: Action
    spans: tuple[tuple[int, int], ...]

    def covers(self, minute: int) -> bool:
        """Return whether the rule holds in that minute of the week; Monday 00:00 is 0."""
        return any((minute - begin) % WEEK < length for begin, length in self.spans)


@dataclass(frozen=True)
class LocalTime:
    """Holds what a clock on the wall shows at an instant. `week_s` is seconds since Monday 00:00."""

    week_s: int
    offset_s: int
    zone: str
    day: int
    month: int


Local = Callable[[float], LocalTime]
"""Returns the local time of an instant, in seconds since the epoch."""


def local_of(zone: str | None) -> Local:
    """Return the clock of an IANA zone; the machine's with None. Raises ValueError for an unknown zone."""
    if zone is None:
        return _of_machine
    from zoneinfo import ZoneInfo

    try:
        known = ZoneInfo(zone)
    except (OSError, ValueError, KeyError) as error:
        raise ValueError(f"there is no zone {zone}") from error

    def local(wall_s: float) -> LocalTime:
        found = datetime.fromtimestamp(wall_s, known)
        offset = found.utcoffset()
        seconds = ((found.weekday() * 24 + found.hour) * 60 + found.minute) * 60 + found.second
        offset_s = 0 if offset is None else round(offset.total_seconds())
        return LocalTime(seconds, offset_s, found.tzname() or zone, found.day, found.month)

    return local


def _of_machine(wall_s: float) -> LocalTime:
    found = time.localtime(wall_s)
    seconds = ((found.tm_wday * 24 + found.tm_hour) * 60 + found.tm_min) * 60 + min(59, found.tm_sec)
    return LocalTime(seconds, found.tm_gmtoff, found.tm_zone, found.tm_mday, found.tm_mon)


def rule_at(rules: Sequence[Rule], local: Local, wall_s: float) -> Rule | None:
    """Return the last rule that holds at an instant; None where none does, which means work."""
    return _rule_in(rules, local(wall_s).week_s // 60)


def _rule_in(rules: Sequence[Rule], minute: int) -> Rule | None:
    return next((rule for rule in reversed(rules) if rule.covers(minute)), None)


def action_at(rules: Sequence[Rule], local: Local, wall_s: float) -> Action:
    """Return the action of the rules at an instant."""
    return _action(rule_at(rules, local, wall_s))


def _action(rule: Rule | None) -> Action:
    return Action.RUN if rule is None else rule.action


def let_work(rules: Sequence[Rule]) -> bool:
    """Return whether a week of the rules has a minute in which work goes on."""
    return any(_action(_rule_in(rules, minute)) is Action.RUN for minute in {0, *_edges(rules)})


def _edges(rules: Sequence[Rule]) -> list[int]:
    """Return the minutes of the week in which a span begins or has ended, in order."""
    spans = (span for rule in rules for span in rule.spans)
    return sorted({edge % WEEK for begin, length in spans for edge in (begin, begin + length)})


def next_change(rules: Sequence[Rule], local: Local, wall_s: float) -> float | None:
    """Return the first instant after `wall_s` with another action; None when there is none within HORIZON_S."""
    edges = _edges(rules)
    if not edges:
        return None
    at, before = float(math.floor(wall_s)), action_at(rules, local, wall_s)
    while at - wall_s < HORIZON_S:
        at += _step(edges, local, at)
        if action_at(rules, local, at) is not before:
            return at
    return None


def _step(edges: Sequence[int], local: Local, at: float) -> int:
    """Return the seconds to the next edge of a rule or change of the zone's offset; at most _PROBE_S."""
    here = local(at)
    later = bisect_right(edges, here.week_s // 60)
    edge = edges[later] if later < len(edges) else edges[0] + WEEK
    step = min(_PROBE_S, edge * 60 - here.week_s)
    if local(at + step).offset_s == here.offset_s:
        return step
    low, high = 0, step
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if local(at + middle).offset_s == here.offset_s else (low, middle)
    return high


def changes(rules: Sequence[Rule], local: Local, wall_s: float, for_s: float) -> Iterator[tuple[float, Action]]:
    """Yield the changes within `for_s` seconds after `wall_s`: the instant and the action from then on."""
    end_s = wall_s + for_s
    at = next_change(rules, local, wall_s)
    while at is not None and at <= end_s:
        yield at, action_at(rules, local, at)
        at = next_change(rules, local, at)


def instant_words(local: Local, wall_s: float, now_s: float) -> str:
    """Return an instant for people, such as "Mon 18:00 CET"; with its date when it is nearly a week away."""
    found = local(wall_s)
    minute = found.week_s // 60
    date = f" {found.day} {_MONTHS[found.month - 1]}" if wall_s - now_s > 6 * 86_400 else ""
    return f"{DAYS[minute // DAY].title()}{date} {minute % DAY // 60:02}:{minute % 60:02} {found.zone}"


def read_rule(when: str, action: object) -> Rule:
    """Return the rule of "mon-fri 09:00-18:00" and "pause". Raises ValueError with what was expected."""
    word = str(action).strip().lower()
    if word not in ACTIONS:
        raise ValueError(f"expected the action {', '.join(ACTIONS)}, found {action!r:.60}")
    days, times = set(range(7)), [(0, DAY)]
    words = when.strip().lower().split()
    if not 1 <= len(words) <= 2:
        raise ValueError(f"expected DAYS, HOURS or DAYS HOURS, found {when!r:.60}")
    if ":" not in words[0]:
        days = _days(words.pop(0))
    if words:
        times = [_times(part) for part in words[0].split(",")]
    spans = tuple((day * DAY + begin, length) for day in sorted(days) for begin, length in times)
    return Rule(f"{' '.join(when.split())}: {word}", ACTIONS[word], spans)


def _days(text: str) -> set[int]:
    if text == "daily":
        return set(range(7))
    found: set[int] = set()
    for part in text.split(","):
        first, _, last = part.partition("-")
        for name in (first, last or first):
            if name not in DAYS:
                raise ValueError(f"expected days such as mon, mon-fri, sat,sun or daily, found {name!r:.60}")
        begin, end = DAYS.index(first), DAYS.index(last or first)
        found |= {(begin + offset) % 7 for offset in range((end - begin) % 7 + 1)}
    return found


def _times(text: str) -> tuple[int, int]:
    """Return begin and length in minutes; hours that end before they begin end on the next day."""
    found = _TIMES.fullmatch(text)
    begin, end = (int(found[1]) * 60 + int(found[2]), int(found[3]) * 60 + int(found[4])) if found else (0, 0)
    if found is None or begin >= DAY or end > DAY or int(found[2]) > 59 or int(found[4]) > 59:
        raise ValueError(f"expected hours such as 09:00-18:00 or 22:00-06:00, found {text!r:.60}")
    if begin == end:
        raise ValueError(f"expected hours that end at another time than they begin, found {text!r:.60}")
    return begin, (end - begin) % DAY or DAY
