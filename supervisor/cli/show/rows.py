"""Turns a run's trials and results into rows of named values. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from supervisor.domain.finalists import is_discarded
from supervisor.domain.lifecycle import FAILED, EndReason, TrialState
from supervisor.domain.trials.extension import more_epochs
from supervisor.errors import UsageError
from supervisor.formatting import nearest
from supervisor.report.files import trial_table
from supervisor.report.view import read_view

Row = dict[str, Any]
LAST = "last_value"
"""The column of the value that a trial reported last; `value` is there once it has ended."""
MORE = "extended_epochs"
"""The column of the epochs by which a person has extended a trial."""
STATES = {
    **{state.lower(): frozenset({state.value}) for state in TrialState},
    **{reason.value: frozenset({reason.value}) for reason in EndReason},
    "failed": frozenset(reason.value for reason in FAILED),
}
"""The words of --state, and the states and end reasons that each stands for."""


def trial_rows(view: dict[str, Any], experiments: Sequence[dict[str, Any]], now_wall: float) -> list[Row]:
    """Return a row for each trial of these experiments of a run's `view`, by the columns of `trial_table`."""
    run = read_view({**view, "experiments": list(experiments)}, now_wall)
    header, *table = trial_table(run)
    trials = [(experiment.spec, trial) for experiment in run.experiments for trial in experiment.trials]
    return [
        {"run": run.run_id, **dict(zip(header, cells, strict=True)),
         LAST: trial.results[-1][1] if trial.results else None, MORE: more_epochs(spec, trial.number)}
        for (spec, trial), cells in zip(trials, table, strict=True)
    ]  # fmt: skip


def result_rows(view: dict[str, Any], experiments: Sequence[dict[str, Any]]) -> list[Row]:
    """Return a row for each result of each trial of these experiments: epoch, value, seconds of training."""
    return [
        {
            "run": view["run"]["id"], "experiment": experiment["name"], "trial": trial["number"],
            "source": trial["source"], "epoch": step, "value": value, "seconds": seconds,
        }
        for experiment in experiments
        for trial in experiment["trials"]
        if not is_discarded(experiment["spec"], trial["number"])
        for step, value, seconds in trial["results"]
    ]  # fmt: skip


def of_state(rows: Sequence[Row], words: str | None) -> list[Row]:
    """Return the rows in one of these states or end reasons, separated by commas. Raises UsageError."""
    if words is None:
        return list(rows)
    wanted: set[str] = set()
    for word in words.lower().split(","):
        if word.strip() not in STATES:
            raise UsageError(
                f"expected a state or an end reason of trials, found {word.strip()!r}",
                remedy=nearest(word.strip(), STATES) or f"there are {', '.join(STATES)}",
            )
        wanted |= STATES[word.strip()]
    return [row for row in rows if row["state"] in wanted or row["end_reason"] in wanted]


def column_named(name: str, rows: Sequence[Row], more: Sequence[str] = ()) -> str:
    """Return the column of that name; params. and cell. may be left out. Raises UsageError with the nearest one."""
    columns = [*(rows[0] if rows else ()), *more]
    for candidate in (name, f"params.{name}", f"cell.{name}"):
        if candidate in columns:
            return candidate
    raise UsageError(
        f"no column {name!r}", remedy=nearest(name, columns) or f"there are {', '.join(columns) or 'no trials'}"
    )


def sorted_rows(rows: Sequence[Row], column: str, modes: dict[str, str], *, reverse: bool) -> list[Row]:
    """Return the rows by a column's value, those without one last; by `value` the best comes first.

    `modes` is min or max by experiment.
    """

    def key(row: Row) -> tuple[bool, Any]:
        value = row[column]
        if isinstance(value, int | float):
            sign = -1.0 if column in ("value", LAST) and modes[row["experiment"]] == "max" else 1.0
            return False, sign * value
        return True, str(value)

    known = sorted((row for row in rows if row[column] is not None), key=key, reverse=reverse)
    return [*known, *(row for row in rows if row[column] is None)]
