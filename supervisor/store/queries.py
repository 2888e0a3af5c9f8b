"""Reads a run from the store as JSON values.

They are for `status`, the report, the checker and a driver's begin. Each function reads from any connection: the
daemon's own, or a read-only one when no daemon is running. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.answer import prior_loss
from supervisor.domain.eta.trial_work import NO_FIGURES, cost_of
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason, ProcessState, TrialState
from supervisor.domain.run_words import GIVEN_UP
from supervisor.domain.stage import doing
from supervisor.domain.time_accounting import LOSS_EVENTS, LostTime
from supervisor.domain.trials.duplicates import DUPLICATE_OF
from supervisor.domain.trials.extension import as_it_had_ended
from supervisor.errors import NotFound
from supervisor.formatting import nearest
from supervisor.store.answer_queries import answer_view
from supervisor.store.cost_queries import figures_of, measured_of, work_so_far
from supervisor.store.event import Event
from supervisor.store.failure_queries import last_failure


def latest_run(connection: sqlite3.Connection, run_id: str | None = None, plan: str | None = None) -> str | None:
    """Return the id of the run with the newest event: of all runs, of `plan`, or of `run_id`; None without one."""
    row = connection.execute(
        "SELECT id FROM run WHERE (?1 IS NULL OR id = ?1) AND (?2 IS NULL OR plan = ?2)"
        " ORDER BY (SELECT max(seq) FROM event WHERE run = run.id) DESC LIMIT 1",
        (run_id, plan),
    ).fetchone()
    return None if row is None else str(row["id"])


def run_named(connection: sqlite3.Connection, run_or_plan: str | None) -> str:
    """Return the id of the newest run, or of the one of that id or plan. Raises NotFound, with the nearest name."""
    found = latest_run(connection, run_or_plan) or latest_run(connection, plan=run_or_plan)
    if found is None:
        rows = connection.execute("SELECT plan, id FROM run ORDER BY rowid DESC LIMIT 1000").fetchall()
        names = list(dict.fromkeys([*(str(row["plan"]) for row in rows), *(str(row["id"]) for row in rows)]))
        said = "no run yet" if run_or_plan is None else f"no run or plan {run_or_plan!r} in this home"
        raise NotFound(said, remedy=nearest(run_or_plan or "", names) or f"there are {', '.join(names[:20]) or 'none'}")
    return found


def unfinished_run(
    connection: sqlite3.Connection, plan: str | None = None, *, stopped_too: bool = True
) -> sqlite3.Row | None:
    """Return the newest run that neither ended nor was given up, of `plan` where given.

    A FATAL run is unfinished: its daemon could not go on (Ray did not start, for example), but its results are there.
    `stopped_too` False leaves out those that an operator stopped.
    """
    found: sqlite3.Row | None = connection.execute(
        "SELECT * FROM run WHERE state != 'EXITED' AND reason IS NOT ?1 AND (?2 IS NULL OR plan = ?2)"
        " AND (?3 OR desired = 'run') ORDER BY rowid DESC LIMIT 1",
        (GIVEN_UP, plan, stopped_too),
    ).fetchone()
    return found


def last_run_of(connection: sqlite3.Connection, plan: str | None) -> sqlite3.Row | None:
    """Return the newest run that was not given up, ended or not; of `plan` where given."""
    found: sqlite3.Row | None = connection.execute(
        "SELECT * FROM run WHERE reason IS NOT ?1 AND (?2 IS NULL OR plan = ?2) ORDER BY rowid DESC LIMIT 1",
        (GIVEN_UP, plan),
    ).fetchone()
    return found


def plan_of(connection: sqlite3.Connection, run_id: str) -> str:
    """Return the name of a run's plan."""
    return str(connection.execute("SELECT plan FROM run WHERE id = ?", (run_id,)).fetchone()["plan"])


def noted(connection: sqlite3.Connection, key: str) -> str | None:
    """Return a value that Store.note keeps; None when there is none."""
    row = connection.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
    return None if row is None else str(row["value"])


def events_of(connection: sqlite3.Connection, run_id: str) -> list[Event]:
    """Return every event of a run, oldest first."""
    rows = connection.execute("SELECT * FROM event WHERE run = ? ORDER BY seq", (run_id,))
    return [Event.of_row(row) for row in rows]


def event_numbers(connection: sqlite3.Connection) -> tuple[int, int, int]:
    """Return how many events the store holds, and the first and the last number; 0 for none."""
    return tuple(
        connection.execute("SELECT count(*), coalesce(min(seq), 0), coalesce(max(seq), 0) FROM event").fetchone()
    )


def tables_of(connection: sqlite3.Connection, run_id: str) -> dict[str, list[dict[str, Any]]]:
    """Return every row of a run that the projection writes, by table."""
    found = {}
    for table in ("run", "experiment", "trial", "attempt", "result", "command", "evaluation"):
        column = "id" if table == "run" else "run"
        rows = connection.execute(f"SELECT * FROM {table} WHERE {column} = ? ORDER BY 1, 2, 3", (run_id,))  # noqa: S608
        found[table] = [dict(row) for row in rows]
    return found


