"""logs/PLAN.jsonl: every event of a plan's runs as one JSON object a line, fsynced. The daemon is its one writer.

The store holds the same events, so this file can lag (a crash between commit and append) but never lead: what is
missing at its end is appended at the next start, and a torn last line is cut off. Its lines form a chain
(audit_chain), whose head goes into the store with the next change: a log that lost its end, or whose end was changed,
is found out.
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO, cast

import orjson
import structlog

from supervisor import failpoints
from supervisor.audit import rotation
from supervisor.audit.hash_chain import Head, digest, walk
from supervisor.audit.rotation import Limits
from supervisor.errors import DiskFailed, LogDamaged, SweepError
from supervisor.store.database import Event, Store
from supervisor.store.event_catalog import EVENTS, describe

log = logging.getLogger("supervisor")

FULL = (errno.ENOSPC, errno.EDQUOT)
"""What passes when somebody frees some space; every other failure of fsync(2) is final."""


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
        self.last_sha256: str | None = None

    def write(self, line: bytes) -> None:
        """Raises OSError when the line is not there, DiskFailed when nobody can know.

        A failed fsync(2) is not tried again: the kernel may have thrown the page away, and the next one would say that
        all is well (https://wiki.postgresql.org/wiki/Fsync_Errors).
        """
        start = os.fstat(self._fd).st_size
        try:
            failpoints.hit("audit.write")
            written = os.write(self._fd, line)
        except OSError:
            os.ftruncate(self._fd, start)
            raise
        if written != len(line):
            os.ftruncate(self._fd, start)
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        try:
            failpoints.hit("audit.sync")
            os.fsync(self._fd)
        except OSError as error:
            with contextlib.suppress(OSError):
                os.ftruncate(self._fd, start)
            if error.errno in FULL:
                raise
            raise DiskFailed(f"the log could not be synced: {error.strerror}") from error
        self.last_sha256 = digest(line)
        failpoints.hit("audit.written")

    def flush(self) -> None:
        """Nothing is held back."""


class AuditLog:
    """Appends; one write(2) a line, so that no reader sees half of one."""

    def __init__(self, path: Path, recorded: Head | None = None, limits: Limits | None = None) -> None:
        """Opens or creates `path`, 0600; cuts a torn tail, finishes an interrupted rotation, checks the chain.

        `recorded` is the head that the store knows. Raises SweepError when it cannot be opened for writing (a link is
        not followed), LogDamaged when a line before the last is not what was written.
        """
        self.path, self._limits = path, limits or Limits()
        self._broken = False
        self.lag: str | None = None
        """Why the last line could not be written, though the store has it; None when the log is whole."""
        self.lost_from: int | None = None
        """The store's head is past the log's: what follows this event had been written, and is gone."""
        self.torn_bytes = 0
        with contextlib.suppress(OSError):
            # Not needed to go on; the next rotation tries again, and says so if it fails.
            rotation.finish(path)
        self._open()
        try:
            self._read(recorded)
        except (SweepError, OSError):
            self._file.close()
            raise

    def _open(self) -> None:
        flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
        try:
            self._file: BinaryIO = os.fdopen(os.open(self.path, flags, 0o600), "r+b", buffering=0)
        except OSError as error:
            raise SweepError(
                f"the log {self.path} cannot be written by user id {os.geteuid()}: {error.strerror}",
                remedy="make it a plain file that you may write",
            ) from error
        self._lines = _WholeLines(self._file.fileno())
        self._log = structlog.wrap_logger(
            structlog.BytesLogger(cast(BinaryIO, self._lines)),
            processors=[_add_stamp, _order, structlog.processors.JSONRenderer(serializer=_dumps)],
            wrapper_class=structlog.BoundLogger,
        )

    def _read(self, recorded: Head | None) -> None:
        """Where the log ends, once its torn tail is cut; the chain is checked on the way."""
        self.torn_bytes = self._cut_torn_tail()
        head, self._last_ts, saw_recorded = self._walk(self.path, recorded)
        if head is None and (older := rotation.older_parts(self.path)):
            # A crash between renaming the old part and the first line of the new one.
            head, self._last_ts, saw_recorded = self._walk(older[-1], recorded)
        self.head = head or Head()
        # A recorded line that is older than all of these is in an older part, or another program rotated it away.
        if recorded is not None and not saw_recorded and self.head.seq < recorded.seq:
            self.lost_from = self.head.seq

    def _walk(self, part: Path, recorded: Head | None) -> tuple[Head | None, str, bool]:
        """The part's last head and time, and whether the recorded head is in it. Raises LogDamaged."""
        last, stamp, seen = None, "", False
        for record, head in walk(rotation.lines_of(part), str(part)):
            last, stamp = head, record["ts"]
            if recorded is not None and head.seq == recorded.seq:
                seen = head.sha256 == recorded.sha256
                if not seen:
                    raise LogDamaged(f"{part}: event {head.seq} is not as the store knows that it was written")
        return last, stamp, seen

    def _cut_torn_tail(self) -> int:
        """Bytes cut off after the last newline."""
        size = self._file.seek(0, os.SEEK_END)
        end, block = size, 1 << 16
        while end > 0:
            start = max(0, end - block)
            self._file.seek(start)
            found = self._file.read(end - start).rfind(b"\n")
            if found >= 0:
                end = start + found + 1
                break
            end = start
        if end < size:
            self._file.truncate(end)
        return size - end

    @property
    def last_seq(self) -> int:
        return self.head.seq

    def is_of(self, store: Store) -> bool:
        """Whether its last event is one of the store's; not so after the store was moved aside or put back."""
        if self.last_seq == 0:
            return True
        row = store.row("SELECT wall FROM event WHERE seq = ?", self.last_seq)
        return row is not None and (not self._last_ts or _stamp(row["wall"]) == self._last_ts)

    def append(self, event: Event) -> None:
        """Returns once the line is on the disk.

        Raises OSError when it is not (then nothing of it is there), DiskFailed when nobody can know.
        """
        if event.seq <= self.last_seq:
            return
        if self._broken:
            raise DiskFailed(f"{self.path} failed before; nothing more is written to it")
        level, record = EVENTS[event.name].level, as_record(event)
        try:
            getattr(self._log, level)(event.name, wall_s=event.wall_s, level=level, **record, prev=self.head.sha256)
        except DiskFailed:
            self._broken = True
            raise
        self.head = Head(event.seq, self._lines.last_sha256)
        if self._file.tell() >= self._limits.max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """A log that cannot be rotated grows on: a line more is worth more than the bound."""
        try:
            if self.path.exists():
                rotation.rotate(self.path, self._limits)
            self.reopen()
            rotation.finish(self.path)
        except (OSError, SweepError) as error:
            log.warning("%s is not rotated to the end, the next line tries again: %s", self.path, error)

    def reopen(self) -> None:
        """Goes on in the file of that name: another program has renamed the old one. Raises SweepError."""
        old = self._file
        self._open()
        old.close()

    def catch_up(self, store: Store, plan: str) -> int:
        """Appends what was committed of the plan's runs but not written; returns how many lines. Raises OSError."""
        count = 0
        while missing := store.events_after(self.last_seq, plan):
            for event in missing:
                self.append(event)
            count += len(missing)
        self.lag = None
        return count

    def hear(self, event: Event, store: Store, plan: str) -> str | None:
        """Appends `event`, after those that a full disk kept out before; why not, where it could not be written.

        The store has the event, so a log that lags must not stop the work. A disk that failed must: raises DiskFailed.
        """
        try:
            if self.lag is not None:
                self.catch_up(store, plan)
            else:
                self.append(event)
        except OSError as error:
            self.lag = f"{self.path}: {error.strerror}"
            if error.errno not in FULL:
                self._broken = True
                raise DiskFailed(f"{self.path} could not be written: {error.strerror}") from error
            return f"{self.path} lags: {error}"
        return None

    def close(self) -> None:
        self._file.close()


def head_key(path: Path) -> str:
    """Under which the store notes the head of the log at `path`."""
    return f"audit_head:{path.stem}"


def recorded_head(path: Path, store: Store) -> Head | None:
    """What the store knows of the log's end; None where it knows nothing, or nothing that makes sense."""
    row = store.row("SELECT value FROM meta WHERE key = ?", head_key(path))
    try:
        return None if row is None else Head.from_json(row["value"])
    except ValueError as error:
        # The checker tells of it, too. It only guards the log's end, and comes anew with the next event.
        log.warning("the store's note of the end of %s is of no use: %s", path, error)
        return None


def open_audit_log(path: Path, store: Store, limits: Limits | None = None) -> tuple[AuditLog, Path | None]:
    """The log at `path`; one of another store is renamed first, and where to is told. Raises SweepError.

    Its numbers would hide the new store's: an event is written only when its seq is larger than the last one's.
    """
    audit = AuditLog(path, recorded_head(path, store), limits)
    if audit.is_of(store):
        return audit, None
    aside = path.with_name(f"{path.stem}.until-{audit.last_seq}{path.suffix}")
    audit.close()
    for part in rotation.all_parts(path):
        part.rename(part.with_name(part.name.replace(path.name, aside.name, 1)))
    return AuditLog(path, None, limits), aside


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
