"""Tests whether the loss falls with the number of parameters: slopes, the pooled law and a verdict.

Pure: arrays in, values out; the caller seeds the random generator. The law is that of Hoffmann et al.
("Training Compute-Optimal Large Language Models", 2022, approach 3) in N alone, with one exponent for all groups:

    L_g(N) = E_g + A_g N^-alpha      (g: a group of points with its own floor and factor, here a horizon)

fitted to log L under a Huber loss. As Besiroglu et al. ("Chinchilla Scaling: A replication attempt",
arXiv 2404.10102) found, the objective must be a sum, not a mean, or the optimiser stops early, and parameter counts
must not be rounded.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from scipy import optimize

from supervisor.report.scaling.exponent import exponents
from supervisor.report.scaling.fit import HUBER_DELTA, Law, Problem, descend
from supervisor.report.scaling.resampling import DailyLosses, widened
from supervisor.report.scaling.slope import DECADE, Array, Interval, Points, Slope, slope

MIN_SIZES = 3
"""Budgets that a slope with an interval needs."""
AICC_MARGIN = 2.0
"""With a smaller difference of AICc the simpler model is kept (Burnham and Anderson, 2002, section 2.6)."""
POLISHED_STARTS = 3
"""The number of best starts that L-BFGS improves; the others have reached the same minima."""

Verdict = Literal["scaling", "inverse scaling", "no scaling detected", "too few points"]


@dataclass(frozen=True)
class Score:
    """A model of the points: its `k` fitted numbers, variance included, and its AICc; None for too few points."""

    model: str
    k: int
    rss: float
    aicc: float | None


@dataclass(frozen=True)
class Answer:
    """The whole analysis. `slopes` are those of each group alone; `slope` is that across budgets.

    `law` is None with too few budgets. `alpha` holds the exponents that are not rejected, which may be all; None if
    there is no slope, or if each exponent is rejected. `resampled` says whether days went into the slope's interval.
    """

    verdict: Verdict
    why: str
    slopes: tuple[Slope | None, ...]
    slope: Slope | None
    law: Law | None
    alpha: Interval | None
    scores: tuple[Score, ...]
    seeds_per_cell: float
    resampled: bool

    @property
    def shows_law(self) -> bool:
        """Return True if the slope's interval leaves zero out: only then do exponent, floors and factors count."""
        return self.law is not None and self.slope is not None and self.slope.excludes_zero


def answer(
    points: Points,
    rng: np.random.Generator,
    prior_loss: Sequence[float] | None = None,
    daily: DailyLosses | None = None,
) -> Answer:
    """Analyse `points`. `prior_loss` is each group's loss of always answering its base rate, where known.

    With `daily` losses the slope's interval is widened for the days.
    """
    slopes = tuple(slope(points.of_group(group)) for group in range(points.groups))
    across = across_budgets(points, rng, daily)
    seeds = len(points.loss) / max(1, len(points.cell_means().loss))
    if across is None:
        budgets = len(set(points.complete().budgets()))
        why = f"{budgets} budgets have a point in every group, an interval of the slope needs {MIN_SIZES} or more"
        return Answer("too few points", why, slopes, None, None, None, (), seeds, resampled=False)
    law = fit(points)
    scores = _scores(points, law, prior_loss)
    alpha, verdict = exponents(points, across), verdict_of(across)
    return Answer(verdict, slope_text(across), slopes, across, law, alpha, scores, seeds, resampled=daily is not None)


def across_budgets(points: Points, rng: np.random.Generator, daily: DailyLosses | None = None) -> Slope | None:
    """Return the slope across budgets, its interval widened by `daily` losses; None for fewer than three budgets."""
    found = slope(points)
    return found if found is None or daily is None else widened(points, found, daily, rng)


