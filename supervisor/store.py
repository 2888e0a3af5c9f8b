"""The one truth: a SQLite file that only the daemon writes. A change and its events commit together or not at all.

One connection in one process: SQLite before 3.51.3 can corrupt a WAL that two connections checkpoint
(https://sqlite.org/wal.html#walresetbug). Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.errors import StoreError, StoreTooNew
from supervisor.event_table import check_event
from supervisor.schema import STEPS, VERSION


@dataclass(frozen=True)
class Event:
    """A committed fact. `seq` counts up over the life of the store."""

    seq: int
    wall_s: float
    name: str
    run: str | None
    experiment: str | None
    trial: int | None
    attempt: int | None
    fields: dict[str, Any]


@dataclass
class Change:
    """One open transaction: SQL and the events that tell of it."""

    connection: sqlite3.Connection
    wall_s: float
    run: str | None = None
    events: list[Event] = field(default_factory=list)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self.connection.execute(sql, values)

    def tell(
        self,
        name: str,
        /,
        *,
        experiment: str | None = None,
        trial: int | None = None,
        attempt: int | None = None,
        **fields: Any,
    ) -> None:
        """Adds an event to this transaction. Raises ValueError for one that is not in the table of events."""
        check_event(name, fields)
        cursor = self.connection.execute(
            "INSERT INTO event (wall, name, run, experiment, trial, attempt, fields) VALUES (?, ?, ?, ?, ?, ?, ?)",
            (self.wall_s, name, self.run, experiment, trial, attempt, json.dumps(fields, allow_nan=False)),
        )
        assert cursor.lastrowid is not None
        self.events.append(Event(cursor.lastrowid, self.wall_s, name, self.run, experiment, trial, attempt, fields))


class Store:
    """Opens, migrates, checks. `told` hears of each committed event, in order: the audit log hangs there."""

    def __init__(self, path: Path, clock: Clock, told: Callable[[Event], None] | None = None) -> None:
        """Raises StoreTooNew for a newer schema, StoreError for a file that is not a sound store."""
        self.path, self._clock = path, clock
        self.told = told
        try:
            # Autocommit: the transactions are ours, by BEGIN IMMEDIATE below.
            self.connection = sqlite3.connect(path, isolation_level=None, timeout=10.0)
            self.connection.row_factory = sqlite3.Row
            self._configure()
            self._check()
            self._migrate()
        except sqlite3.DatabaseError as error:
            self._abandon()
            raise StoreError(f"{path} is not a sound store: {error}", remedy=f"move {path} aside") from error
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
            raise StoreError(f"{self.path} is damaged: {found}", remedy=f"move {self.path} aside")

    def _migrate(self) -> None:
        version = self.connection.execute("PRAGMA user_version").fetchone()[0]
        if version > VERSION:
            raise StoreTooNew(f"{self.path} has schema {version}; this version knows {VERSION}")
        for number in range(version, VERSION):
            # executescript commits first, so the step brings its own transaction.
            self.connection.executescript(f"BEGIN;{STEPS[number]};PRAGMA user_version = {number + 1};COMMIT;")

    @contextmanager
    def change(self, run: str | None = None) -> Iterator[Change]:
        """A transaction; its events are told after the commit. An exception inside rolls everything back."""
        change = Change(self.connection, self._clock.wall_s(), run)
        self.connection.execute("BEGIN IMMEDIATE")
        try:
            yield change
            self.connection.execute("COMMIT")
        except BaseException:
            # A full disk ends a transaction by itself; a commit that fails may leave it open.
            if self.connection.in_transaction:
                self.connection.execute("ROLLBACK")
            raise
        if self.told is not None:
            for event in change.events:
                self.told(event)

    def rows(self, sql: str, *values: Any) -> list[sqlite3.Row]:
        return self.connection.execute(sql, values).fetchall()

    def row(self, sql: str, *values: Any) -> sqlite3.Row | None:
        found: sqlite3.Row | None = self.connection.execute(sql, values).fetchone()
        return found

    def events_after(self, seq: int, plan: str | None = None, limit: int = 10_000) -> list[Event]:
        """At most `limit` events with a larger `seq`, oldest first; of one plan's runs where given."""
        rows = self.rows(
            "SELECT * FROM event WHERE seq > ?1 AND (?2 IS NULL OR run IN (SELECT id FROM run WHERE plan = ?2))"
            " ORDER BY seq LIMIT ?3",
            seq, plan, limit,
        )  # fmt: skip
        return [
            Event(
                row["seq"], row["wall"], row["name"], row["run"], row["experiment"], row["trial"], row["attempt"],
                json.loads(row["fields"]),
            )
            for row in rows
        ]  # fmt: skip

    def close(self) -> None:
        self.connection.close()


@contextmanager
def read_only(path: Path) -> Iterator[sqlite3.Connection]:
    """The store of a home whose daemon is not running (the caller has made sure). Raises StoreError."""
    try:
        connection = sqlite3.connect(f"{path.as_uri()}?mode=ro", uri=True, timeout=2.0)
    except sqlite3.Error as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    connection.row_factory = sqlite3.Row
    try:
        yield connection
    except sqlite3.DatabaseError as error:
        raise StoreError(f"{path} cannot be read: {error}") from error
    finally:
        connection.close()
