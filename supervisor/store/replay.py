"""Applies the events of a log to tables again, and says which cannot be applied. Standard library only."""

from __future__ import annotations

import sqlite3

from supervisor.store import projection
from supervisor.store.event import Event

_WRONG_TYPE = (
    TypeError, ValueError, AttributeError, OverflowError,
    sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError,
)  # fmt: skip
"""The errors that Python and SQLite raise for a field of another type than a writer gives it."""


class CannotReplay(Exception):
    """An event cannot be applied; the message says which event and why."""


def replay(connection: sqlite3.Connection, event: Event) -> None:
    """Apply an event of the log. Raises CannotReplay; the event itself is inserted all the same, to keep its number."""
    where = f"event {event.seq}: {event.name}"
    try:
        projection.insert(connection, event)
        if event.run is not None and event.name != "run.created" and not _known(connection, event.run):
            raise CannotReplay(f"event {event.seq}: the log does not hold the beginning of {event.run}")
        projection.change(connection, event)
    except KeyError as error:
        raise CannotReplay(f"{where} lacks the field {error}") from error
    except sqlite3.IntegrityError as error:
        raise CannotReplay(f"{where} cannot follow the events before it: {error}") from error
    except _WRONG_TYPE as error:
        raise CannotReplay(f"{where} has a field of the wrong type: {error}") from error


def _known(connection: sqlite3.Connection, run: str) -> bool:
    return connection.execute("SELECT 1 FROM run WHERE id = ?", (run,)).fetchone() is not None
