"""Follows an audit log: the last lines, then what is added, across rotation and the daemon's restarts.

Standard library only. Reads the file, so it works with no daemon.
"""

from __future__ import annotations

import contextlib
import json
import os
import time
from collections import deque
from collections.abc import Callable, Iterator
from fnmatch import fnmatch
from pathlib import Path
from typing import Any, BinaryIO

POLL_S = 0.2


def last_lines(file: BinaryIO, count: int) -> list[bytes]:
    """The last `count` whole lines; the file stands after them."""
    return list(deque(_whole_lines(file), maxlen=count))


def follow(
    path: Path, file: BinaryIO, sleep: Callable[[float], None] = time.sleep, until: Callable[[], bool] = bool
) -> Iterator[bytes]:
    """Lines after where `file`, the open `path`, stands, as they come, until `until()`. Closes it.

    A file renamed away is read to its end before the new one of its name. Raises FileNotFoundError when there is none
    within a minute.
    """
    try:
        while not until():
            same = _same(file, path)
            # After that look: what was written before the renaming must not be lost with the old file.
            yield from _whole_lines(file)
            if not same:
                file.close()
                file = _wait_for(path, sleep)
            else:
                sleep(POLL_S)
    finally:
        file.close()


def _whole_lines(file: BinaryIO) -> Iterator[bytes]:
    """To the end, but for half a line there: the writer's other half comes with the next read."""
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
    """The new file of that name; bounded by a minute, then FileNotFoundError."""
    for _ in range(int(60 / POLL_S)):
        with contextlib.suppress(FileNotFoundError):
            return path.open("rb")
        sleep(POLL_S)
    return path.open("rb")


def wanted(record: dict[str, Any], event: str | None, experiment: str | None, trial: int | None) -> bool:
    """Whether a record passes the filters; `event` and `experiment` are globs."""
    return (
        (event is None or fnmatch(str(record.get("event", "")), event))
        and (experiment is None or fnmatch(str(record.get("experiment", "")), experiment))
        and (trial is None or record.get("trial") == trial)
    )


def pretty(record: dict[str, Any]) -> str:
    """A record as a line for people: local clock, level when it matters, experiment, sentence."""
    mark = {"warning": "! ", "error": "!! "}.get(str(record.get("level")), "")
    where = f"{record['experiment']}: " if "experiment" in record else ""
    return f"{str(record.get('ts', ''))[11:19]}  {mark}{where}{record.get('msg', '')}"


def parse(line: bytes) -> dict[str, Any] | None:
    """None for a line that is not a JSON object; the log's own checks tell of those."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
