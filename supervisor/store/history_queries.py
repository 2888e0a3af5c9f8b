"""Reads all runs of a home in short: when, how long, the experiments' states and best values. Standard library only.

It reads no result, so a daemon at work answers quickly. Each function reads from any connection, as those of queries.
"""

from __future__ import annotations

import json
import sqlite3
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.answer import missing_answer
from supervisor.domain.lifecycle import SUCCEEDED, ProcessState
from supervisor.store.answer_queries import evaluation_of, test_of
from supervisor.store.queries import experiment_rows

MAX_RUNS = 1000
"""The most runs of one answer."""


def history(connection: sqlite3.Connection, last: int, live: str | None = None) -> list[dict[str, Any]]:
    """Return the newest `last` runs, newest first; a daemon works on `live`."""
    rows = connection.execute("SELECT * FROM run ORDER BY rowid DESC LIMIT ?", (min(last, MAX_RUNS),)).fetchall()
    return [
        {
            "run": row["id"],
            "plan": row["plan"],
            "state": row["state"],
            "live": row["id"] == live,
            "reason": row["reason"],
            "created_wall": row["created_wall"],
            "ended_wall": row["ended_wall"],
            "last_event_wall": _last_event_wall(connection, row["id"]),
            "experiments": [_experiment(connection, one) for one in experiment_rows(connection, row["id"])],
        }
        for row in rows
    ]


def _last_event_wall(connection: sqlite3.Connection, run_id: str) -> float | None:
    row = connection.execute("SELECT wall FROM event WHERE run = ? ORDER BY seq DESC LIMIT 1", (run_id,)).fetchone()
    return None if row is None else float(row["wall"])


def _experiment(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, Any]:
    """Return what answer.counts reads of an experiment, and its best value of the search (`best`) and `final` one."""
    spec, state = json.loads(row["spec"]), ProcessState(row["state"])
    final = _final(connection, row, spec)
    return {
        "name": row["name"],
        "state": row["state"],
        "metric": spec["metric"],
        "mode": spec["mode"],
        "counts": _counts(connection, row),
        "missing": missing_answer(spec, state, final, test_of(connection, row["run"], row["name"])),
        "best": _best(connection, row, spec),
        "final": None if final is None else final["val_loss"],
    }


def _counts(connection: sqlite3.Connection, row: sqlite3.Row) -> dict[str, int]:
    return dict(
        connection.execute(
            "SELECT end_reason, count(*) FROM trial WHERE run = ? AND experiment = ? AND end_reason IS NOT NULL"
            " GROUP BY end_reason",
            (row["run"], row["name"]),
        ).fetchall()
    )


def _best(connection: sqlite3.Connection, row: sqlite3.Row, spec: dict[str, Any]) -> float | None:
    """Return the value of queries.best_trial, found by SQLite."""
    function = "min" if spec["mode"] == "min" else "max"
    marks, gone = ", ".join("?" * len(SUCCEEDED)), [int(number) for number in spec.get("discarded") or {}]
    (found,) = connection.execute(
        f"SELECT {function}(value) FROM trial WHERE run = ? AND experiment = ? AND number < ?"  # noqa: S608 - ours
        f" AND end_reason IN ({marks}) AND number NOT IN ({', '.join('?' * len(gone))})",
        (row["run"], row["name"], finalists.search_trials(spec), *SUCCEEDED, *gone),
    ).fetchone()
    # One that trains on counts as it had ended; in the end its value is none worse.
    kept = [one["value"] for number, one in (spec.get("extended") or {}).items() if int(number) not in gone]
    known = [float(value) for value in (found, *kept) if value is not None]
    return (min if spec["mode"] == "min" else max)(known, default=None)


def _final(connection: sqlite3.Connection, row: sqlite3.Row, spec: dict[str, Any]) -> dict[str, Any] | None:
    """Return the configuration that was finalised: of its test's result, else chosen from the trials; None without."""
    if spec.get("finalize") is None:
        return None
    tested = evaluation_of(connection, row["run"], row["name"])
    if tested is not None and "chosen" in tested:
        return dict(tested["chosen"])
    trials = [
        {**dict(trial), "params": json.loads(trial["params"])}
        for trial in connection.execute(
            "SELECT number, state, end_reason, value, params FROM trial WHERE run = ? AND experiment = ?"
            " ORDER BY number",
            (row["run"], row["name"]),
        )
    ]
    return finalists.describe(spec, trials)