def run_snapshot(connection: sqlite3.Connection, run_id: str) -> dict[str, Any]:
    """Return a run with every trial and its results (status_cache.StatusView has it without them)."""
    figures, (lost, last_s) = figures_of(connection, run_id), _lost(connection, run_id)
    return {
        **run_itself(connection, run_id),
        "experiments": [
            _experiment(connection, row, figures.get(row["name"], NO_FIGURES), lost)
            for row in experiment_rows(connection, run_id)
        ],
        "lost": lost.seconds(last_s),
        "lost_times": lost.times,
    }


def run_itself(connection: sqlite3.Connection, run_id: str) -> dict[str, Any]:
    """Return the run's own row, the operator's commands in force and the schedule's last one."""
    run = dict(connection.execute("SELECT * FROM run WHERE id = ?", (run_id,)).fetchone())
    for key in ("hardware", "data"):
        run[key] = json.loads(run[key])
    run.pop("plan_text")
    run["failure"] = _failure(connection, run_id) if run["state"] == ProcessState.FATAL else None
    commands = connection.execute("SELECT command FROM command WHERE run = ? ORDER BY scope", (run_id,)).fetchall()
    return {"run": run, "commands": [json.loads(row["command"]) for row in commands]}


def _failure(connection: sqlite3.Connection, run_id: str) -> str | None:
    """Return the error of the run's last `run.failed`; None when it was given up."""
    row = connection.execute(
        "SELECT fields FROM event WHERE run = ? AND name = 'run.failed' ORDER BY seq DESC LIMIT 1", (run_id,)
    ).fetchone()
    return None if row is None else str(json.loads(row["fields"])["error"])


def experiment_rows(connection: sqlite3.Connection, run_id: str) -> list[sqlite3.Row]:
    return connection.execute("SELECT * FROM experiment WHERE run = ? ORDER BY ordinal", (run_id,)).fetchall()


def _lost(connection: sqlite3.Connection, run_id: str) -> tuple[LostTime, float]:
    """Return the lost time of a run, and when its last event was (seconds since the epoch)."""
    lost, last_s = LostTime(), 0.0
    rows = connection.execute(
        f"SELECT name, wall, experiment, trial, fields FROM event WHERE run = ?1 AND (name IN {_marks(LOSS_EVENTS)}"  # noqa: S608 - ours
        " OR seq = (SELECT max(seq) FROM event WHERE run = ?1)) ORDER BY seq",
        (run_id,),
    )
    for row in rows:
        lost.add((row["name"], row["wall"], row["experiment"], row["trial"], json.loads(row["fields"])))
        last_s = row["wall"]
    return lost, last_s


def _marks(names: Iterable[str]) -> str:
    return "(" + ", ".join(f"'{name}'" for name in names) + ")"


def trials_of(connection: sqlite3.Connection, run_id: str, name: str) -> list[dict[str, Any]]:
    """Return the trials of an experiment by number, each with its [[step, value, seconds], ...]."""
    results: dict[int, list[list[Any]]] = {}
    for row in connection.execute(
        "SELECT trial, step, value, json_extract(metrics, '$.time_this_iter_s') AS seconds FROM result"
        " WHERE run = ? AND experiment = ? ORDER BY trial, step",
        (run_id, name),
    ):
        results.setdefault(row["trial"], []).append([row["step"], row["value"], row["seconds"]])
    rows = connection.execute(
        "SELECT * FROM trial WHERE run = ? AND experiment = ? ORDER BY number", (run_id, name)
    ).fetchall()
    return [
        {
            **{key: row[key] for key in row.keys() if key not in ("run", "experiment", "params", "record")},  # noqa: SIM118 - a Row iterates over values
            "params": json.loads(row["params"]),
            "record": json.loads(row["record"]),
            "results": results.get(row["number"], []),
        }
        for row in rows
    ]


def for_begin(connection: sqlite3.Connection, run_id: str, name: str) -> list[dict[str, Any]]:
    """Return the trials of an experiment as messages.Begin describes them."""
    wanted = ("number", "state", "end_reason", "params", "source", "value", "attempt", "checkpoint")
    lost, memory = lost_attempts(connection, run_id, name), _memory_given(connection, run_id, name)
    return [
        {
            **{key: trial[key] for key in wanted},
            "results": [[step, value] for step, value, _ in trial["results"]],
            "lost": lost.get(trial["number"], []),
            "memory": memory.get(trial["number"]),
            **{key: value for key, value in trial["record"].items() if key == DUPLICATE_OF},
        }
        for trial in trials_of(connection, run_id, name)
    ]


