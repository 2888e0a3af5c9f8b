"""Writes a run's experiments as a table, for `wait` and `report`. Pure; standard library only."""

from __future__ import annotations

from typing import Any

from supervisor.cli.status_text import failed_words, failures, looks
from supervisor.domain.answer import counts
from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.formatting import duration, error_sentence, short_value, shortened, table

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
    """Return "passed N, failed N, skipped N" of experiments; what else there is where there is any."""
    found = counts(view["experiments"])
    unfinished = sum(experiment["state"] not in ENDED for experiment in view["experiments"])
    words = [f"{word} {found[word]}" for word in ("passed", "failed", "skipped")]
    words += [f"without an answer {found['incomplete']}"] if found["incomplete"] else []
    failed = sum(sum(failures(experiment["counts"]).values()) for experiment in view["experiments"])
    trials = [f"and {failed} trial{'s' if failed > 1 else ''} failed"] if failed else []
    return ", ".join([*words, *([f"unfinished {unfinished}"] if unfinished else []), *trials])


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
    """Return why experiments and trials failed, to stand below the table: such a text is longer than a column."""
    lines = []
    for experiment in experiments:
        name, failed = experiment["name"], failed_words(experiment)
        if experiment["reason"] and experiment["state"] in (ProcessState.FATAL, ProcessState.SKIPPED):
            lines.append(f"{name} {experiment['state']}: {error_sentence(str(experiment['reason']))}")
        elif failed:
            lines.append(f"{name}: {failed[0]}{_first_error(experiment)}")
        if experiment["missing"] is not None:
            lines.append(f"{name} has no answer: {experiment['missing']}")
        lines += [f"{name}: {words}" for words in looks(experiment)]
    return lines


def _first_error(experiment: dict[str, Any]) -> str:
    for trial in experiment.get("trials", []):
        if trial["error"] and trial["end_reason"] in failures(experiment["counts"]):
            return f"; the first, trial {trial['number']}: {error_sentence(trial['error'])}"
    return ""
