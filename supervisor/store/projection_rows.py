"""Finds the rows that one event is about, for the projection, and changes them by its statements.

Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Mapping
from typing import Any

from supervisor.store.event import Event


class Rows:
    """The rows that one event is about, and what it says of them."""

    def __init__(self, connection: sqlite3.Connection, event: Event) -> None:
        self.connection, self.event, self.fields = connection, event, event.fields
        self.experiment_key = (event.run, event.experiment)
        self.trial_key = (*self.experiment_key, event.trial)

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        return self.connection.execute(sql, values)

    def set_run(self, assignments: str, *values: Any) -> None:
        self.execute(f"UPDATE run SET {assignments} WHERE id = ?", *values, self.event.run)  # noqa: S608 - ours

    def set_trial(self, assignments: str, *values: Any) -> None:
        where = "run = ? AND experiment = ? AND number = ?"
        self.execute(f"UPDATE trial SET {assignments} WHERE {where}", *values, *self.trial_key)  # noqa: S608 - ours

    def spec(self) -> dict[str, Any]:
        """Return the spec of the event's experiment, as the events before it have changed it."""
        (text,) = self.execute(
            "SELECT spec FROM experiment WHERE run = ? AND name = ?", *self.experiment_key
        ).fetchone()
        found: dict[str, Any] = json.loads(text)
        return found

    def set_spec(self, spec: Mapping[str, Any]) -> None:
        self.execute(
            "UPDATE experiment SET spec = ? WHERE run = ? AND name = ?", json.dumps(spec), *self.experiment_key
        )

    def end_attempt(self, cause: str) -> None:
        # An attempt that was lost before keeps its own end and cause.
        self.execute(
            "UPDATE attempt SET ended_wall = ?, cause = ?"
            " WHERE run = ? AND experiment = ? AND trial = ? AND attempt = ? AND ended_wall IS NULL",
            self.event.wall_s, cause, *self.trial_key, self.event.attempt,
        )  # fmt: skip
