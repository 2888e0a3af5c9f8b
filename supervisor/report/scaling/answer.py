"""Answers whether the loss scales with size, for a plan with a budget axis: the verdict and its doubts.

The verdict is read from the tests, once every cell that can have one has its test. Until then it is provisional, from
validation, and says why. Imports NumPy: for the report's process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from supervisor.domain.lifecycle import ProcessState
from supervisor.report.comparisons import group_name
from supervisor.report.predictions import Predictions
from supervisor.report.scaling import law
from supervisor.report.scaling.points import (
    SEED,
    TITLES,
    Part,
    SizePoint,
    as_arrays,
    daily_losses,
    longest_horizon,
    tested_points,
    trained_points,
    untested,
)
from supervisor.report.scaling.slope import Interval, Slope
from supervisor.report.view import SIZE_AXIS, ExperimentRow, RunView


@dataclass(frozen=True)
class ScalingAnswer:
    """The points by group (all axes of the plan but the budget) and their analysis.

    `part` is test, or val while the answer is `provisional`, which says why. `validation` is the slope that stands
    beside that of the tests; None if there is none, and for a provisional answer. `prior_loss` is each group's log
    loss of always answering the base rate, `forest_loss` that of a random forest on the same windows; None where
    neither a trial nor a test recorded it.
    """

    groups: tuple[str, ...]
    points: tuple[SizePoint, ...]
    part: Part
    provisional: str | None
    analysis: law.Answer
    validation: Slope | None
    prior_loss: tuple[float | None, ...]
    forest_loss: tuple[float | None, ...]
    doubts: tuple[str, ...]

    @property
    def losses(self) -> str:
        """The name of the losses that decide: test or validation."""
        return TITLES[self.part]

    @property
    def beside(self) -> law.Verdict | None:
        """The verdict of validation alone, to stand beside that of the tests; None without its slope."""
        return None if self.validation is None else law.verdict_of(self.validation)


def scaling_answer(run: RunView, predictions: Predictions | None = None) -> ScalingAnswer | None:
    """Answer for `run`; None with fewer than two budgets, or without parameter counts.

    With the `predictions` of all tested seeds the slope's interval holds other days, too.
    """
    experiments = [e for e in run.experiments if SIZE_AXIS in e.cell and e.minimised]
    if len({str(e.cell[SIZE_AXIS]) for e in experiments}) < 2:
        return None
    provisional = untested(experiments)
    part: Part = "test" if provisional is None else "val"
    points = trained_points(experiments) if provisional else tested_points(experiments, "test")
    if not points:
        return None
    groups = tuple(dict.fromkeys(point.group for point in points))
    prior = tuple(_prior(_of_group(experiments, group), part) for group in groups)
    known = [value for value in prior if value is not None]
    rng, read, horizon = np.random.default_rng(SEED), predictions or {}, longest_horizon(experiments)
    daily = None if provisional else daily_losses(points, read, "test", horizon)
    analysis = law.answer(as_arrays(points, groups), rng, known if len(known) == len(groups) else None, daily)
    validation = None
    if not provisional:
        beside = tested_points(experiments, "val")
        by_day = daily_losses(beside, read, "val", horizon)
        validation = law.across_budgets(as_arrays(beside, groups), rng, by_day)
    forest = tuple(_baseline(_of_group(experiments, group), "forest", part) for group in groups)
    doubts = tuple(_doubts(run, experiments, points, part, analysis))
    return ScalingAnswer(groups, tuple(points), part, provisional, analysis, validation, prior, forest, doubts)


def _of_group(experiments: list[ExperimentRow], group: str) -> list[ExperimentRow]:
    return [experiment for experiment in experiments if group_name(experiment) == group]


def _baseline(experiments: list[ExperimentRow], model: str, part: Part) -> float | None:
    """Return a simple model's log loss on the part's windows, which are the same for every budget of a group."""
    for experiment in experiments:
        found = (experiment.evaluation or {}).get("models", {}).get(model)
        if found is not None:
            return float(found[part]["bce"]["value"])
    return None


def _prior(experiments: list[ExperimentRow], part: Part) -> float | None:
    """Return the class prior's log loss: from a test, else the entropy of the validation windows' base rate.

    A test uses the train windows' base rate, so the entropy is never above it.
    """
    tested = _baseline(experiments, "prior", part)
    if tested is not None:
        return tested
    rates = (trial.record.get("base_rate_val") for experiment in experiments for trial in experiment.trials)
    rate = next((value for value in rates if isinstance(value, float) and 0 < value < 1), None)
    return None if rate is None else float(-(rate * np.log(rate) + (1 - rate) * np.log(1 - rate)))


def _doubts(
    run: RunView, experiments: list[ExperimentRow], points: list[SizePoint], part: Part, analysis: law.Answer
) -> list[str]:
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
    simpler = law.preferred(analysis.scores)
    if analysis.shows_law and simpler is not None:
        doubts.append(f"AICc does not prefer a law to the {simpler}, although the slope's interval excludes zero.")
    if _only_across(analysis.slopes, analysis.slope):
        doubts.append("No group shows it alone: only the slope across budgets excludes zero.")
    if analysis.slope is not None and not analysis.resampled:
        doubts.append(
            "The interval does not hold other days: the predictions by day of some point are missing, so days that "
            "favour large models (or small ones) remain unseen."
        )
    if part == "val":
        doubts.append("The verdict rests on losses on the validation windows, by which the search has chosen.")
    if run.on_sample:
        doubts.append("The data are the embedded sample.")
    return doubts


def _partial(points: Sequence[SizePoint]) -> list[str]:
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
        "losses": answer.losses,
        "provisional": answer.provisional,
        "validation": None if answer.validation is None else {"verdict": answer.beside, **_slope(answer.validation)},
        "groups": list(answer.groups),
        "points": [asdict(point) for point in answer.points],
        "slope": None if found.slope is None else _slope(found.slope),
        "days_resampled": found.resampled,
        "slopes_by_group": {
            group: None if slope is None else _slope(slope)
            for group, slope in zip(answer.groups, found.slopes, strict=True)
        },
        "law": _law(answer),
        "models": [asdict(score) for score in found.scores],
        "prior_loss": dict(zip(answer.groups, answer.prior_loss, strict=True)),
        "forest_loss": dict(zip(answer.groups, answer.forest_loss, strict=True)),
        "seeds_per_cell": found.seeds_per_cell,
        "doubts": list(answer.doubts),
    }


def _law(answer: ScalingAnswer) -> dict[str, Any] | None:
    """Return the fitted law; None where the slope's interval holds zero. An end of alpha without a bound is null."""
    fitted, alpha = answer.analysis.law, answer.analysis.alpha
    if fitted is None or not answer.analysis.shows_law:
        return None
    return {
        "formula": "L_g(N) = E_g + A_g N^-alpha",
        "alpha": {"value": fitted.alpha, **(_ends(alpha) if alpha is not None else {"low": None, "high": None})},
        "alpha_rejected": alpha is None,
        "E": dict(zip(answer.groups, fitted.floors, strict=True)),
        "A": dict(zip(answer.groups, fitted.factors, strict=True)),
    }


def _slope(found: Slope) -> dict[str, Any]:
    """Return d log L / d log N with its interval."""
    return {"value": found.value, **_ends(found.interval), "df": found.df, "p_value": found.p_value}


def _ends(interval: Interval) -> dict[str, float | None]:
    return {name: end if np.isfinite(end) else None for name, end in asdict(interval).items()}
