"""Opens the store: a SQLite file that only the daemon writes. A change and its events commit together or not at all.

One connection in one process: SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint
(https://sqlite.org/wal.html#walresetbug). The live page's own connection neither writes nor checkpoints
(page.reader). Standard library only.
"""

from __future__ import annotations

import errno
import json
import sqlite3
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor import failpoints
from supervisor.clock import Clock
from supervisor.errors import (
    DiskFailed,
    DiskFull,
    StoreDamaged,
    StoreError,
    StoreLocked,
    StoreTooNew,
    StoreTooOld,
    SweepError,
)
from supervisor.store import projection
from supervisor.store.event import Event
from supervisor.store.event_catalog import check_event
from supervisor.store.schema import SCHEMA, VERSION

BUSY_TIMEOUT_S = 2.0
"""The time that a change waits for another program's lock; short, for the daemon's one loop waits with it."""


@dataclass
class Change:
    """Holds one open transaction and its events, each applied as it is recorded."""

    connection: sqlite3.Connection
    wall_s: float
    run: str | None = None
    events: list[Event] = field(default_factory=list)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self.connection.execute(sql, values)

    def record(
        self,
        name: str,
        /,
        *,
        experiment: str | None = None,
        trial: int | None = None,
        attempt: int | None = None,
        **fields: Any,
    ) -> None:
        """Record an event in this transaction and apply it. Raises ValueError for one that is not in the catalog."""
        check_event(name, fields)
        # Through JSON: the projection must see what it will see in a rebuild.
        as_json = json.loads(json.dumps(fields, allow_nan=False))
        event = Event(self._next_seq(), self.wall_s, name, self.run, experiment, trial, attempt, as_json)
        projection.apply(self.connection, event)
        self.events.append(event)

    def record_each(self, name: str, experiment: str, trials: Sequence[int], **fields: Any) -> None:
        """Record an event for each of these trials of an experiment, as `record` would: much faster for thousands."""
        check_event(name, fields)
        as_json, first = json.loads(json.dumps(fields, allow_nan=False)), self._next_seq()
        events = [
            Event(first + place, self.wall_s, name, self.run, experiment, trial, None, as_json)
            for place, trial in enumerate(trials)
        ]
        if events:
            projection.apply_each(self.connection, events)
            self.events.extend(events)

    def forget(self, key: str) -> None:
        """Delete a value that `Store.note` keeps."""
        self.connection.execute("DELETE FROM meta WHERE key = ?", (key,))

    def _next_seq(self) -> int:
        if self.events:
            return self.events[-1].seq + 1
        return int(self.connection.execute("SELECT coalesce(max(seq), 0) + 1 FROM event").fetchone()[0])