def lost_attempts(connection: sqlite3.Connection, run_id: str, name: str) -> dict[int, list[str]]:
    """Return the causes of each trial's ended attempts, oldest first.

    Those before its last retry or extension count no more.
    """
    retried = dict(
        connection.execute(
            "SELECT trial, max(attempt) FROM event WHERE run = ? AND experiment = ?"
            " AND name IN ('trial.retried', 'trial.extended') GROUP BY trial",
            (run_id, name),
        ).fetchall()
    )
    lost: dict[int, list[str]] = {}
    for row in connection.execute(
        "SELECT trial, attempt, cause FROM attempt WHERE run = ? AND experiment = ? AND cause IS NOT NULL"
        " ORDER BY trial, attempt",
        (run_id, name),
    ):
        if row["attempt"] > retried.get(row["trial"], 0):
            lost.setdefault(row["trial"], []).append(row["cause"])
    return lost


def _memory_given(connection: sqlite3.Connection, run_id: str, name: str) -> dict[int, dict[str, Any]]:
    """Return the newest memory settings of each trial that was reduced, by number."""
    rows = connection.execute(
        "SELECT trial, fields FROM event WHERE run = ? AND experiment = ? AND name = 'trial.reduced' ORDER BY seq",
        (run_id, name),
    )
    return {row["trial"]: json.loads(row["fields"])["memory"] for row in rows}


def best_trial(trials: Iterable[Mapping[str, Any]], spec: Mapping[str, Any]) -> dict[str, Any] | None:
    """Return the ended trial of the search with the best value; a pruned one counts with the value that it reached.

    Trials after the search may be judged on other days, so their values do not compare. One that trains on counts as
    it had ended.
    """
    ended = [as_it_had_ended(spec, trial) for trial in trials] if spec.get("extended") else trials
    valued = [trial for trial in ended if trial["value"] is not None and trial["end_reason"] in SUCCEEDED]
    if not valued:
        return None
    searched, discarded = finalists.search_trials(spec), {int(number) for number in spec.get("discarded", {})}
    compared = [trial for trial in valued if trial["number"] < searched and trial["number"] not in discarded]
    best = min if spec["mode"] == "min" else max
    found = best(compared, key=lambda trial: (trial["value"], trial["number"]), default=None)
    return None if found is None else dict(found)


def training_seconds(trial: dict[str, Any]) -> float:
    """Return a trial's seconds of training, without pauses."""
    return float(sum(seconds for _, _, seconds in trial["results"] if seconds is not None))


def _experiment(
    connection: sqlite3.Connection, row: sqlite3.Row, figures: Mapping[str, Any], lost: LostTime
) -> dict[str, Any]:
    spec, trials = json.loads(row["spec"]), trials_of(connection, row["run"], row["name"])
    work = [{**trial, **work_so_far(connection, row, trial, figures, lost)} for trial in running(trials)]
    costs = [
        cost_of(figures, trial, trial["params"], len(trial["results"]), training_seconds(trial))
        for trial in ended(trials)
        if trial["end_reason"] != EndReason.SET_ASIDE
    ]
    view = experiment_view(row, spec, trials, work)
    view["measured"] = measured_of(row, spec, figures, costs, view["best"])
    view |= answer_view(connection, row, spec, finalists.describe(spec, trials))
    failure = last_failure(connection, row["run"], row["name"])
    return {**view, "last_failure": failure, "doing": doing(view), "trials": trials}


def running(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["state"] in (TrialState.RUNNING, TrialState.PAUSED)]


def ended(trials: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return [trial for trial in trials if trial["state"] in TRIAL_ENDED]


def experiment_view(
    row: sqlite3.Row, spec: dict[str, Any], trials: list[dict[str, Any]], work: list[dict[str, Any]]
) -> dict[str, Any]:
    """Return an experiment without its trials; `work` are the running ones, each with its `work_so_far`."""
    best, over = best_trial(trials, spec), ended(trials)
    return {
        "name": row["name"],
        "state": row["state"],
        "reason": row["reason"],
        "action": row["action"],
        "origin": row["origin"],
        "driver_starts": row["driver_starts"],
        "started_wall": row["started_wall"],
        "ended_wall": row["ended_wall"],
        "spec": spec,
        "max_trials": finalists.planned_trials(spec),
        "counts": dict(Counter(trial["end_reason"] for trial in over)),
        "ended": len(over),
        "running": [{key: trial[key] for key in _RUNNING} for trial in work],
        "best": None if best is None else _best_view(best),
    }


def _best_view(trial: dict[str, Any]) -> dict[str, Any]:
    """Return the best trial of a search; its `params` and `record` may still be the store's text."""
    params, record = (
        json.loads(trial[key]) if isinstance(trial[key], str) else trial[key] for key in ("params", "record")
    )
    return {"value": trial["value"], "trial": trial["number"], "params": params, "prior": prior_loss(record or {})}


_RUNNING = ("number", "state", "epoch", "last_value", "recent", "held_for", "spent_s", "since_wall", "work")
