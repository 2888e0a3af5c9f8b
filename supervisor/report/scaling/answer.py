"""Answers whether the loss scales with size, for a plan with a budget axis: points, analysis and doubts.

Imports NumPy: for the report's process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from supervisor.domain.lifecycle import ProcessState
from supervisor.report.comparisons import group_name
from supervisor.report.predictions import LossesByDay
from supervisor.report.scaling import law as scaling_law
from supervisor.report.scaling.law import Answer
from supervisor.report.scaling.resampling import DailyLosses
from supervisor.report.scaling.slope import Interval, Points, Slope
from supervisor.report.view import SIZE_AXIS, ExperimentRow, RunView

SEED = 20
"""The seed of the resampling: two reports of one run are equal."""
MIN_DAYS = 30
"""Fewer common days tell nothing about other days."""


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


@dataclass(frozen=True)
class ScalingAnswer:
    """The points by group (all axes of the plan but the budget) and their analysis.

    `prior_loss` is each group's log loss of always answering the base rate, `forest_loss` that of a random forest on
    the same windows; None if neither a trial nor a test recorded it.
    """

    groups: tuple[str, ...]
    points: tuple[SizePoint, ...]
    analysis: Answer
    prior_loss: tuple[float | None, ...]
    forest_loss: tuple[float | None, ...]
    doubts: tuple[str, ...]


def scaling_answer(run: RunView, by_day: LossesByDay | None = None) -> ScalingAnswer | None:
    """Answer for `run`; None with fewer than two budgets, or without parameter counts.

    `by_day` are the validation losses of the tested seeds; with them the slope's interval holds other days, too.
    """
    experiments = [e for e in run.experiments if SIZE_AXIS in e.cell and e.minimised]
    if len({str(e.cell[SIZE_AXIS]) for e in experiments}) < 2:
        return None
    points = [point for experiment in experiments for point in _points(experiment)]
    if not points:
        return None
    groups = tuple(dict.fromkeys(point.group for point in points))
    prior = tuple(_prior(_of_group(experiments, group)) for group in groups)
    known = [value for value in prior if value is not None]
    analysis = scaling_law.answer(
        as_arrays(points, groups),
        np.random.default_rng(SEED),
        known if len(known) == len(groups) else None,
        _daily(points, by_day or {}, _longest_horizon(experiments)),
    )
    forest = tuple(_baseline(_of_group(experiments, group), "forest") for group in groups)
    doubts = tuple(_doubts(run, experiments, points, analysis))
    return ScalingAnswer(groups, tuple(points), analysis, prior, forest, doubts)


def as_arrays(points: list[SizePoint], groups: tuple[str, ...]) -> Points:
    """Return the points as the fit's arrays."""
    budgets = list(dict.fromkeys(point.budget for point in points))
    return Points(
        np.array([point.params for point in points], np.float64),
        np.array([point.loss for point in points], np.float64),
        np.array([groups.index(point.group) for point in points], np.int64),
        np.array([budgets.index(point.budget) for point in points], np.int64),
    )


def _daily(points: list[SizePoint], by_day: LossesByDay, horizon: int) -> DailyLosses | None:
    """Return the points' losses on the days that all share; None if a point lacks them."""
    rows = [by_day.get((point.experiment, point.trial)) for point in points]
    known = [row for row in rows if row is not None]
    days = sorted(set(known[0]).intersection(*known[1:])) if known and len(known) == len(rows) else []
    if len(days) < MIN_DAYS:
        return None
    from training.block_bootstrap import block_days

    losses = np.array([[row[day] for day in days] for row in known])
    return DailyLosses(losses, block_days(losses.mean(axis=0), horizon))


def _longest_horizon(experiments: list[ExperimentRow]) -> int:
    horizons = [e.cell.get("horizon", e.spec.get("config", {}).get("horizon", 1)) for e in experiments]
    return max((value for value in horizons if isinstance(value, int)), default=1)


def _points(experiment: ExperimentRow) -> list[SizePoint]:
    group, budget = group_name(experiment), str(experiment.cell[SIZE_AXIS])
    final, best = experiment.finalized, experiment.best
    if final is not None and final.get("param_count"):
        pairs = zip(final["trials"], final["val_losses"], strict=True)
        kept = [(trial, loss) for trial, loss in pairs if loss is not None and loss > 0]
        size = final["param_count"]
        return [SizePoint(experiment.name, group, budget, size, loss, trial, True) for trial, loss in kept]
    if best is None or best.param_count is None or best.value is None or best.value <= 0:
        return []
    return [SizePoint(experiment.name, group, budget, best.param_count, best.value, best.number, False)]


def _of_group(experiments: list[ExperimentRow], group: str) -> list[ExperimentRow]:
    return [experiment for experiment in experiments if group_name(experiment) == group]


def _baseline(experiments: list[ExperimentRow], model: str) -> float | None:
    """Return a baseline's log loss on the validation windows, which are the same for every budget of a group."""
    for experiment in experiments:
        found = (experiment.evaluation or {}).get("models", {}).get(model)
        if found is not None:
            return float(found["val"]["bce"]["value"])
    return None


