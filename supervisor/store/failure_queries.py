"""Reads the last failed trial of an experiment as a JSON value. Standard library only."""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from supervisor.domain.lifecycle import EndReason, TrialState


def last_failure(connection: sqlite3.Connection, run_id: str, name: str) -> dict[str, Any] | None:
    """Return its number, attempt, end reason, error and last prints; None without a failure."""
    row = connection.execute(
        "SELECT number, attempt, end_reason, error, record FROM trial"
        " WHERE run = ? AND experiment = ? AND state = ? AND end_reason != ?"
        " ORDER BY ended_wall DESC, number DESC LIMIT 1",
        (run_id, name, TrialState.ERROR, EndReason.OPERATOR),
    ).fetchone()
    if row is None:
        return None
    return {
        "trial": row["number"], "attempt": row["attempt"], "end_reason": row["end_reason"], "error": row["error"],
        "printed": json.loads(row["record"]).get("printed"),
    }  # fmt: skip
