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
from datetime import UTC, datetime
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

from supervisor.audit.rotation import lines_of, older_parts
from supervisor.cli.show.event_filters import Filters, check_event, parse, parts_since, pattern_of, since_time
from supervisor.cli.show.output_reader import check_reader
from supervisor.cli.watch import view_of
from supervisor.errors import NotFound, UsageError
from supervisor.formatting import nearest, printable
from supervisor.home import Home
from supervisor.home_lock import is_held

POLL_S = 0.2
DEFAULT_LINES, MAX_LINES = 20, 1_000_000
LOOK_BACK_BYTES = 64 * 1024
RUN_OVER = ("run.finished", "run.failed", "run.stopped")


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
    since = None if arguments.since is None else since_time(arguments.since, datetime.now().astimezone())
    filters = Filters(
        arguments.event, experiment or arguments.experiment, trial, arguments.level, since, pattern_of(arguments.grep)
    )
    count = arguments.lines if arguments.lines is not None else DEFAULT_LINES if since is None else MAX_LINES

    def show(line: bytes) -> None:
        now = datetime.now(UTC) if arguments.utc else datetime.now().astimezone()
        print(line.decode().rstrip("\n") if as_json else pretty(json.loads(line), now), flush=True)

    # Listed first: a log that is rotated meanwhile is then read once.
    older = reversed(older_parts(path))
    with path.open("rb") as file:
        lines = last_lines(file, count, filters.pass_line, parts_since(map(lines_of, older), since))
        for line in lines:
            show(line)
        if count and not lines:
            # What is older than `since` was not read, so it is not known which names it has.
            _explain_nothing(filters.unknown() if since is None else None, path, follow=arguments.follow)
        if not arguments.follow:
            return 0
        print("==> Press Ctrl-C to exit <==", file=sys.stderr)
        try:
            end = _RunEnd(file)
            # From the same open file: a line that is added between two opens would be missed.
            for line in follow(path, file, _DaemonWatch(home).sleep):
                if filters.pass_line(line):
                    show(line)
                if end.is_at(line):
                    break
        except FileNotFoundError as error:
            raise NotFound(f"the log {path} was removed") from error
    return 0


class _RunEnd:
    """Finds a run's last line: a daemon that stops without the run's end is only away, and the log goes on."""

    def __init__(self, file: BinaryIO) -> None:
        """Begin at the position of `file`; the end of the run may stand before it."""
        self._over, here = False, file.tell()
        file.seek(max(0, here - LOOK_BACK_BYTES))
        for line in file.read(here - file.tell()).splitlines():
            self.is_at(line)

    def is_at(self, line: bytes) -> bool:
        """Return whether `line`, the next one, is the last of a run that has ended."""
        event = (parse(line) or {}).get("event")
        self._over = event in RUN_OVER or (self._over and event != "run.started")
        return self._over and event == "daemon.stopped"


class _DaemonWatch:
    """Says when no daemon writes the log any more: it may have died, and a log that stands still looks the same."""

    def __init__(self, home: Home) -> None:
        self._home, self._alive = home, True

    def sleep(self, seconds: float) -> None:
        check_reader(sys.stdout)
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


def pretty(record: dict[str, Any], now: datetime) -> str:
    """Return a record as a line for people: time in the zone of `now`, its date when not today's, and a sentence."""
    mark = {"warning": "! ", "error": "!! "}.get(str(record.get("level")), "")
    where = f"{record['experiment']}: " if "experiment" in record else ""
    sentence = " ".join(printable(str(record.get("msg", ""))).split())
    return f"{_time(str(record.get('ts', '')), now)}  {mark}{where}{sentence}"


def _time(text: str, now: datetime) -> str:
    try:
        at = datetime.fromisoformat(text)
    except ValueError:
        return text
    at = at.astimezone(now.tzinfo)
    return at.strftime("%H:%M:%S %Z" if at.date() == now.date() else "%Y-%m-%d %H:%M:%S %Z")
