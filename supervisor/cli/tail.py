"""Reads an audit log: its last lines that pass the filters, then new ones, across rotation and the daemon's restarts.

Standard library only. It reads the files, so it needs no daemon.
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from supervisor.audit.rotation import lines_of, older_parts
from supervisor.cli.watch import view_of
from supervisor.errors import NotFound, UsageError
from supervisor.formatting import nearest
from supervisor.home import Home
from supervisor.home_lock import is_held

POLL_S = 0.2


def tail(home: Home, arguments: argparse.Namespace) -> int:
    """Print the last lines that match; with -f those to come. Raises NotFound and UsageError for unknown names."""
    if arguments.event is not None:
        check_event(arguments.event)
    path = _log_of(home, arguments.plan or str(view_of(home)["run"]["plan"]))
    as_json = arguments.json or not (arguments.pretty or arguments.utc or sys.stdout.isatty())
    experiment, trial = arguments.trial or (None, None)
    if experiment and arguments.experiment and not fnmatch(experiment, arguments.experiment):
        raise UsageError(
            f"--trial {experiment}/{trial} is not of --experiment {arguments.experiment}",
            remedy="leave one of them out",
        )
    filters = Filters(arguments.event, experiment or arguments.experiment, trial)

    def show(line: bytes) -> None:
        now = datetime.now(UTC) if arguments.utc else datetime.now().astimezone()
        print(line.decode().rstrip("\n") if as_json else pretty(json.loads(line), now), flush=True)

    # Listed first: a log that is rotated meanwhile is then read once.
    older = reversed(older_parts(path))
    with path.open("rb") as file:
        lines = last_lines(file, arguments.lines, filters.pass_line, map(lines_of, older))
        for line in lines:
            show(line)
        if arguments.lines and not lines:
            _explain_nothing(filters.unknown(), path, follow=arguments.follow)
        if not arguments.follow:
            return 0
        print("==> Press Ctrl-C to exit <==", file=sys.stderr)
        try:
            # From the same open file: a line that is added between two opens would be missed.
            for line in follow(path, file, _DaemonWatch(home).sleep):
                if filters.pass_line(line):
                    show(line)
                if (parse(line) or {}).get("event") == "daemon.stopped":
                    break
        except FileNotFoundError as error:
            raise NotFound(f"the log {path} was removed") from error
    return 0


class _DaemonWatch:
    """Says when no daemon writes the log any more: it may have died, and a log that stands still looks the same."""

    def __init__(self, home: Home) -> None:
        self._home, self._alive = home, True

    def sleep(self, seconds: float) -> None:
        time.sleep(seconds)
        before, self._alive = self._alive, is_held(self._home)
        if before and not self._alive:
            where = f"no daemon is running for the home {self._home.root}"
            print(f"==> {where}; new lines come with the next start <==", file=sys.stderr)


def _explain_nothing(unknown: str | None, path: Path, *, follow: bool) -> None:
    """Say why no line is shown. Raises NotFound for an unknown name; with `follow` it may still come."""
    if unknown is not None and not follow:
        raise NotFound(f"{path} has {unknown}")
    print(f"no line of {path} matches{'' if unknown is None else f': it has {unknown}'}", file=sys.stderr)


def _log_of(home: Home, plan: str) -> Path:
    """Return the path of a plan's log. Raises NotFound with the logs that there are."""
    path = home.audit_log(plan)
    if not path.exists():
        plans = sorted(log.stem for log in home.logs.glob("*.jsonl") if log.stem != "debug")
        raise NotFound(
            f"no log at {path}",
            remedy=nearest(plan, plans) or f"there are logs of {', '.join(plans) or 'no plan yet'}",
        )
    return path


def last_lines(
    file: BinaryIO,
    count: int,
    passes: Callable[[bytes], bool] = lambda line: True,
    older: Iterable[Iterable[bytes]] = (),
) -> list[bytes]:
    """Return the last `count` whole lines that pass; the position of `file` is after its last line.

    `older` are the lines of the log's older parts, newest part first: read as far as the lines of `file` are too few.
    """
    found = deque(filter(passes, _whole_lines(file)), maxlen=count)
    for part in older:
        if len(found) >= count:
            break
        found.extendleft(reversed(deque(filter(passes, part), maxlen=count - len(found))))
    return list(found)


def follow(
    path: Path, file: BinaryIO, sleep: Callable[[float], None] = time.sleep, until: Callable[[], bool] = bool
) -> Iterator[bytes]:
    """Yield the new lines of `file`, the open `path`, until `until()`; then close it.

    A renamed file is read to its end before the new one of that name. Raises FileNotFoundError when there is no new
    one within a minute.
    """
    try:
        while not until():
            same = _same(file, path)
            # After that check: lines that were written before the renaming are still in the old file.
            yield from _whole_lines(file)
            if not same:
                file.close()
                file = _wait_for(path, sleep)
            else:
                sleep(POLL_S)
    finally:
        file.close()


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """Yield the lines to the end; half a line there is read again when it is complete."""
    while (line := file.readline()).endswith(b"\n"):
        yield line
    file.seek(-len(line), os.SEEK_CUR)


def _same(file: BinaryIO, path: Path) -> bool:
    try:
        there = path.stat()
    except FileNotFoundError:
        return False
    here = os.fstat(file.fileno())
    return (here.st_dev, here.st_ino) == (there.st_dev, there.st_ino)


def _wait_for(path: Path, sleep: Callable[[float], None]) -> BinaryIO:
    """Return the new file of that name. Raises FileNotFoundError after a minute."""
    for _ in range(int(60 / POLL_S)):
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb")
        sleep(POLL_S)
    return path.open("rb")


@dataclass
class Filters:
    """Chooses records by globs of `event` and `experiment` and by a trial's number; notes the names that it saw."""

    event: str | None = None
    experiment: str | None = None
    trial: int | None = None
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
        )

    def unknown(self) -> str | None:
        """Return which name the records that were seen do not have; None when each is there, or none was asked for."""
        if self.experiment is not None and not any(fnmatch(name, self.experiment) for name in self.experiments):
            return f"no experiment {self.experiment!r}; there are {', '.join(sorted(self.experiments)) or 'none'}"
        if self.trial is not None and self.trial not in self.trials:
            known = f"0 to {max(self.trials)}" if self.trials else "none"
            return f"no trial {self.trial}; there are {known}"
        return None


def check_event(glob: str) -> None:
    """Raise UsageError for a glob that no event's name matches."""
    from supervisor.store.event_catalog import EVENTS

    if not any(fnmatch(name, glob) for name in EVENTS):
        raise UsageError(f"no event has the name {glob!r}", remedy=nearest(glob, EVENTS) or "docs/events.md lists them")


def pretty(record: dict[str, Any], now: datetime) -> str:
    """Return a record as a line for people: time in the zone of `now`, its date when not today's, and a sentence."""
    mark = {"warning": "! ", "error": "!! "}.get(str(record.get("level")), "")
    where = f"{record['experiment']}: " if "experiment" in record else ""
    sentence = " ".join(str(record.get("msg", "")).split())
    return f"{_time(str(record.get('ts', '')), now)}  {mark}{where}{sentence}"


def _time(text: str, now: datetime) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    at = at.astimezone(now.tzinfo)
    return at.strftime("%H:%M:%S %Z" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z")


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None when it is no JSON object, which the log's own checks report."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
