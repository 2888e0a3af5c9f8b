"""logs/PLAN.jsonl: every event of a plan's runs as one JSON object a line, fsynced. The daemon is its one writer.

The store holds the same events, so this file can lag (a crash between commit and append) but never lead: what is
missing at its end is appended at the next start, and a torn last line is cut off.
"""

from __future__ import annotations

import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson
import structlog

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


class AuditLog:
    """Appends; one write(2) a line, so that no reader sees half of one."""

    def __init__(self, path: Path) -> None:
        """Opens or creates `path`, 0600; cuts a torn tail. Raises OSError when the folder cannot be written."""
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        self.path = path
        self._file: BinaryIO = os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
        self.torn_bytes, self.last_seq = self._read_tail()
        self._log = structlog.wrap_logger(
            structlog.BytesLogger(self._file),
            processors=[_add_stamp, _order, structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.BoundLogger,
        )

    def _read_tail(self) -> tuple[int, int]:
        """Bytes cut off the end, and the seq of the last whole line (0 for none)."""
        size = self._file.seek(0, os.SEEK_END)
        self._file.seek(max(0, size - _TAIL_BYTES))
        tail = self._file.read()
        whole = tail[: tail.rfind(b"\n") + 1]
        torn = len(tail) - len(whole)
        if torn:
            self._file.truncate(size - torn)
        lines = whole.splitlines()
        return torn, int(orjson.loads(lines[-1])["seq"]) if lines else 0

    def append(self, event: Event) -> None:
        """Returns once the line is on the disk. Raises OSError when it is not."""
        if event.seq <= self.last_seq:
            return
        level = EVENTS[event.name].level
        getattr(self._log, level)(event.name, wall_s=event.wall_s, level=level, **as_record(event))
        os.fsync(self._file.fileno())
        self.last_seq = event.seq

    def catch_up(self, store: Store, run: str) -> int:
        """Appends what the last daemon committed but did not write; returns how many lines."""
        missing = store.events_after(self.last_seq, run)
        for event in missing:
            self.append(event)
        return len(missing)

    def close(self) -> None:
        self._file.close()


def _add_stamp(_: Any, __: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    record["ts"] = _stamp(record.pop("wall_s"))
    return record


def _order(_: Any, __: str, record: structlog.typing.EventDict) -> structlog.typing.EventDict:
    first = ("ts", "seq", "level", "event", "msg")
    return {key: record[key] for key in first} | {key: record[key] for key in record if key not in first}


def _dumps(record: dict[str, Any], **_: Any) -> bytes:
    return orjson.dumps(record)
