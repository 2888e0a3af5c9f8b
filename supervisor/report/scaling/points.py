"""Finds the points of the scaling answer: the final losses of each cell, on the test or on validation. Pure."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np

from supervisor.domain.lifecycle import ENDED
from supervisor.report.comparisons import group_name
from supervisor.report.predictions import Predictions
from supervisor.report.scaling.resampling import DailyLosses
from supervisor.report.scaling.slope import Points
from supervisor.report.view import OWN_TRAINABLE, SIZE_AXIS, ExperimentRow

MIN_DAYS = 30
"""Fewer common days tell nothing about other days."""

DRAWS, SEED = 1000, 20
"""The number of resamples of days, and their seed: with one seed two reports of one run are equal."""
MAX_NAMES = 4
"""Names in a sentence."""

Part = Literal["val", "test"]
TITLES: dict[Part, str] = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class SizePoint:
    """A final loss: of one seed of the finalised configuration, else of the search's best trial."""

    experiment: str
    group: str
    budget: str
    params: int
    loss: float
    trial: int
    finalized: bool


def tested_points(experiments: Sequence[ExperimentRow], part: Part) -> list[SizePoint]:
    """Return a point for each tested seed with a finite loss, on test or validation windows."""
    found = []
    for experiment in experiments:
        if experiment.evaluation is not None:
            seeds = experiment.evaluation["models"][OWN_TRAINABLE]["seeds"]
            losses = [(seed["trial"], seed[part]["bce"]) for seed in seeds]
            found += _of_seeds(experiment, losses, int(experiment.evaluation["param_count"]))
    return found


def trained_points(experiments: Sequence[ExperimentRow]) -> list[SizePoint]:
    """Return the points that the trials give, without a test: validation losses."""
    return [point for experiment in experiments for point in _trained(experiment)]


def _trained(experiment: ExperimentRow) -> list[SizePoint]:
    final, best = experiment.finalized, experiment.best
    if final is not None and final.get("param_count"):
        pairs = list(zip(final["trials"], final["val_losses"], strict=True))
        return _of_seeds(experiment, pairs, final["param_count"])
    if best is None or best.param_count is None or best.value is None or not _has_logarithm(best.value):
        return []
    return [SizePoint(*_cell(experiment), best.param_count, best.value, best.number, finalized=False)]


def _of_seeds(experiment: ExperimentRow, losses: Sequence[tuple[int, float | None]], params: int) -> list[SizePoint]:
    return [
        SizePoint(*_cell(experiment), params, loss, trial, finalized=True)
        for trial, loss in losses
        if loss is not None and _has_logarithm(loss)
    ]


def _has_logarithm(loss: float) -> bool:
    return math.isfinite(loss) and loss > 0


def _cell(experiment: ExperimentRow) -> tuple[str, str, str]:
    return experiment.name, group_name(experiment), str(experiment.cell[SIZE_AXIS])


def untested(experiments: Sequence[ExperimentRow]) -> str | None:
    """Say which cells lack a test, and why; None if every cell has one that can have one.

    A cell that ended without any value (skipped, or failed) has no validation loss either: it is a missing point.
    """
    names: dict[str, list[str]] = {}
    for experiment in experiments:
        if not tested_points([experiment], "test") and (experiment.state not in ENDED or _trained(experiment)):
            names.setdefault(_why_untested(experiment), []).append(experiment.name)
    return "; ".join(f"{reason}: {listed(several)}" for reason, several in names.items()) or None


def _why_untested(experiment: ExperimentRow) -> str:
    if not experiment.testable:
        return "a trainable of your own has no test here"
    if experiment.evaluation is not None:
        return "no finite test loss"
    if experiment.missing is not None:
        return experiment.missing
    if not experiment.spec.get("finalize"):
        return "not finalised by the plan, so not tested"
    if experiment.state in ENDED:
        return "ended without a test"
    return "not finished" if experiment.finalized is None else "not tested yet"


def listed(names: Sequence[str]) -> str:
    """Name the first few, and count the others."""
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")


def as_arrays(points: Sequence[SizePoint], groups: Sequence[str]) -> Points:
    """Return the points as the fit's arrays."""
    budgets = list(dict.fromkeys(point.budget for point in points))
    return Points(
        np.array([point.params for point in points], np.float64),
        np.array([point.loss for point in points], np.float64),
        np.array([groups.index(point.group) for point in points], np.int64),
        np.array([budgets.index(point.budget) for point in points], np.int64),
    )


def daily_losses(points: Sequence[SizePoint], predictions: Predictions, part: Part, horizon: int) -> DailyLosses | None:
    """Return the points' losses on the days that all share, in blocks for `horizon`; None if a point lacks them."""
    by_experiment = {name: parts[part].losses_by_day() for name, parts in predictions.items()}
    rows = [by_experiment.get(point.experiment, {}).get(point.trial) for point in points]
    known = [row for row in rows if row is not None]
    days = sorted(set(known[0]).intersection(*known[1:])) if known and len(known) == len(rows) else []
    if len(days) < MIN_DAYS:
        return None
    from training.block_bootstrap import block_days, draw_weights

    losses = np.array([[row[day] for day in days] for row in known])
    block = block_days(losses.mean(axis=0), horizon)
    return DailyLosses(losses, draw_weights(len(days), block, DRAWS, SEED), len(days) / block)


def longest_horizon(experiments: Sequence[ExperimentRow]) -> int:
    """Return the largest number of days that a label looks ahead, at least one."""
    horizons = [e.cell.get("horizon", e.spec.get("config", {}).get("horizon", 1)) for e in experiments]
    return max((value for value in horizons if isinstance(value, int)), default=1)
