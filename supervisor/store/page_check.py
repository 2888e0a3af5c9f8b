"""Checks every page of a store, for at most as long as the caller allows."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable

STEPS = 100_000
"""Instructions of SQLite between two questions whether to end; some milliseconds."""
SOUND = "ok"


def check_pages(connection: sqlite3.Connection, ends: Callable[[], bool]) -> str | None:
    """Return SOUND, or SQLite's words about the first fault; None when `ends` returned True before the check was done.

    Raises sqlite3.DatabaseError for a file that is too damaged to be checked.
    """
    connection.set_progress_handler(lambda: int(ends()), STEPS)
    try:
        return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)
