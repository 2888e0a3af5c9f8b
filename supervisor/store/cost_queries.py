"""Reads from the store what trials cost, for the ETA (domain.eta). Standard library only.

Each function reads from any connection, as those of queries.
"""

from __future__ import annotations

import json
import math
import sqlite3
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain.eta.trial_work import TrialCost, epoch_work, measured
from supervisor.domain.time_accounting import LostTime

RECENT = 16
"""The number of last values of a running trial that are shown."""


def figures_of(connection: sqlite3.Connection, run_id: str, after: int = 0) -> dict[str, Any]:
    """Return the dry run's figures by experiment (`run.estimated`) after event `after`; empty without any."""
    row = connection.execute(
        "SELECT fields FROM event WHERE run = ? AND seq > ? AND name = 'run.estimated' ORDER BY seq LIMIT 1",
        (run_id, after),
    ).fetchone()
    return {} if row is None else dict(json.loads(row["fields"])["experiments"])


def work_so_far(
    connection: sqlite3.Connection,
    experiment: sqlite3.Row,
    trial: Mapping[str, Any],
    figures: Mapping[str, Any],
    lost: LostTime,
) -> dict[str, Any]:
    """Return a running trial's `epoch`, its last values, its training seconds, and when its attempt or epoch began.

    A pause within the epoch is no work, so `since_wall` is later by the length of those that `lost` knows.
    `work` is that of an epoch by the dry run's figures. The params of `trial` may still be text.
    """
    params = json.loads(trial["params"]) if isinstance(trial["params"], str) else trial["params"]
    key = (experiment["run"], experiment["name"], trial["number"])
    where = "WHERE run = ? AND experiment = ? AND trial = ?"
    attempt, resumed, began = connection.execute(
        "SELECT max(attempt), coalesce(resumed_step, 0), started_wall"  # noqa: S608 - ours
        f" FROM attempt {where}",
        key,
    ).fetchone()
    # What an attempt has still to train again is no progress.
    counted = "(attempt = ? OR step <= ?)"
    epoch, spent_s, reported = connection.execute(
        "SELECT count(*), coalesce(sum(json_extract(metrics, '$.time_this_iter_s')), 0), max(wall)"  # noqa: S608 - ours
        f" FROM result {where} AND {counted}",
        (*key, attempt, resumed),
    ).fetchone()
    newest = connection.execute(
        f"SELECT value FROM result {where} AND {counted} AND value IS NOT NULL ORDER BY step DESC LIMIT {RECENT}",  # noqa: S608 - ours
        (*key, attempt, resumed),
    ).fetchall()
    recent = [row["value"] for row in reversed(newest)]
    walls = [float(wall) for wall in (reported, began) if wall is not None]
    since = max(walls, default=math.inf)
    pauses = lost.pauses.get((experiment["name"], trial["number"]), ())
    held_s = sum(end - max(begin, since) for begin, end in pauses if end > since)
    return {
        "epoch": epoch,
        "last_value": recent[-1] if recent else None,
        "recent": recent,
        "spent_s": float(spent_s),
        "since_wall": since + held_s if walls else None,
        "work": epoch_work(figures, params),
    }


def measured_of(
    row: sqlite3.Row,
    spec: Mapping[str, Any],
    figures: Mapping[str, Any],
    costs: Iterable[TrialCost],
    best: Mapping[str, Any] | None,
) -> dict[str, Any]:
    """Return what the ended trials of an experiment have shown (trial_work.measured); `best` is that of its view."""
    walls = row["started_wall"], row["ended_wall"]
    return measured(spec, figures, costs, None if best is None else best["trial"], walls)
