"""Applies the events of a log to tables again, and says which cannot be applied. Standard library only."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator

from supervisor.store import projection
from supervisor.store.event import Event

_WRONG_TYPE = (
    TypeError, ValueError, AttributeError, OverflowError,
    sqlite3.ProgrammingError, sqlite3.InterfaceError, sqlite3.DataError,
)  # fmt: skip
"""The errors that Python and SQLite raise for a field of another type than a writer gives it."""


MOST_TOGETHER = 1_000
"""The bound of events that are applied together: one that cannot be applied costs the others their common pass."""


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


def replay_all(connection: sqlite3.Connection, events: Iterable[Event]) -> Iterator[CannotReplay]:
    """Apply events of the log as `replay` does, in their order; yield the problem of each that cannot be applied.

    Those that follow one another and change only the spec of one experiment do it in one pass: a person who discards
    thousands of trials writes so many of them, and a spec that lists them grows with each.
    """
    for group in _groups(events):
        if len(group) > 1 and _applied(connection, group):
            continue
        for event in group:
            try:
                replay(connection, event)
            except CannotReplay as problem:
                yield problem


def _groups(events: Iterable[Event]) -> Iterator[list[Event]]:
    group: list[Event] = []
    for event in events:
        if group and not (len(group) < MOST_TOGETHER and _of_one_pass(group[0], event)):
            yield group
            group = []
        group.append(event)
    if group:
        yield group


def _of_one_pass(first: Event, event: Event) -> bool:
    together = (first.run, first.experiment) == (event.run, event.experiment)
    return together and all(projection.changes_spec_only(name) for name in (first.name, event.name))


def _applied(connection: sqlite3.Connection, group: list[Event]) -> bool:
    """Apply events together; return False, and leave the tables as they were, where one of them cannot be applied."""
    connection.execute("SAVEPOINT together")
    try:
        projection.apply_each(connection, group)
    except (KeyError, sqlite3.IntegrityError, *_WRONG_TYPE):
        connection.execute("ROLLBACK TO together")
        return False
    finally:
        connection.execute("RELEASE together")
    return True


def _known(connection: sqlite3.Connection, run: str) -> bool:
    return connection.execute("SELECT 1 FROM run WHERE id = ?", (run,)).fetchone() is not None
