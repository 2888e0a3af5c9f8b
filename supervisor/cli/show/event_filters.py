"""Chooses records of an audit log: by event, experiment, trial, level, time and text. Standard library only."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fnmatch import fnmatch
from itertools import chain
from typing import Any

from supervisor.errors import UsageError
from supervisor.formatting import nearest

LEVELS = ("info", "warning", "error")
UNIT_S = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}


@dataclass
class Filters:
    """Chooses records; notes the names that it saw.

    By globs of `event` and `experiment`, a trial's number, the lowest `level`, the earliest time, and a `pattern` that
    one of a record's texts must have.
    """

    event: str | None = None
    experiment: str | None = None
    trial: int | None = None
    level: str | None = None
    since: datetime | None = None
    pattern: re.Pattern[str] | None = None
    experiments: set[str] = field(default_factory=set)
    trials: set[int] = field(default_factory=set)

    def pass_line(self, line: bytes) -> bool:
        """Return whether a line of the log is a record that passes all filters."""
        record = parse(line)
        if record is None:
            return False
        experiment, trial = record.get("experiment"), record.get("trial")
        of_experiment = experiment is not None and fnmatch(str(experiment), self.experiment or "*")
        if experiment is not None:
            self.experiments.add(str(experiment))
        if of_experiment and isinstance(trial, int):
            self.trials.add(trial)
        return (
            fnmatch(str(record.get("event", "")), self.event or "*")
            and (of_experiment or self.experiment is None)
            and (trial == self.trial or self.trial is None)
            and self._passes_rest(record)
        )

    def _passes_rest(self, record: dict[str, Any]) -> bool:
        if self.level is not None and _severity(record) < LEVELS.index(self.level):
            return False
        if self.since is not None and ((at := _when(record)) is None or at < self.since):
            return False
        texts = (value for key, value in record.items() if isinstance(value, str) and key not in ("ts", "prev"))
        return self.pattern is None or any(map(self.pattern.search, texts))

    def unknown(self) -> str | None:
        """Return which name the records that were seen do not have; None when each is there, or none was asked for."""
        if self.experiment is not None and not any(fnmatch(name, self.experiment) for name in self.experiments):
            return f"no experiment {self.experiment!r}; there are {', '.join(sorted(self.experiments)) or 'none'}"
        if self.trial is not None and self.trial not in self.trials:
            known = f"0 to {max(self.trials)}" if self.trials else "none"
            return f"no trial {self.trial}; there are {known}"
        return None


def _severity(record: dict[str, Any]) -> int:
    level = str(record.get("level"))
    # A level of another version is not hidden.
    return LEVELS.index(level) if level in LEVELS else len(LEVELS)


def check_event(glob: str) -> None:
    """Raise UsageError for a glob that no event's name matches."""
    from supervisor.store.event_catalog import EVENTS

    if not any(fnmatch(name, glob) for name in EVENTS):
        raise UsageError(f"no event has the name {glob!r}", remedy=nearest(glob, EVENTS) or "docs/events.md lists them")


def since_time(text: str, now: datetime) -> datetime:
    """Return the time of "2h" before `now`, or of an ISO 8601 time, in the zone of `now`. Raises UsageError."""
    try:
        if text[-1:] in UNIT_S:
            return now - timedelta(seconds=float(text[:-1]) * UNIT_S[text[-1]])
        at = datetime.fromisoformat(text)
    except (ValueError, OverflowError):
        remedy = "write 45s, 30m, 2h or 3d, or a time such as 2026-11-30T08:00"
        raise UsageError(f"expected a duration or a time, found {text!r}", remedy=remedy) from None
    return at if at.tzinfo is not None else at.replace(tzinfo=now.tzinfo)


def pattern_of(text: str | None) -> re.Pattern[str] | None:
    """Compile a regular expression. Raises UsageError."""
    try:
        return None if text is None else re.compile(text)
    except re.error as error:
        remedy = "write \\ before a sign that is meant as itself"
        raise UsageError(f"--grep {text!r} is no regular expression: {error}", remedy=remedy) from None


def parts_since(parts: Iterable[Iterable[bytes]], since: datetime | None) -> Iterator[Iterable[bytes]]:
    """Yield the older parts of a log, newest first, as far as the one that begins before `since`."""
    for part in parts:
        lines = iter(part)
        first = next(lines, b"")
        yield chain([first], lines)
        began = _when(parse(first) or {})
        if since is not None and began is not None and began < since:
            return


def _when(record: dict[str, Any]) -> datetime | None:
    """Return the time of a record; None where it has none that can be read."""
    try:
        at = datetime.fromisoformat(str(record.get("ts", "")))
    except ValueError:
        return None
    return at if at.tzinfo is not None else at.replace(tzinfo=UTC)


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None when it is no JSON object, which the log's own checks report."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
