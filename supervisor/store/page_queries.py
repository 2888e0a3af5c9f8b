"""Reads what the live page draws: trials and their curves, temperatures, newest events. Standard library only.

Each function reads from any connection, as those of queries, and each answer is bounded.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Sequence
from typing import Any

from supervisor.errors import NotFound
from supervisor.store.event import Event

MAX_TRIALS = 10_000
MAX_CURVES = 48
MAX_CURVE_STEPS = 2000
MAX_READINGS = 100_000
MAX_LOOKED_AT = 100_000
"""The events among which the newest of the other kinds are looked for."""
FREQUENT = ("trial.reported", "trial.repeated", "hardware.sampled")
"""Events that the charts show, and that would push every other one out of the list."""
PAUSES = (
    "experiment.paused", "experiment.resumed", "experiment.started", "experiment.moved", "experiment.stopped",
    "experiment.finished", "experiment.failed", "daemon.stopped", "daemon.started",
)  # fmt: skip
"""The events by which a pause of the experiment at work begins and ends."""


def experiment_spec(connection: sqlite3.Connection, run_id: str, name: str) -> dict[str, Any]:
    """Return the spec of an experiment. Raises NotFound when the run has none of that name."""
    row = connection.execute("SELECT spec FROM experiment WHERE run = ? AND name = ?", (run_id, name)).fetchone()
    if row is None:
        raise NotFound(f"no experiment {name!r:.100} in {run_id}")
    spec: dict[str, Any] = json.loads(row["spec"])
    return spec


def trial_rows(connection: sqlite3.Connection, run_id: str, name: str) -> list[dict[str, Any]]:
    """Return the newest MAX_TRIALS trials of an experiment by number, without results."""
    rows = connection.execute(
        "SELECT number, state, end_reason, value, params, source, ended_wall FROM trial"
        " WHERE run = ? AND experiment = ? ORDER BY number DESC LIMIT ?",
        (run_id, name, MAX_TRIALS),
    ).fetchall()
    return [{**dict(row), "params": json.loads(row["params"])} for row in reversed(rows)]


def curves(
    connection: sqlite3.Connection, run_id: str, name: str, numbers: Sequence[int]
) -> dict[int, list[tuple[int, float | None]]]:
    """Return (step, value) by step of these trials, of MAX_CURVES at most and the first MAX_CURVE_STEPS of each."""
    found = {}
    for number in numbers[:MAX_CURVES]:
        rows = connection.execute(
            "SELECT step, value FROM result WHERE run = ? AND experiment = ? AND trial = ? ORDER BY step LIMIT ?",
            (run_id, name, number, MAX_CURVE_STEPS),
        )
        found[number] = [(int(row["step"]), row["value"]) for row in rows]
    return found


def epochs(connection: sqlite3.Connection, run_id: str) -> dict[str, int]:
    """Return the number of reported epochs by experiment."""
    rows = connection.execute(
        "SELECT experiment, count(*) AS n FROM result WHERE run = ? GROUP BY experiment", (run_id,)
    )
    return {str(row["experiment"]): int(row["n"]) for row in rows}


def temperatures(connection: sqlite3.Connection, run_id: str, since_minute: int) -> list[dict[str, Any]]:
    """Return the highest value of each sensor in degrees Celsius by minute, from `since_minute` on, oldest first."""
    rows = connection.execute(
        "SELECT node, sensor, minute, high FROM reading"
        " WHERE run = ? AND unit = 'celsius' AND minute >= ? AND high IS NOT NULL ORDER BY minute LIMIT ?",
        (run_id, since_minute, MAX_READINGS),
    )
    return [dict(row) for row in rows]


def newest_events(connection: sqlite3.Connection, run_id: str, after: int, limit: int) -> list[Event]:
    """Return the newest `limit` events of a run with a larger number than `after`, oldest first, but for FREQUENT.

    Only the newest MAX_LOOKED_AT are looked at.
    """
    after = max(after, last_seq(connection) - MAX_LOOKED_AT)
    rows = connection.execute(
        f"SELECT * FROM event WHERE run = ? AND seq > ? AND name NOT IN {_marks(FREQUENT)}"  # noqa: S608 - only marks
        " ORDER BY seq DESC LIMIT ?",
        (run_id, after, *FREQUENT, limit),
    ).fetchall()
    return [Event.of_row(row) for row in reversed(rows)]


def pause_events(connection: sqlite3.Connection, run_id: str, after: int, upto: int) -> list[Event]:
    """Return the events of PAUSES with numbers above `after` up to `upto`, oldest first."""
    rows = connection.execute(
        f"SELECT * FROM event WHERE run = ? AND seq > ? AND seq <= ? AND name IN {_marks(PAUSES)}"  # noqa: S608
        " ORDER BY seq",
        (run_id, after, upto, *PAUSES),
    )
    return [Event.of_row(row) for row in rows]


def last_seq(connection: sqlite3.Connection) -> int:
    """Return the number of the newest event; 0 without one."""
    return int(connection.execute("SELECT coalesce(max(seq), 0) FROM event").fetchone()[0])


def _marks(names: Sequence[str]) -> str:
    return f"({', '.join('?' * len(names))})"
