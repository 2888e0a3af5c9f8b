"""Writes the machine-readable files of a report: report.json, results.csv, best.json. Standard library only."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Iterable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from supervisor.filesystem import write_atomically
from supervisor.report.view import ExperimentRow, RunView, TrialRow, headline, missing, verdict

SCHEMA = 3
"""The version of report.json and best.json; it rises with every change of meaning."""

_TRIAL_COLUMNS = (
    "experiment", "trial", "state", "end_reason", "source", "attempt", "value", "epochs", "training_s", "started",
    "ended", "error", "duplicate_of",
)  # fmt: skip
_ARCHITECTURE_COLUMNS = ("d_model", "n_layers", "n_heads", "d_ff")


def write_file(path: Path, content: bytes) -> None:
    """Write a file of the report; it is not synced to the disk, because a report can be made again."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically(path, content, durable=False)


def json_bytes(value: Any) -> bytes:
    """Write `value` as indented JSON. Raises ValueError for NaN, which strict JSON does not have."""
    return (json.dumps(value, indent=2, ensure_ascii=False, allow_nan=False) + "\n").encode()


def report_json(run: RunView, answers: dict[str, Any]) -> dict[str, Any]:
    """Return the content of the page as numbers. `answers` are the answer's sentences, scaling fit and comparisons."""
    return {
        "schema": SCHEMA,
        "made_at": iso(run.now_wall),
        "headline": headline(run),
        "run": {
            "id": run.run_id,
            "plan": run.plan,
            "source": run.source,
            "fingerprint": run.fingerprint,
            "state": run.state,
            "created": iso(run.created_wall),
            "ended": iso(run.ended_wall),
            "duration_s": round(run.duration_s, 3),
        },
        "data": {**run.data, "embedded_sample": run.on_sample},
        "commands": list(run.commands),
        "lost_seconds_by_cause": dict(run.lost),
        "missing": missing(run),
        "experiments": [_experiment(experiment, run.now_wall) for experiment in run.experiments],
        **answers,
    }


def best_json(experiment: ExperimentRow, now_wall: float) -> dict[str, Any] | None:
    """Return the best trial and its cost; None if no trial has a value."""
    best = experiment.best
    if best is None:
        return None
    return {
        "schema": SCHEMA,
        "experiment": experiment.name,
        "cell": dict(experiment.cell),
        "metric": experiment.metric,
        "mode": experiment.spec["mode"],
        "value": best.value,
        "trial": best.number,
        "end_reason": best.end_reason,
        "params": dict(best.params),
        "architecture": None if best.architecture is None else dict(best.architecture),
        "param_count": best.param_count,
        "training_s": round(best.training_s, 3),
        "trials": experiment.ended,
        "finalized": experiment.finalized,
        "evaluation": experiment.evaluation,
        "experiment_training_s": round(experiment.training_s, 3),
        "experiment_duration_s": _rounded(experiment.duration_s(now_wall)),
    }


def results_csv(run: RunView) -> str:
    """Write `trial_table` as CSV; a cell without a value is empty."""
    out = io.StringIO()
    csv.writer(out, lineterminator="\n").writerows(trial_table(run))
    return out.getvalue()


def trial_table(run: RunView) -> list[list[Any]]:
    """Return the names of the columns, then a row for each trial; None where a trial lacks a value.

    Architecture, parameters (params.NAME) and cell values (cell.NAME) have columns of their own.
    """
    trials = [(experiment, trial) for experiment in run.experiments for trial in experiment.trials]
    cells = _names(experiment.cell for experiment in run.experiments)
    params = _names(trial.params for _, trial in trials)
    own_columns = [*(f"cell.{name}" for name in cells), *(f"params.{name}" for name in params)]
    rows: list[list[Any]] = [[*_TRIAL_COLUMNS, *_ARCHITECTURE_COLUMNS, "param_count", *own_columns]]
    for experiment, trial in trials:
        shape = trial.architecture or {}
        architecture = [*(shape.get(name) for name in _ARCHITECTURE_COLUMNS), trial.param_count]
        own = [*(experiment.cell.get(name) for name in cells), *(trial.params.get(name) for name in params)]
        rows.append([*_trial_cells(experiment, trial), *architecture, *own])
    return rows


def iso(wall_s: float | None) -> str | None:
    """Write seconds since the epoch as UTC in ISO 8601."""
    return None if wall_s is None else datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")


def _experiment(experiment: ExperimentRow, now_wall: float) -> dict[str, Any]:
    return {
        "name": experiment.name,
        "cell": dict(experiment.cell),
        "state": experiment.state,
        "verdict": verdict(experiment),
        "reason": experiment.reason,
        "metric": experiment.metric,
        "mode": experiment.spec["mode"],
        "max_trials": experiment.max_trials,
        "ended_trials": experiment.ended,
        "end_reasons": experiment.end_reasons,
        "best": best_json(experiment, now_wall),
        "training_s": round(experiment.training_s, 3),
        "duration_s": _rounded(experiment.duration_s(now_wall)),
        "started": iso(experiment.started_wall),
        "ended": iso(experiment.ended_wall),
    }


def _trial_cells(experiment: ExperimentRow, trial: TrialRow) -> list[Any]:
    last_line = trial.error.strip().splitlines()[-1] if trial.error and trial.error.strip() else None
    return [
        experiment.name, trial.number, trial.state, trial.end_reason, trial.source, trial.attempt, trial.value,
        len(trial.results), round(trial.training_s, 3), iso(trial.started_wall), iso(trial.ended_wall),
        last_line, trial.duplicate_of,
    ]  # fmt: skip


def _names(mappings: Iterable[Any]) -> list[str]:
    """List every key, in the order of first appearance."""
    return list(dict.fromkeys(name for mapping in mappings for name in mapping))


def _rounded(seconds: float | None) -> float | None:
    return None if seconds is None else round(seconds, 3)
