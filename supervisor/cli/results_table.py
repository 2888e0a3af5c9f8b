"""Prints a run's results as a plain table. Pure; standard library only."""

from __future__ import annotations

from collections import Counter
from typing import Any

from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.formatting import duration, short_value, shortened, table

HEADINGS = ("experiment", "state", "trials", "best", "final", "best params", "duration")
FINAL = HEADINGS.index("final")
MAX_PARAMS_CHARACTERS = 60


def text_table(view: dict[str, Any], now_wall: float | None = None) -> str:
    """Return the experiments of a `run_snapshot`, a line each, and the summary.

    `final` is the mean of the chosen configuration over fresh seeds; the column is left out when no experiment has one.
    `now_wall` (seconds since the epoch) gives a running experiment its duration so far.
    """
    rows = [HEADINGS, *(_row(experiment, now_wall) for experiment in view["experiments"])]
    if not any(experiment.get("finalized") for experiment in view["experiments"]):
        rows = [tuple(cell for column, cell in enumerate(row) if column != FINAL) for row in rows]
    return "\n".join([*table(rows, rule=True), *_reasons(view["experiments"]), "", summary(view)])


def summary(view: dict[str, Any]) -> str:
    """Return "passed N, failed N, skipped N", and "unfinished N" when there are any."""
    counts = Counter(ProcessState(experiment["state"]) for experiment in view["experiments"])
    unfinished = sum(n for state, n in counts.items() if state not in ENDED)
    words = [
        f"passed {counts[ProcessState.EXITED]}",
        f"failed {counts[ProcessState.FATAL]}",
        f"skipped {counts[ProcessState.SKIPPED]}",
    ]
    return ", ".join([*words, *([f"unfinished {unfinished}"] if unfinished else [])])


def short_params(params: dict[str, Any], max_characters: int = MAX_PARAMS_CHARACTERS) -> str:
    """Return "name=value ...", cut to `max_characters`."""
    return shortened(" ".join(f"{name}={short_value(value)}" for name, value in params.items()), max_characters)


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
    """Return why experiments failed or were skipped, to stand below the table: such a text is longer than a column."""
    bad = [e for e in experiments if e["reason"] and e["state"] in (ProcessState.FATAL, ProcessState.SKIPPED)]
    return [f"{experiment['name']} {experiment['state']}: {experiment['reason']}" for experiment in bad]
