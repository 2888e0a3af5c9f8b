"""Chains the lines of an audit log: each has `prev`, the SHA-256 of the line before it, newline included. Pure.

A line that was changed, removed, added or moved breaks the chain at its place; `sha256sum` can check it, too.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any

from supervisor.errors import LogDamaged
from supervisor.store.event import Event
from supervisor.typed_json import from_json


@dataclass(frozen=True)
class Head:
    """Names the end of a chain: the last line's event and digest (None: no line, or not known)."""

    seq: int = 0
    sha256: str | None = None

    def to_json(self) -> str:
        return json.dumps(asdict(self))

    @classmethod
    def from_json(cls, text: str) -> Head:
        """Return the head that `to_json` wrote. Raises ValueError for any other text."""
        try:
            return from_json(cls, json.loads(text))
        except (ValueError, RecursionError) as error:
            raise ValueError(f"expected the head of a chain, found {text[:80]!r}: {error}") from error


def digest(line: bytes) -> str:
    return hashlib.sha256(line).hexdigest()


def walk(lines: Iterable[bytes], where: str, before: Head | None = None) -> Iterator[tuple[dict[str, Any], Head]]:
    """Yield each line's record, and the chain's head after it.

    `before` is the head that the first line must follow; None: that line is in another part. Raises LogDamaged with the
    file `where`, the line and the reason.
    """
    head = before
    for number, line in enumerate(lines, 1):
        record = as_event(line)
        if record is None or "prev" not in record:
            raise _damaged(where, number, "expected an event of the chain, found another text")
        if head is not None and record["seq"] <= head.seq:
            raise _damaged(where, number, f"expected an event after {head.seq}, found event {record['seq']}")
        if head is not None and record["prev"] != head.sha256:
            raise _damaged(where, number, f"it does not follow event {head.seq}: its `prev` is not that line's digest")
        head = Head(record["seq"], digest(line))
        yield record, head


def _damaged(where: str, number: int, why: str) -> LogDamaged:
    return LogDamaged(f"{where}, line {number}: {why}")


def as_event(line: bytes) -> dict[str, Any] | None:
    """Return the record of a line; None when it is not an event of this project."""
    try:
        # Not orjson: it reads a whole number over 64 bits as a float, and a rebuilt store would differ.
        record = json.loads(line)
    except (ValueError, RecursionError):
        return None
    if not isinstance(record, dict) or not isinstance(record.get("event"), str):
        return None
    if not isinstance(record.get("seq"), int) or not isinstance(record.get("ts"), str):
        return None
    if not all(isinstance(record.get(key), kind | None) for key, kind in _IDS.items()):
        return None
    return record if wall_s(record["ts"]) is not None else None


_IDS: dict[str, type] = {"run": str, "experiment": str, "trial": int, "attempt": int}


def wall_s(stamp: str) -> float | None:
    """Return the seconds since the epoch of a line's `ts`; None when it is no time."""
    try:
        return datetime.fromisoformat(stamp).timestamp()
    except ValueError:
        return None


_OF_A_LINE = frozenset({"ts", "seq", "level", "event", "msg", "prev", *_IDS})


def to_event(record: dict[str, Any]) -> Event:
    """Return the event of a line's record."""
    stamp = wall_s(record["ts"])
    assert stamp is not None
    fields = {key: value for key, value in record.items() if key not in _OF_A_LINE}
    return Event(
        record["seq"], stamp, record["event"], record.get("run"), record.get("experiment"), record.get("trial"),
        record.get("attempt"), fields,
    )  # fmt: skip
