"""Follows an audit log: its last lines, then new ones, across rotation and the daemon's restarts.

Standard library only. It reads the file, so it needs no daemon.
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
    """Return the last `count` whole lines; the file's position is after them."""
    return list(deque(_whole_lines(file), maxlen=count))


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


def wanted(record: dict[str, Any], event: str | None, experiment: str | None, trial: int | None) -> bool:
    """Return whether a record passes the filters; `event` and `experiment` are globs."""
    return (
        (event is None or fnmatch(str(record.get("event", "")), event))
        and (experiment is None or fnmatch(str(record.get("experiment", "")), experiment))
        and (trial is None or record.get("trial") == trial)
    )


def pretty(record: dict[str, Any]) -> str:
    """Return a record as a line for people: time of day (UTC), level when it matters, experiment, sentence."""
    mark = {"warning": "! ", "error": "!! "}.get(str(record.get("level")), "")
    where = f"{record['experiment']}: " if "experiment" in record else ""
    return f"{str(record.get('ts', ''))[11:19]}  {mark}{where}{record.get('msg', '')}"


def parse(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None when it is no JSON object, which the log's own checks report."""
    try:
        record = json.loads(line)
    except ValueError:
        return None
    return record if isinstance(record, dict) else None
