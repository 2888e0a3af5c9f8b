"""A run's results as a plain table, as the command line prints it at a run's end. Pure; standard library only."""

from __future__ import annotations

from collections import Counter
from typing import Any

from supervisor.cli.status_text import duration
from supervisor.domain.lifecycle import ENDED, ProcessState

HEADINGS = ("experiment", "state", "trials", "best", "final", "best params", "duration")
FINAL = HEADINGS.index("final")
MAX_PARAMS_SIGNS = 60
ELLIPSIS = "…"


def text_table(view: dict[str, Any], now_wall: float | None = None) -> str:
    """The experiments of a `run_snapshot` (with or without trials), a line each, then how many passed.

    `final` is the mean of the finally chosen configuration over fresh seeds; the column is there where one is.
    `now_wall` (seconds since the epoch) gives a running experiment its duration so far.
    """
    rows = [HEADINGS, *(_row(experiment, now_wall) for experiment in view["experiments"])]
    if not any(experiment.get("finalized") for experiment in view["experiments"]):
        rows = [tuple(cell for column, cell in enumerate(row) if column != FINAL) for row in rows]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(f"{cell:<{width}}" for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    lines.insert(1, "  ".join("-" * width for width in widths))
    lines += _reasons(view["experiments"])
    return "\n".join([*lines, "", summary(view)])


def summary(view: dict[str, Any]) -> str:
    """ "passed N, failed N, skipped N", and how many are unfinished where any are."""
    counts = Counter(ProcessState(experiment["state"]) for experiment in view["experiments"])
    unfinished = sum(n for state, n in counts.items() if state not in ENDED)
    words = [
        f"passed {counts[ProcessState.EXITED]}",
        f"failed {counts[ProcessState.FATAL]}",
        f"skipped {counts[ProcessState.SKIPPED]}",
    ]
    return ", ".join([*words, *([f"unfinished {unfinished}"] if unfinished else [])])


def short_value(value: Any) -> str:
    """A parameter's value in few characters: floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def short_params(params: dict[str, Any], max_characters: int = MAX_PARAMS_SIGNS) -> str:
    """ "name=value ..." with an ellipsis for what does not fit."""
    text = " ".join(f"{name}={short_value(value)}" for name, value in params.items())
    return text if len(text) <= max_characters else text[: max_characters - 1] + ELLIPSIS


def _row(experiment: dict[str, Any], now_wall: float | None) -> tuple[str, ...]:
    best, final = experiment["best"], experiment.get("finalized")
    return (
        experiment["name"],
        experiment["state"],
        f"{experiment['ended']}/{experiment['max_trials']}",
        "-" if best is None else f"{best['value']:.5g}",
        "-" if final is None else f"{final['val_loss']:.5g}",
        "-" if best is None else short_params(best["params"]),
        _duration(experiment, now_wall),
    )


def _duration(experiment: dict[str, Any], now_wall: float | None) -> str:
    end = experiment["ended_wall"] or now_wall
    started = experiment["started_wall"]
    return "-" if started is None or end is None else duration(end - started)


def _reasons(experiments: list[dict[str, Any]]) -> list[str]:
    """Why an experiment failed or was skipped, below the table: such a text is longer than a column."""
    told = [e for e in experiments if e["reason"] and e["state"] in (ProcessState.FATAL, ProcessState.SKIPPED)]
    return [f"{experiment['name']} {experiment['state']}: {experiment['reason']}" for experiment in told]