def _prior(experiments: list[ExperimentRow]) -> float | None:
    """Return the class prior's log loss: from a test, else the entropy of the validation windows' base rate.

    A test uses the train windows' base rate, so the entropy is never above it.
    """
    tested = _baseline(experiments, "prior")
    if tested is not None:
        return tested
    rates = (trial.record.get("base_rate_val") for experiment in experiments for trial in experiment.trials)
    rate = next((value for value in rates if isinstance(value, float) and 0 < value < 1), None)
    return None if rate is None else float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


def _doubts(run: RunView, experiments: list[ExperimentRow], points: list[SizePoint], analysis: Answer) -> list[str]:
    doubts = []
    without = [e.name for e in experiments if not any(point.experiment == e.name for point in points)]
    if without:
        doubts.append(f"No point yet from {', '.join(without)}.")
    searched = list(dict.fromkeys(point.experiment for point in points if not point.finalized))
    if searched:
        which = "All points" if len(searched) == len(experiments) else f"The points of {', '.join(searched)}"
        doubts.append(
            f"{which} are the best of a search, on one seed each: the lowest of many noisy losses, lower than the same "
            "model would reach again."
        )
    short = [e.name for e in experiments if e.name not in without and e.state is not ProcessState.EXITED]
    if short:
        doubts.append(f"The search of {', '.join(short)} has not finished.")
    partial = _partial(points)
    if partial:
        doubts.append(f"Left out of the slope, because a group has no point there: budget {', '.join(partial)}.")
    if analysis.shows_law and analysis.alpha is None:
        doubts.append("No law L = E + A N^-alpha is compatible with these points: the loss bends the other way.")
    simpler = scaling_law.preferred(analysis.scores)
    if analysis.shows_law and simpler is not None:
        doubts.append(f"AICc does not prefer a law to the {simpler}, although the slope's interval excludes zero.")
    if _only_across(analysis.slopes, analysis.slope):
        doubts.append("No group shows it alone: only the slope across budgets excludes zero.")
    if analysis.slope is not None and not analysis.resampled:
        doubts.append(
            "The interval does not hold other days: the predictions by day of some point are missing, so days that "
            "favour large models (or small ones) remain unseen."
        )
    doubts.append("The verdict rests on losses on the validation windows, by which the search has chosen.")
    if run.on_sample:
        doubts.append("The data are the embedded sample.")
    return doubts


def _partial(points: list[SizePoint]) -> list[str]:
    """Name the budgets that lack a point in a group that has points at other budgets."""
    groups = {point.group for point in points}
    budgets = dict.fromkeys(point.budget for point in points)
    return [b for b in budgets if {point.group for point in points if point.budget == b} != groups]


def _only_across(slopes: Sequence[Slope | None], across: Slope | None) -> bool:
    """Tell whether only the slope across budgets excludes zero, so the answer depends on averaging the groups."""
    known = [slope for slope in slopes if slope is not None]
    return across is not None and across.excludes_zero and not any(slope.excludes_zero for slope in known)


def as_json(answer: ScalingAnswer) -> dict[str, Any]:
    """Return the answer as numbers, for report.json."""
    found = answer.analysis
    return {
        "verdict": found.verdict,
        "why": found.why,
        "losses": "validation",
        "groups": list(answer.groups),
        "points": [asdict(point) for point in answer.points],
        "slope": _slope(found.slope),
        "days_resampled": found.resampled,
        "slopes_by_group": dict(zip(answer.groups, map(_slope, found.slopes), strict=True)),
        "law": _law(answer),
        "models": [asdict(score) for score in found.scores],
        "prior_loss": dict(zip(answer.groups, answer.prior_loss, strict=True)),
        "forest_loss": dict(zip(answer.groups, answer.forest_loss, strict=True)),
        "seeds_per_cell": found.seeds_per_cell,
        "doubts": list(answer.doubts),
    }


def _law(answer: ScalingAnswer) -> dict[str, Any] | None:
    """Return the fitted law; None where the slope's interval holds zero. An end of alpha without a bound is null."""
    law, alpha = answer.analysis.law, answer.analysis.alpha
    if law is None or not answer.analysis.shows_law:
        return None
    return {
        "formula": "L_g(N) = E_g + A_g N^-alpha",
        "alpha": {"value": law.alpha, **(_ends(alpha) if alpha is not None else {"low": None, "high": None})},
        "alpha_rejected": alpha is None,
        "E": dict(zip(answer.groups, law.floors, strict=True)),
        "A": dict(zip(answer.groups, law.factors, strict=True)),
    }


def _slope(found: Slope | None) -> dict[str, Any] | None:
    """Return d log L / d log N with its interval."""
    if found is None:
        return None
    return {"value": found.value, **_ends(found.interval), "df": found.df, "p_value": found.p_value}


def _ends(interval: Interval) -> dict[str, float | None]:
    return {name: end if np.isfinite(end) else None for name, end in asdict(interval).items()}
