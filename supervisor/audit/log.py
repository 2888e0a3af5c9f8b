"""Writes logs/PLAN.jsonl: every event of a plan's runs as one JSON object a line, fsynced. Only the daemon writes it.

The store holds the same events, so this file can lag (a crash between commit and append) but never lead: the next
start appends the missing events and cuts off a torn last line. Its lines form a chain (hash_chain), whose head goes
into the store with the next change: a log that lost its end, or whose end was changed, is detected. Where another
program renames, removes or cuts the file, the log goes on in the one of its name (`taken`, `open_again`).
"""

from __future__ import annotations

import contextlib
import errno
import json
import logging
import os
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, BinaryIO

import orjson

from supervisor import failpoints
from supervisor.audit import rotation
from supervisor.audit.hash_chain import Head, digest, walk
from supervisor.audit.rotation import Limits
from supervisor.errors import DiskFailed, LogDamaged, SweepError
from supervisor.filesystem import is_open_at
from supervisor.store import lookups
from supervisor.store.database import Store
from supervisor.store.event import Event
from supervisor.store.event_catalog import kind_of
from supervisor.store.event_words import describe

log = logging.getLogger("supervisor")

FULL = (errno.ENOSPC, errno.EDQUOT)
"""Errors that end when space is freed; every other failure of fsync(2) is final."""
BLOCK_BYTES = 1 << 16
GROUP_BYTES = 1 << 18
"""The bound of lines that are written together."""
TAKEN = "another program took lines of it away"
CATCH_UP_EVENTS = 2_000
"""The bound of events that a log that lags gets at once: the daemon answers in between."""


