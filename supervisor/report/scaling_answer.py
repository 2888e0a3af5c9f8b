"""Answers whether the loss scales with size, for a plan with a budget axis: points, analysis and doubts.

Imports NumPy: for the report's process only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supervisor.domain.lifecycle import ProcessState
from supervisor.report import scaling_law
from supervisor.report.scaling_fit import ALPHA_BOUNDS
from supervisor.report.scaling_law import Answer, Interval, Points, Slope
from supervisor.report.view import OWN_TRAINABLE, ExperimentRow, RunView

SIZE_AXIS = "budget"
SEED = 20
"""The seed of the bootstrap: two reports of one run are equal."""


@dataclass(frozen=True)
class SizePoint:
    """A final loss: of one seed of the finalised configuration, else of the search's best trial."""

    experiment: str
    group: str
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


def scaling_answer(run: RunView) -> ScalingAnswer | None:
    """Answer for `run`; None without a budget axis or parameter counts."""
    experiments = [e for e in run.experiments if SIZE_AXIS in e.cell and e.minimised]
    points = [point for experiment in experiments for point in _points(experiment)]
    if not points:
        return None
    groups = tuple(dict.fromkeys(point.group for point in points))
    prior = tuple(_prior(_of_group(experiments, group)) for group in groups)
    known = [value for value in prior if value is not None]
    analysis = scaling_law.answer(
        as_arrays(points, groups), np.random.default_rng(SEED), known if len(known) == len(groups) else None
    )
    forest = tuple(_baseline(_of_group(experiments, group), "forest") for group in groups)
    doubts = tuple(_doubts(run, experiments, points, analysis))
    return ScalingAnswer(groups, tuple(points), analysis, prior, forest, doubts)


def as_arrays(points: list[SizePoint], groups: tuple[str, ...]) -> Points:
    """Return the points as the fit's arrays."""
    group: NDArray[np.int64] = np.array([groups.index(point.group) for point in points], np.int64)
    return Points(
        np.array([point.params for point in points], np.float64),
        np.array([point.loss for point in points], np.float64),
        group,
    )


def _points(experiment: ExperimentRow) -> list[SizePoint]:
    group = _group_name(experiment)
    final, best = experiment.finalized, experiment.best
    if final is not None and final.get("param_count"):
        pairs = zip(final["trials"], final["val_losses"], strict=True)
        kept = [(trial, loss) for trial, loss in pairs if loss is not None and loss > 0]
        return [SizePoint(experiment.name, group, final["param_count"], loss, trial, True) for trial, loss in kept]
    if best is None or best.param_count is None or best.value is None or best.value <= 0:
        return []
    return [SizePoint(experiment.name, group, best.param_count, best.value, best.number, False)]


def _group_name(experiment: ExperimentRow) -> str:
    return ", ".join(f"{axis} {value}" for axis, value in experiment.cell.items() if axis != SIZE_AXIS) or "all"


def _of_group(experiments: list[ExperimentRow], group: str) -> list[ExperimentRow]:
    return [experiment for experiment in experiments if _group_name(experiment) == group]


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
    if analysis.law is not None and analysis.seeds_per_cell == 1.0:
        doubts.append(
            "With one seed a cell the bootstrap has only the fit's own residuals to draw from; its 95 % intervals "
            "are then too narrow (they held the truth in 85 to 89 % of simulations)."
        )
    if analysis.law is not None and not ALPHA_BOUNDS[0] < analysis.law.alpha < ALPHA_BOUNDS[1]:
        doubts.append("The exponent is at the bound of its range: these points do not determine it.")
    sizes = len({e.cell[SIZE_AXIS] for e in experiments})
    if analysis.law is not None and sizes < 5:
        doubts.append(f"With {sizes} budgets the floors E are barely determined: the slopes are more reliable.")
    if _only_pooled(analysis.slopes, analysis.pooled_slope):
        doubts.append("No group shows it alone: only the pooled slope's interval excludes zero.")
    doubts.extend(_outdone(experiments))
    doubts.append("All losses are on the validation windows, by which the search has chosen.")
    if run.on_sample:
        doubts.append("The data are the embedded sample.")
    return doubts


def _only_pooled(slopes: Sequence[Slope | None], pooled: Slope | None) -> bool:
    """Tell whether only the pooled slope's interval excludes zero, so the answer depends on pooling the groups."""
    known = [slope for slope in slopes if slope is not None]
    return pooled is not None and bool(known) and 0.0 not in pooled.interval and all(0.0 in s.interval for s in known)


def _outdone(experiments: list[ExperimentRow]) -> list[str]:
    """Name the baselines that beat the model in most tests: a law of such a model tells little."""
    tested = [e.evaluation["models"] for e in experiments if e.evaluation is not None]
    doubts = []
    for name in dict.fromkeys(name for models in tested for name in models if name != OWN_TRAINABLE):
        losses = [(models[OWN_TRAINABLE], models[name]) for models in tested if name in models]
        better = sum(simple["test"]["bce"]["value"] < own["test"]["bce"]["value"] for own, simple in losses)
        if better * 2 > len(losses):
            title = next(models[name]["title"] for models in tested if name in models)
            doubts.append(f"On the test, a simpler model is better: {title}, in {better} of {len(losses)} experiments.")
    return doubts


def as_json(answer: ScalingAnswer) -> dict[str, Any]:
    """Return the answer as numbers, for report.json."""
    found, law = answer.analysis, answer.analysis.law
    return {
        "verdict": found.verdict,
        "why": found.why,
        "groups": list(answer.groups),
        "points": [asdict(point) for point in answer.points],
        "slopes": dict(zip(answer.groups, map(_slope, found.slopes), strict=True)),
        "pooled_slope": _slope(found.pooled_slope),
        "law": None
        if law is None or found.alpha is None
        else {
            "formula": "L_g(N) = E_g + A_g N^-alpha",
            "alpha": _with_interval(law.alpha, found.alpha),
            "E": _by_group(answer.groups, law.floors, found.floors),
            "A": _by_group(answer.groups, law.factors, found.factors),
        },
        "models": [asdict(score) for score in found.scores],
        "prior_loss": dict(zip(answer.groups, answer.prior_loss, strict=True)),
        "forest_loss": dict(zip(answer.groups, answer.forest_loss, strict=True)),
        "seeds_per_cell": found.seeds_per_cell,
        "doubts": list(answer.doubts),
    }


def _by_group(groups: Sequence[str], values: Sequence[float], intervals: Sequence[Interval]) -> dict[str, Any]:
    return {g: _with_interval(value, interval) for g, value, interval in zip(groups, values, intervals, strict=True)}


def _slope(found: Slope | None) -> dict[str, Any] | None:
    if found is None:
        return None
    return {**_with_interval(found.value, found.interval), "df": found.df, "p_value": found.p_value}


def _with_interval(value: float, interval: Interval) -> dict[str, float]:
    return {"value": value, "low": interval.low, "high": interval.high}
