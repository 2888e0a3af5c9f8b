"""Looks up single facts of a run, experiment or trial in the store. Standard library only.

Each function reads through Store.rows, so it raises DiskFailed when the disk does not give the file back.
"""

from __future__ import annotations

import json
import os
import sqlite3
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from supervisor.domain.command import Command
from supervisor.domain.experiment_order import Waiting
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.scope import SCHEDULE
from supervisor.store.database import Store
from supervisor.store.event import Event

_LIVE = "state IN ('RUNNING', 'PAUSED')"

# A run


def run(store: Store, run_id: str) -> sqlite3.Row:
    """Return the row of a run. Raises KeyError when there is none."""
    return _one(store.row("SELECT * FROM run WHERE id = ?", run_id), f"run {run_id}")


def run_ids(store: Store) -> list[str]:
    """Return the ids of all runs, oldest first."""
    return [str(row["id"]) for row in store.rows("SELECT id FROM run ORDER BY rowid")]


def commands(store: Store, run_id: str) -> list[Command]:
    """Return the operator's commands in force."""
    rows = store.rows("SELECT command FROM command WHERE run = ? AND scope != ? ORDER BY scope", run_id, SCHEDULE)
    return [Command.from_json(json.loads(row["command"])) for row in rows]


def schedule(store: Store, run_id: str) -> Command | None:
    """Return the schedule's last command; None before the first."""
    row = store.row("SELECT command FROM command WHERE run = ? AND scope = ?", run_id, SCHEDULE)
    return None if row is None else Command.from_json(json.loads(row["command"]))


# An experiment


def experiments(store: Store, run_id: str) -> list[sqlite3.Row]:
    """Return the rows of a run's experiments, in the order of the plan."""
    return store.rows("SELECT * FROM experiment WHERE run = ? ORDER BY ordinal", run_id)


def experiment(store: Store, run_id: str, name: str) -> sqlite3.Row:
    """Return the row of an experiment. Raises KeyError when there is none."""
    row = store.row("SELECT * FROM experiment WHERE run = ? AND name = ?", run_id, name)
    return _one(row, f"experiment {name} in run {run_id}")


def waiting(store: Store, run_id: str) -> list[Waiting]:
    """Return the experiments of a run as their order is decided by, in the order of the plan."""
    return [
        Waiting(
            row["name"], ProcessState(row["state"]), row["driver_starts"] > 0, json.loads(row["spec"]).get("put_next")
        )
        for row in experiments(store, run_id)
    ]


def spec(store: Store, run_id: str, name: str) -> dict[str, Any]:
    """Return an experiment's spec as the events since its start have changed it, its dataset where this home has it."""
    found: dict[str, Any] = json.loads(experiment(store, run_id, name)["spec"])
    dataset = found.get("config", {}).get("dataset")
    if isinstance(dataset, str):
        found["config"]["dataset"] = dataset_here(Path(dataset), store.path.parent.parent)
    return found


def dataset_here(recorded: Path, home: Path) -> str:
    """Return the path of a dataset; below `home` if that was moved, and the recorded path is of its earlier place."""
    here = home.joinpath(*recorded.parts[-3:])  # data/processed/FILE
    # os.path: a folder of another user must not raise.
    return str(here if os.path.isfile(here) and not os.path.isfile(recorded) else recorded)  # noqa: PTH113


def progress(store: Store, run_id: str, name: str) -> int:
    """Return how many results, ends, retries and extensions of trials an experiment has had. It only grows."""
    names = ("trial.reported", "trial.finished", "trial.failed", "trial.retried", "trial.extended")
    row = store.row(
        f"SELECT count(*) AS n FROM event WHERE run = ? AND experiment = ? AND name IN ({_marks(names)})",  # noqa: S608
        run_id, name, *names,
    )  # fmt: skip
    return int(_one(row, name)["n"])


# A trial


def trial(store: Store, run_id: str, name: str, number: int) -> sqlite3.Row | None:
    """Return the row of a trial; None when there is none."""
    return store.row("SELECT * FROM trial WHERE run = ? AND experiment = ? AND number = ?", run_id, name, number)


def trials(store: Store, run_id: str, name: str) -> list[sqlite3.Row]:
    """Return the rows of an experiment's trials, in the order of their numbers."""
    return store.rows("SELECT * FROM trial WHERE run = ? AND experiment = ? ORDER BY number", run_id, name)