class Store:
    """Holds the open store, on one connection."""

    def __init__(self, path: Path, clock: Clock) -> None:
        """Open the store at `path`, and make its tables in a new file.

        Raises StoreTooNew or StoreTooOld for a store of another version, StoreError for a file that is not sound.
        """
        self.path, self._clock = path, clock
        self._before_change: list[Callable[[], None]] = []
        self._after_change: list[Callable[[Sequence[Event]], object]] = []
        self.locked = False
        """True if another program held the store at the last change."""
        self._notes: dict[str, str] = {}
        self._failure: str | None = None
        """The failure of the disk, after which nothing more is written."""
        try:
            # Autocommit: the transactions are ours, by BEGIN IMMEDIATE below.
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=BUSY_TIMEOUT_S)
            self.connection.row_factory = sqlite3.Row
            self._configure()
            self._check()
            self._make_tables()
        except sqlite3.DatabaseError as error:
            self._abandon()
            if _kind(error) in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
                raise StoreDamaged(f"{path} is not a sound store: {error}") from error
            raise StoreError(f"{path} cannot be opened: {error}", remedy="check its owner, mode and disk") from error
        except StoreError:
            self._abandon()
            raise

    def _abandon(self) -> None:
        if hasattr(self, "connection"):
            self.connection.close()

    def _configure(self) -> None:
        self.connection.execute("PRAGMA journal_mode = WAL")
        self.connection.execute("PRAGMA synchronous = FULL")
        self.connection.execute("PRAGMA foreign_keys = ON")
        if sys.platform == "darwin":
            # A plain fsync on macOS does not reach the disk (fsync(2)).
            self.connection.execute("PRAGMA fullfsync = ON")

    def _check(self) -> None:
        found = self.connection.execute("PRAGMA quick_check(1)").fetchone()[0]
        if found != "ok":
            raise StoreDamaged(f"{self.path} is damaged: {found}")

    def _make_tables(self) -> None:
        if check_version(self.connection, self.path) == 0:
            failpoints.hit("store.create")
            # executescript commits first, so the script brings its own transaction.
            self.connection.executescript(f"BEGIN;{SCHEMA};PRAGMA user_version = {VERSION};COMMIT;")

    def note(self, key: str, value: str) -> None:
        """Keep a value in `meta` with the next change: it may lag, and must not cost a sync of its own."""
        self._notes[key] = value

    def note_now(self, key: str, value: str) -> None:
        """Keep a value in `meta` at once, in the open transaction or in a new one."""
        self.connection.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    def noted(self, key: str) -> str | None:
        """Return a value of `meta` as it was committed; None when there is none."""
        row = self.row("SELECT value FROM meta WHERE key = ?", key)
        return None if row is None else str(row["value"])

    def before_each_change(self, look: Callable[[], None]) -> None:
        """Call `look` before each transaction from now on: there a full disk is seen in time."""
        self._before_change.append(look)

    def after_each_change(self, handle: Callable[[Sequence[Event]], object]) -> None:
        """Call `handle` with the committed events of each transaction from now on, in order."""
        self._after_change.append(handle)

    def forget_listeners(self) -> None:
        """Call no one any more before and after transactions: their daemon has ended."""
        self._before_change.clear()
        self._after_change.clear()

    @contextmanager
    def change(self, run: str | None = None) -> Iterator[Change]:
        """Open a transaction; an exception inside rolls it back.

        Raises DiskFull without space for it, StoreLocked when another program holds the store, DiskFailed when the
        disk refused it; after that nothing more is tried, because it is not known what the disk holds
        (https://www.sqlite.org/rescode.html#ioerr).
        """
        if self._failure is not None:
            raise DiskFailed(f"{self._failure}; nothing more is written to it")
        for look in self._before_change:
            look()
        # Microseconds, as the log has them: a store that is rebuilt from it is the same to the last bit.
        change = Change(self.connection, round(self._clock.wall_s(), 6), run)
        try:
            self.connection.execute("BEGIN IMMEDIATE")
            try:
                yield change
                self._commit()
            except BaseException:
                # A full disk ends a transaction by itself; a commit that fails may leave it open.
                if self.connection.in_transaction:
                    self.connection.execute("ROLLBACK")
                raise
        except (sqlite3.DatabaseError, OSError) as error:
            refusal = self._refusal(error)
            if refusal is None:
                raise
            raise refusal from error
        self.locked = False
        failpoints.hit("store.committed")
        for handle in self._after_change:
            handle(change.events)

    def _commit(self) -> None:
        for key, value in self._notes.items():
            self.note_now(key, value)
        failpoints.hit("store.commit")
        self.connection.execute("COMMIT")
        self._notes.clear()

    def _refusal(self, error: sqlite3.DatabaseError | OSError) -> SweepError | None:
        """Return the project's error for a refusal of the disk; None for any other error."""
        kind = error.errno if isinstance(error, OSError) else _kind(error)
        if kind in (errno.ENOSPC, errno.EDQUOT) if isinstance(error, OSError) else kind == sqlite3.SQLITE_FULL:
            return DiskFull(f"no space is left for {self.path}")
        if isinstance(error, sqlite3.Error) and kind in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
            self.locked = True
            return StoreLocked(f"another program holds {self.path}")
        if kind in ((errno.EIO, errno.EROFS) if isinstance(error, OSError) else _BROKEN):
            self._failure = f"{self.path} could not be written: {error}"
            return DiskFailed(self._failure)
        return None

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        """Return the rows of a query. Raises DiskFailed when the disk cannot be read."""
        with self.reading():
            return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        """Return the first row of a query; None without one. Raises DiskFailed as `rows` does."""
        with self.reading():
            found: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
            return found

    @contextmanager
    def reading(self) -> Iterator[None]:
        """Turn a failing disk into DiskFailed, for queries on the connection itself."""
        try:
            yield
        except sqlite3.DatabaseError as error:
            if _kind(error) not in _BROKEN:
                raise
            self._failure = f"{self.path} could not be read: {error}"
            raise DiskFailed(self._failure) from error

    def events_after(self, seq: int, plan: str | None = None, limit: int = 10_000) -> list[Event]:
        """Return at most `limit` events with a larger number than `seq`, oldest first; of one plan's runs if given."""
        rows = self.rows(
            "SELECT * FROM event WHERE seq > ?1 AND (?2 IS NULL OR run IN (SELECT id FROM run WHERE plan = ?2))"
            " ORDER BY seq LIMIT ?3",
            seq, plan, limit,
        )  # fmt: skip
        return [Event.of_row(row) for row in rows]

    def back_up(self, target: Path) -> None:
        """Copy the whole store to `target`. Raises StoreError, and leaves no file there then."""
        copy = sqlite3.connect(target, isolation_level=None)
        try:
            self.connection.backup(copy)
            # A file of its own: no WAL beside it that a copy of it would forget.
            copy.execute("PRAGMA journal_mode = DELETE")
        except sqlite3.Error as error:
            copy.close()
            target.unlink(missing_ok=True)
            raise StoreError(f"{target} could not be written: {error}", remedy="give another place for it") from error
        finally:
            copy.close()

    def close(self) -> None:
        self.connection.close()


_BROKEN = (
    sqlite3.SQLITE_IOERR, sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB, sqlite3.SQLITE_READONLY,
    sqlite3.SQLITE_CANTOPEN,
)  # fmt: skip
"""SQLite's errors on a disk that failed or that the kernel made read-only, once the store is open."""


def _kind(error: sqlite3.Error) -> int | None:
    """Return SQLite's primary result code; None for an error that Python itself raised."""
    code: int | None = getattr(error, "sqlite_errorcode", None)
    return None if code is None else code & 0xFF


def check_version(connection: sqlite3.Connection, path: Path) -> int:
    """Return the version of the store's schema: VERSION, or 0 for a new file. Raises StoreTooNew, StoreTooOld."""
    version = int(connection.execute("PRAGMA user_version").fetchone()[0])
    if version > VERSION:
        raise StoreTooNew(f"{path} has schema {version}; this version of the program reads schema {VERSION}")
    if 0 < version < VERSION:
        raise StoreTooOld(f"{path} has schema {version}; this version of the program reads schema {VERSION}")
    return version


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """Open the store of a home without a daemon, or beside its daemon's own connection. Raises StoreError."""
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2.0)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    connection.row_factory = sqlite3.Row
    try:
        check_version(connection, path)
        yield connection
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    finally:
        connection.close()