def fit(points: Points) -> Law:
    """Fit the pooled law by least Huber loss from many starts. With `alpha` <= 0 the loss does not fall."""
    problem = Problem.of(points.params, points.loss, points.group)
    starts = problem.starts()
    reached, costs = descend(problem, np.repeat(problem.y[None, :], len(starts), axis=0), starts)
    bounds = optimize.Bounds(problem.lowest(), problem.highest())
    best_theta, best_cost = reached[costs.argmin()], float(costs.min())
    for theta in reached[np.argsort(costs)[:POLISHED_STARTS]]:
        found = optimize.minimize(
            problem.value_and_gradient, theta, jac=True, method="L-BFGS-B", bounds=bounds,
            options={"maxiter": 100, "ftol": 1e-10, "gtol": 1e-2},
        )  # fmt: skip
        if found.fun < best_cost:
            best_theta, best_cost = np.asarray(found.x, np.float64), float(found.fun)
    return Law(best_theta, problem.groups, problem.centre, best_cost)


def _scores(points: Points, law: Law, prior_loss: Sequence[float] | None) -> tuple[Score, ...]:
    log_loss, groups = np.log(points.loss), points.groups
    constant = np.array([np.median(log_loss[points.group == g]) for g in range(groups)])[points.group]
    problem = Problem.of(points.params, points.loss, points.group)
    predictions = [
        ("law with floor", 2 * groups + 2, problem.predict(law.theta[None, :])[0]),
        ("law without floor", groups + 2, _power_law(points)),
        ("constant", groups + 1, constant),
    ]
    if prior_loss is not None:
        predictions.append(("class prior", 1, np.log(np.asarray(prior_loss, np.float64))[points.group]))
    return tuple(_score(name, k, log_loss - predicted) for name, k, predicted in predictions)


def _power_law(points: Points) -> Array:
    """Fit A_g N^-alpha by least squares and return its log L, shape (points,)."""
    x = np.log(points.params)
    design = np.column_stack([x, points.group[:, None] == np.arange(points.groups)]).astype(np.float64)
    found = np.linalg.lstsq(design, np.log(points.loss), rcond=None)[0]
    return np.asarray(design @ found, np.float64)


def _score(name: str, k: int, residuals: Array) -> Score:
    """Score a Gaussian model of log L by AICc (Hurvich and Tsai, 1989); None where its correction is undefined."""
    n, rss = len(residuals), float(residuals @ residuals)
    if n <= k + 1:
        return Score(name, k, rss, None)
    floor = n * HUBER_DELTA**2 * 1e-12  # a perfect fit of artificial data has variance 0, which has no logarithm
    return Score(name, k, rss, float(n * np.log(max(rss, floor) / n) + 2 * k + 2 * k * (k + 1) / (n - k - 1)))


def verdict_of(across: Slope) -> Verdict:
    """Decide by the slope's interval alone, which errs on flat losses in 5 % of runs."""
    if not across.excludes_zero:
        return "no scaling detected"
    return "scaling" if across.value < 0 else "inverse scaling"


def preferred(scores: Sequence[Score]) -> str | None:
    """Return the model without a law that AICc does not reject for one; None where it prefers a law, or is unknown."""
    known = {score.model: score.aicc for score in scores if score.aicc is not None}
    laws = [aicc for model, aicc in known.items() if model.startswith("law")]
    plain = {model: aicc for model, aicc in known.items() if not model.startswith("law")}
    if not laws or not plain:
        return None
    simpler = min(plain, key=plain.__getitem__)
    return simpler if min(laws) > plain[simpler] - AICC_MARGIN else None


def percent(slope: float) -> float:
    """Return the change of the loss from one power of ten of parameters to the next, in percent."""
    return 100 * (math.exp(DECADE * slope) - 1)


def slope_text(found: Slope) -> str:
    """Say the change a decade of parameters with its interval, and which changes the interval excludes."""
    value, low, high = map(percent, (found.value, found.interval.low, found.interval.high))
    text = f"the loss changes by {value:+.2f} % a decade of parameters, 95 % interval [{low:+.2f}, {high:+.2f}] %"
    if found.excludes_zero:
        return f"{text}, which excludes zero"
    return f"{text}, which excludes a fall of more than {-low:.2f} % a decade (and a rise of more than {high:.2f} %)"