def count_of_trials(store: Store, run_id: str, name: str) -> int:
    """Return how many trials an experiment has; no row of them is read."""
    row = store.row("SELECT count(*) AS n FROM trial WHERE run = ? AND experiment = ?", run_id, name)
    return int(_one(row, name)["n"])


def highest_trial(store: Store, run_id: str, name: str) -> int | None:
    """Return the highest number of an experiment's trials; None before the first. One step in the index, however many.

    It is the count of them less one, or more where the first of several finalists' trials has begun.
    """
    row = store.row("SELECT max(number) AS number FROM trial WHERE run = ? AND experiment = ?", run_id, name)
    return None if row is None or row["number"] is None else int(row["number"])


def trial_costs(store: Store, run_id: str, name: str, after: int) -> list[dict[str, Any]]:
    """Return the trials that ended after event `after`, as search_time.pace wants them."""
    rows = store.rows(
        "SELECT number, trial.value AS value, end_reason, params, count(result.step) AS epochs,"
        " coalesce(sum(json_extract(metrics, '$.time_this_iter_s')), 0) AS seconds"
        " FROM trial LEFT JOIN result ON result.run = trial.run AND result.experiment = trial.experiment"
        " AND result.trial = trial.number"
        " WHERE trial.run = ?1 AND trial.experiment = ?2 AND end_reason IS NOT NULL AND number IN"
        " (SELECT trial FROM event WHERE seq > ?3 AND run = ?1 AND experiment = ?2 AND name LIKE 'trial.f%')"
        " GROUP BY number ORDER BY number",
        run_id, name, after,
    )  # fmt: skip
    return [{**dict(row), "params": json.loads(row["params"])} for row in rows]


def live_trials(store: Store, run_id: str, name: str | None = None) -> list[sqlite3.Row]:
    """Return the rows of the RUNNING and PAUSED trials, of one experiment where given."""
    return store.rows(
        f"SELECT * FROM trial WHERE run = ?1 AND (?2 IS NULL OR experiment = ?2) AND {_LIVE}", run_id, name  # noqa: S608
    )  # fmt: skip


def unfinished_trials(store: Store, run_id: str, name: str) -> list[sqlite3.Row]:
    """Return the rows of an experiment's trials that have not ended, by number."""
    return store.rows(
        "SELECT * FROM trial WHERE run = ? AND experiment = ? AND end_reason IS NULL ORDER BY number", run_id, name
    )


def attempt_of(store: Store, run_id: str, name: str, number: int, step: int) -> int | None:
    """Return the attempt whose result of an epoch counts; None while there is none."""
    row = store.row(
        "SELECT attempt FROM result WHERE run = ? AND experiment = ? AND trial = ? AND step = ?",
        run_id, name, number, step,
    )  # fmt: skip
    return None if row is None else int(row["attempt"])


def last_progress(store: Store, run_id: str, name: str) -> int:
    """Return the number of an experiment's newest event of a trial's begin, epoch or end; 0 without one."""
    names = ("trial.started", "trial.reported", "trial.repeated", "trial.finished", "trial.failed")
    row = store.row(
        f"SELECT seq FROM event WHERE run = ? AND experiment = ? AND name IN ({_marks(names)})"  # noqa: S608
        " ORDER BY seq DESC LIMIT 1",
        run_id, name, *names,
    )  # fmt: skip
    return 0 if row is None else int(row["seq"])


def trials_finished_after(store: Store, run_id: str, name: str, seq: int) -> set[int]:
    """Return the numbers of the trials of an experiment that finished after event `seq`."""
    rows = store.rows(
        "SELECT trial FROM event WHERE run = ? AND seq > ? AND name = 'trial.finished' AND experiment = ?",
        run_id, seq, name,
    )  # fmt: skip
    return {int(row["trial"]) for row in rows}


def longest_epoch_s(store: Store, run_id: str, name: str) -> float | None:
    """Return the seconds of an experiment's longest epoch; None before the first."""
    row = store.row(
        "SELECT max(json_extract(metrics, '$.time_this_iter_s')) AS s FROM result WHERE run = ? AND experiment = ?",
        run_id, name,
    )  # fmt: skip
    return None if row is None or row["s"] is None else float(row["s"])


