"""logs/PLAN.jsonl: every event of a plan's runs as one JSON object a line, fsynced. The daemon is its one writer.

The store holds the same events, so this file can lag (a crash between commit and append) but never lead: what is
missing at its end is appended at the next start, and a torn last line is cut off.
"""

from __future__ import annotations

import errno
import json
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import structlog

from supervisor.errors import SweepError
from supervisor.event_table import EVENTS, describe
from supervisor.store import Event, Store

_TAIL_BYTES = 4 * 1024 * 1024


def as_record(event: Event) -> dict[str, Any]:
    """The line of an event, less its level and name: field order is for the eye."""
    ids = {"run": event.run, "experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}
    known = {key: value for key, value in ids.items() if value is not None}
    return {
        "seq": event.seq,
        "msg": describe(event.name, {**known, **event.fields}),
        **known,
        **event.fields,
    }


def _stamp(wall_s: float) -> str:
    """RFC 3339, UTC, microseconds."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


class _WholeLines:
    """A file that takes a line whole and onto the disk, or not at all: a full disk stops a write(2) halfway."""

    def __init__(self, fd: int) -> None:
        self._fd = fd

    def write(self, line: bytes) -> None:
        start = os.fstat(self._fd).st_size
        try:
            written = os.write(self._fd, line)
            os.fsync(self._fd)
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        if written != len(line):
            os.ftruncate(self._fd, start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def flush(self) -> None:
        """Nothing is held back."""


class AuditLog:
    """Appends; one write(2) a line, so that no reader sees half of one."""

    def __init__(self, path: Path) -> None:
        """Opens or creates `path`, 0600; cuts a torn tail.

        Raises SweepError when it cannot be opened for writing (a link is not followed) or is no log of ours.
        """
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        try:
            self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise SweepError(
                f"the log {path} cannot be written: {error.strerror}", remedy="make it a plain file that you may write"
            ) from error
        try:
            self.torn_bytes, self.last_seq, self._last_ts = self._read_tail()
        except SweepError:
            self._file.close()
            raise
        self._behind = False
        self._log = structlog.wrap_logger(
            structlog.BytesLogger(cast(BinaryIO, _WholeLines(self._file.fileno()))),
            processors=[_add_stamp, _order, structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.BoundLogger,
        )

    def _read_tail(self) -> tuple[int, int, str]:
        """Bytes cut off the end; seq (0 for none) and time of the last event. Raises SweepError when no line is one."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - _TAIL_BYTES))
        tail = self._file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        torn = len(tail) - len(whole)
        if torn:
            self._file.truncate(size - torn)
        lines = whole.splitlines()
        last = next((found for found in map(_seq_and_ts, reversed(lines)) if found is not None), None)
        if last is None and lines:
            raise SweepError(f"{self.path} holds no events", remedy="move it aside; the store fills a new one")
        return torn, *(last or (0, ""))

    def is_of(self, store: Store) -> bool:
        """Whether its last event is one of the store's; not so after the store was moved aside or put back."""
        if self.last_seq == 0:
            return True
        row = store.row("SELECT wall FROM event WHERE seq = ?", self.last_seq)
        return row is not None and _stamp(row["wall"]) == self._last_ts

    def append(self, event: Event) -> None:
        """Returns once the line is on the disk. Raises OSError when it is not; then nothing of it is there."""
        if event.seq <= self.last_seq:
            return
        level = EVENTS[event.name].level
        getattr(self._log, level)(event.name, wall_s=event.wall_s, level=level, **as_record(event))
        self.last_seq = event.seq

    def catch_up(self, store: Store, plan: str) -> int:
        """Appends what was committed of the plan's runs but not written; returns how many lines. Raises OSError."""
        count = 0
        while missing := store.events_after(self.last_seq, plan):
            for event in missing:
                self.append(event)
            count += len(missing)
        self._behind = False
        return count

    def hear(self, event: Event, store: Store, plan: str) -> str | None:
        """Appends `event`, after those that a full disk kept out before; why not, where it could not be written.

        Does not raise OSError: the store has the event, so a log that lags must not stop the work.
        """
        try:
            if self._behind:
                self.catch_up(store, plan)
            else:
                self.append(event)
        except OSError as error:
            self._behind = True
            return f"{self.path} lags: {error}"
        return None

    def close(self) -> None:
        self._file.close()


def open_audit_log(path: Path, store: Store) -> tuple[AuditLog, Path | None]:
    """The log at `path`; one of another store is renamed first, and where to is told. Raises SweepError.

    Its numbers would hide the new store's: an event is written only when its seq is larger than the last one's.
    """
    audit = AuditLog(path)
    if audit.is_of(store):
        return audit, None
    aside = path.with_name(f"{path.stem}.until-{audit.last_seq}{path.suffix}")
    audit.close()
    path.rename(aside)
    return AuditLog(path), aside


def _seq_and_ts(line: bytes) -> tuple[int, str] | None:
    """None for a line that is not an event of ours."""
    try:
        record = orjson.loads(line)
        return int(record["seq"]), str(record["ts"])
    except (ValueError, TypeError, KeyError):
        return None


def _add_stamp(_: Any, __: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record["ts"] = _stamp(record.pop("wall_s"))
    return record


def _order(_: Any, __: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    first = ("ts", "seq", "level", "event", "msg")
    return {key: record[key] for key in first} | {key: record[key] for key in record if key not in first}


def _dumps(record: dict[str, Any], **_: Any) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:
        # A whole number over 64 bits, or half of a surrogate pair: legal in Python's JSON, not in orjson's.
        return json.dumps(record).encode()
