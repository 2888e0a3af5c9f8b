"""Reads the answer of an experiment as JSON values: its test, and why it has none. Standard library only.

Each function reads from any connection, as those of queries.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from supervisor.domain.answer import missing_answer
from supervisor.domain.lifecycle import ProcessState


def evaluation_of(connection: sqlite3.Connection, run_id: str, name: str) -> dict[str, Any] | None:
    """Return the result of an experiment's one test, with its opening; None until it is scored."""
    row = connection.execute(
        "SELECT opening, result FROM evaluation WHERE run = ? AND experiment = ?", (run_id, name)
    ).fetchone()
    if row is None or row["result"] is None:
        return None
    opening = {key: value for key, value in json.loads(row["opening"]).items() if key != "sealed_days"}
    return {**json.loads(row["result"]), "opening": opening}


def test_of(connection: sqlite3.Connection, run_id: str, name: str) -> dict[str, Any] | None:
    """Return the state of an experiment's test; None when it was never opened.

    `openings` are all, `tries` those since a person last asked for it; `failure` (error, outside) says why the last one
    has no result, None when its process was lost or is at work.
    """
    row = connection.execute(
        "SELECT openings, tries, opening, failure, result IS NOT NULL AS scored FROM evaluation"
        " WHERE run = ? AND experiment = ?",
        (run_id, name),
    ).fetchone()
    if row is None:
        return None
    return {
        "openings": row["openings"],
        "tries": row["tries"],
        "failure": None if row["failure"] is None else json.loads(row["failure"]),
        "scored": bool(row["scored"]),
        "earlier_looks": json.loads(row["opening"])["earlier_looks"],
    }


def answer_view(
    connection: sqlite3.Connection, row: sqlite3.Row, spec: dict[str, Any], finalized: dict[str, Any] | None
) -> dict[str, Any]:
    """Return the part of an experiment's view about its answer; `missing` says why it has none (domain.answer)."""
    test = test_of(connection, row["run"], row["name"])
    return {
        "finalized": finalized,
        "test": test,
        "evaluation": evaluation_of(connection, row["run"], row["name"]),
        "missing": missing_answer(spec, ProcessState(row["state"]), finalized, test),
    }