def epochs(store: Store, run_id: str, name: str, number: int) -> int:
    """Return how many epochs of a trial were reported."""
    row = store.row(
        "SELECT count(*) AS n FROM result WHERE run = ? AND experiment = ? AND trial = ?", run_id, name, number
    )
    return int(_one(row, f"trial {number}")["n"])


def last_epoch(store: Store, run_id: str, name: str, number: int) -> int:
    """Return the last epoch of a trial that was reported; 0 before the first."""
    row = store.row(
        "SELECT coalesce(max(step), 0) AS step FROM result WHERE run = ? AND experiment = ? AND trial = ?",
        run_id, name, number,
    )  # fmt: skip
    return int(_one(row, f"trial {number}")["step"])


# Its test


def test(store: Store, run_id: str, name: str) -> sqlite3.Row | None:
    """Return the row of an experiment's test; None when it was never opened."""
    return store.row("SELECT * FROM evaluation WHERE run = ? AND experiment = ?", run_id, name)


def openings_elsewhere(store: Store, run_id: str) -> list[tuple[str, dict[str, Any]]]:
    """Return the run and the opening of each test that another run of this home opened, oldest run first."""
    rows = store.rows(
        "SELECT evaluation.run, opening FROM evaluation JOIN run ON run.id = evaluation.run WHERE run.id != ?"
        " ORDER BY run.rowid, experiment",
        run_id,
    )
    return [(str(row["run"]), json.loads(row["opening"])) for row in rows]


# Events


def last_seq(store: Store) -> int:
    """Return the number of the newest event; 0 in an empty store."""
    return int(_one(store.row("SELECT coalesce(max(seq), 0) AS seq FROM event"), "event")["seq"])


def last_event_of_plan(store: Store, plan: str) -> tuple[int, float] | None:
    """Return the number and wall time of the newest event of a plan's runs; None when there is none."""
    row = store.row(
        "SELECT seq, wall FROM event WHERE run IN (SELECT id FROM run WHERE plan = ?) ORDER BY seq DESC LIMIT 1", plan
    )
    return None if row is None else (int(row["seq"]), float(row["wall"]))


def has_advanced(store: Store, entry_id: str) -> bool:
    """Return whether the run of this entry of the queue has begun."""
    rows = store.rows("SELECT fields FROM event WHERE name = 'queue.advanced'")
    return any(json.loads(row["fields"])["id"] == entry_id for row in rows)


def wall_of_event(store: Store, seq: int) -> float | None:
    """Return the wall time of an event; None when there is no event of that number."""
    row = store.row("SELECT wall FROM event WHERE seq = ?", seq)
    return None if row is None else float(row["wall"])


def newest_events(
    store: Store, names: Sequence[str], limit: int, *, run: str | None = None, after: int = 0, before: int = 2**62
) -> list[Event]:
    """Return the newest `limit` events of these names after number `after` and before `before`, oldest first."""
    rows = store.rows(
        f"SELECT * FROM event WHERE seq > ? AND seq < ? AND (? IS NULL OR run = ?) AND name IN ({_marks(names)})"  # noqa: S608
        " ORDER BY seq DESC LIMIT ?",
        after, before, run, run, *names, limit,
    )  # fmt: skip
    return [Event.of_row(row) for row in reversed(rows)]


def events_named(store: Store, names: Sequence[str], limit: int, *, after: int) -> list[Event]:
    """Return the first `limit` events of these names after number `after`, oldest first."""
    rows = store.rows(
        f"SELECT * FROM event WHERE seq > ? AND name IN ({_marks(names)}) ORDER BY seq LIMIT ?",  # noqa: S608
        after, *names, limit,
    )  # fmt: skip
    return [Event.of_row(row) for row in rows]


def events_of_time(store: Store, run_id: str, name: str) -> list[Event]:
    """Return the events that say how long drivers of an experiment were alive (time_accounting.driven_seconds)."""
    rows = store.rows(
        "SELECT * FROM event WHERE run = ?"
        " AND (experiment = ? OR name LIKE 'daemon.%' OR name IN ('machine.slept', 'clock.set')) ORDER BY seq",
        run_id, name,
    )  # fmt: skip
    return [Event.of_row(row) for row in rows]


def _marks(names: Iterable[str]) -> str:
    return ", ".join("?" for _ in names)


def _one(row: sqlite3.Row | None, what: str) -> sqlite3.Row:
    if row is None:
        raise KeyError(f"the store holds no {what}")
    return row