def as_line(event: Event, prev: str | None) -> bytes:
    """Return the line of an event; `prev` is the digest of the line before it. The order of keys is for the eye."""
    ids = {"run": event.run, "experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}
    known = {key: value for key, value in ids.items() if value is not None}
    record = {
        "ts": _stamp(event.wall_s),
        "seq": event.seq,
        "level": kind_of(event.name).level,
        "event": event.name,
        "msg": describe(event.name, {**known, **event.fields}),
        **known,
        **event.fields,
        "prev": prev,
    }
    return _json(record) + b"\n"


def _stamp(wall_s: float) -> str:
    """Return a time as RFC 3339, UTC, microseconds."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


def _json(record: dict[str, Any]) -> bytes:
    try:
        return orjson.dumps(record)
    except TypeError:
        # A whole number over 64 bits, or half of a surrogate pair: Python's JSON allows them, orjson's does not.
        return json.dumps(record).encode()


def _write_whole(fd: int, line: bytes) -> None:
    """Append `line`, or several, and sync it, or leave the file as it was: a full disk can stop a write(2) halfway.

    Raises OSError when the line is not in the file, DiskFailed when that cannot be known: a failed fsync(2) is not
    tried again, for the kernel may have dropped the page, and the next fsync would succeed
    (https://wiki.postgresql.org/wiki/Fsync_Errors).
    """
    start = os.fstat(fd).st_size
    try:
        failpoints.hit("audit.write")
        _write(fd, line)
    except OSError:
        os.ftruncate(fd, start)
        raise
    try:
        failpoints.hit("audit.sync")
        os.fsync(fd)
    except OSError as error:
        with contextlib.suppress(OSError):
            os.ftruncate(fd, start)
        if error.errno in FULL:
            raise
        raise DiskFailed(f"the log could not be synced: {error.strerror}") from error
    failpoints.hit("audit.written")


def _write(fd: int, line: bytes) -> None:
    if os.write(fd, line) != len(line):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class AuditLog:
    """Appends events; one write(2) a line, so that no reader sees half of one."""

    def __init__(self, path: Path, recorded: Head | None = None, limits: Limits | None = None) -> None:
        """Open or create `path`, 0600; cut a torn tail, finish an interrupted rotation, check the chain.

        `recorded` is the head that the store knows. Raises SweepError when the file cannot be opened for writing (a
        link is not followed), LogDamaged when a line before the last was changed.
        """
        self.path, self._limits = path, limits or Limits()
        self._broken = False
        self.lag: str | None = None
        """Why the last event could not be written, though the store has it; None when the log is complete."""
        self.lost_from: int | None = None
        """The last event of the log, when the store's note names a later one: the lines between were lost."""
        with contextlib.suppress(OSError):
            # Not needed to go on; the next rotation tries again and reports a failure.
            rotation.finish(path)
        self._file = _open(path)
        try:
            self.torn_bytes = _cut_torn_tail(self._file)
            self._read(recorded)
            self._size = self._size_now()
            """The bytes of the file by our own writes: one that another program has cut has fewer."""
        except (SweepError, OSError):
            self._file.close()
            raise

    def _size_now(self) -> int:
        return os.fstat(self._file.fileno()).st_size

    def _read(self, recorded: Head | None) -> None:
        """Find the log's end, and check the chain on the way."""
        head, self._last_ts, saw_recorded = _walk(self.path, recorded)
        if head is None and (older := rotation.older_parts(self.path)):
            # A crash between renaming the old part and the first line of the new one.
            head, self._last_ts, saw_recorded = _walk(older[-1], recorded)
        self.head = head or Head()
        # A recorded line that is older than all of these is in an older part, or another program rotated it away.
        if recorded is not None and not saw_recorded and self.head.seq < recorded.seq:
            self.lost_from = self.head.seq

    @property
    def last_seq(self) -> int:
        return self.head.seq

    def is_of(self, store: Store) -> bool:
        """Return whether the log's last event is in `store`; not so after the store was moved or put back."""
        if self.last_seq == 0:
            return True
        wall_s = lookups.wall_of_event(store, self.last_seq)
        return wall_s is not None and (not self._last_ts or _stamp(wall_s) == self._last_ts)

    def append(self, event: Event) -> None:
        """Write an event's line to the disk; skip one that is there already.

        Raises OSError when the line is not in the log, DiskFailed when that cannot be known.
        """
        self.append_all([event])

    def append_all(self, events: Sequence[Event]) -> None:
        """Write the lines of events, with few syncs. Raises as `append` does; the first lines may be in the log."""
        head, lines, size = self.head, bytearray(), self._size_now()
        for event in events:
            if event.seq <= head.seq:
                continue
            line = as_line(event, head.sha256)
            lines += line
            head = Head(event.seq, digest(line))
            if size + len(lines) >= self._limits.max_bytes or len(lines) >= GROUP_BYTES:
                self._write(bytes(lines), head)
                lines, size = bytearray(), self._size_now()
        if lines:
            self._write(bytes(lines), head)

    def _write(self, lines: bytes, head: Head) -> None:
        """Write lines that end with `head`; begin a new file where this one is full. Raises as `append` does."""
        if self._broken:
            raise DiskFailed(f"{self.path} failed before; no more lines are written to it")
        try:
            _write_whole(self._file.fileno(), lines)
        except DiskFailed:
            self._broken = True
            raise
        self.head, self._size = head, self._size + len(lines)
        if self._file.tell() >= self._limits.max_bytes:
            self._rotate()

    def _rotate(self) -> None:
        """Begin a new file. A log that cannot be rotated grows on: an event is worth more than the bound."""
        try:
            if self.path.exists():
                rotation.rotate(self.path, self._limits)
            self.reopen()
            rotation.finish(self.path)
        except (OSError, SweepError) as error:
            log.warning("%s could not be rotated, the next line tries again: %s", self.path, error)

    def reopen(self) -> None:
        """Continue in the file of that name: another program has renamed the old one. Raises SweepError."""
        old, self._file = self._file, _open(self.path)
        self._size = self._size_now()
        old.close()

    @property
    def taken(self) -> bool:
        """Return whether another program has renamed, removed or cut the file."""
        return not is_open_at(self.path, self._file.fileno()) or self._size_now() < self._size

    def open_again(self) -> bool:
        """Go on in the file of the log's name, after another program took it; return whether lines are gone from there.

        Those that no older part holds are written again: until then the log lags. A file that is no log of these events
        is gone on with as it is, and the chain shows it. Raises SweepError as `reopen` does.
        """
        head, last_ts, size = self.head, self._last_ts, self._size
        cut = is_open_at(self.path, self._file.fileno())
        self.reopen()
        try:
            if cut:
                # What was written since would stand before what comes again; the store has it, too.
                self._file.truncate(0)
            _cut_torn_tail(self._file)
            self._read(None)
        except (LogDamaged, OSError) as error:
            log.warning("%s goes on after lines that are none of its own: %s", self.path, error)
            self.head, self._last_ts = head, last_ts
        if self.head.seq < head.seq:
            self.lag = f"{self.path}: {TAKEN}"
        else:
            self.head, self._last_ts = head, last_ts
        self._size = self._size_now()
        return self._size < size

    def catch_up(self, store: Store, plan: str, most: int | None = None) -> int:
        """Append the committed events of the plan's runs that the log lacks; return their number.

        Of them the first `most`; then it may lag on. Raises OSError.
        """
        count = 0
        while most is None or count < most:
            bound = {} if most is None else {"limit": most - count}
            missing = store.events_after(self.last_seq, plan, **bound)
            if not missing:
                self.lag = None
                break
            self.append_all(missing)
            count += len(missing)
        return count

    def append_committed(self, event: Event, store: Store, plan: str) -> str | None:
        """Append a committed event, after those that a full disk kept out; return why that failed, None if it did not.

        The store has the event, so the work goes on with a log that lags. Raises DiskFailed when the disk failed.
        """
        return self.append_all_committed([event], store, plan)

    def append_all_committed(self, events: Sequence[Event], store: Store, plan: str) -> str | None:
        """Append committed events as `append_committed` does, with few syncs."""
        try:
            if self.lag is not None:
                self.catch_up(store, plan, CATCH_UP_EVENTS)
            else:
                self.append_all(events)
        except OSError as error:
            self.lag = f"{self.path}: {error.strerror}"
            if error.errno not in FULL:
                self._broken = True
                raise DiskFailed(f"{self.path} could not be written: {error.strerror}") from error
            return f"{self.path} lags: {error}"
        return None

    def close(self) -> None:
        self._file.close()


def _open(path: Path) -> BinaryIO:
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW
    try:
        return os.fdopen(os.open(path, flags, 0o600), "r+b", buffering=0)
    except OSError as error:
        raise SweepError(
            f"the log {path} cannot be written by user id {os.geteuid()}: {error.strerror}",
            remedy="make it a plain file that this user may write",
        ) from error


def _walk(part: Path, recorded: Head | None) -> tuple[Head | None, str, bool]:
    """Return the part's last head and time, and whether it has the recorded head. Raises LogDamaged."""
    last, stamp, seen = None, "", False
    for record, head in walk(rotation.lines_of(part), str(part)):
        last, stamp = head, record["ts"]
        if recorded is not None and head.seq == recorded.seq:
            seen = head.sha256 == recorded.sha256
            if not seen:
                raise LogDamaged(f"{part}: event {head.seq} differs from the store's note of it")
    return last, stamp, seen


def _cut_torn_tail(file: BinaryIO) -> int:
    """Cut off the bytes after the last newline; return their number."""
    size = end = file.seek(0, os.SEEK_END)
    while end > 0:
        start = max(0, end - BLOCK_BYTES)
        file.seek(start)
        found = file.read(end - start).rfind(b"\n")
        if found >= 0:
            end = start + found + 1
            break
        end = start
    if end < size:
        file.truncate(end)
    return size - end


def head_key(path: Path) -> str:
    """Return the key in `meta` of the store's note of the log's head."""
    return f"audit_head:{path.stem}"


def recorded_head(path: Path, store: Store) -> Head | None:
    """Return the log's head from the store's note; None without a note that can be read."""
    noted = store.noted(head_key(path))
    try:
        return None if noted is None else Head.from_json(noted)
    except ValueError as error:
        # `supervisorctl audit` reports it, too. It guards the log's end only, and the next event writes it anew.
        log.warning("the store's note of the end of %s cannot be read: %s", path, error)
        return None


def open_audit_log(path: Path, store: Store, limits: Limits | None = None) -> tuple[AuditLog, Path | None]:
    """Return the log at `path`, and the new path of another store's log. Raises SweepError.

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
