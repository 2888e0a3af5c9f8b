"""Reads what the deletion of old runs' files needs. Standard library only.

Each function reads from any connection, as those of queries.
"""

from __future__ import annotations

import sqlite3

from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.retry import next_start
from supervisor.store import queries
from supervisor.store.answer_queries import test_of


def all_runs(connection: sqlite3.Connection) -> list[sqlite3.Row]:
    """Return the rows of all runs, oldest first."""
    return connection.execute("SELECT * FROM run ORDER BY rowid").fetchall()


def tests_due(connection: sqlite3.Connection, run_id: str) -> bool:
    """Return whether a plain start would open a test of this ended run again."""
    return any(
        not next_start(row["name"], ProcessState(row["state"]), test_of(connection, run_id, row["name"])).empty
        for row in queries.experiment_rows(connection, run_id)
    )


def removal_asked(connection: sqlite3.Connection, run_id: str) -> bool:
    """Return whether a person asked to delete the files of a run; the log of another run may say so."""
    row = connection.execute(
        "SELECT 1 FROM event WHERE name = 'removal.asked' AND json_extract(fields, '$.of') = ? LIMIT 1", (run_id,)
    ).fetchone()
    return row is not None
