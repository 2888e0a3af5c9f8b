"""Tests whether the loss falls with the number of parameters: slopes, the pooled law and a verdict.

Pure: arrays in, values out; the caller seeds the random generator. The law is that of Hoffmann et al.
("Training Compute-Optimal Large Language Models", 2022, approach 3) in N alone, with one exponent for all groups:

    L_g(N) = E_g + A_g N^-alpha      (g: a group of points with its own floor and factor, here a horizon)

fitted to log L under a Huber loss. As Besiroglu et al. ("Chinchilla Scaling: A replication attempt",
arXiv 2404.10102) found, the objective must be a sum, not a mean, or the optimiser stops early, and parameter counts
must not be rounded.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray
from scipy import optimize, stats

from supervisor.report.scaling_fit import HUBER_DELTA, Law, Problem, descend

Array = NDArray[np.float64]

CONFIDENCE = 0.95
MIN_SIZES = 3
"""Sizes that a group needs: any two points lie on a power law."""
AICC_MARGIN = 2.0
"""With a smaller difference of AICc the simpler model is kept (Burnham and Anderson, 2002, section 2.6)."""
DEFAULT_DRAWS = 400
POLISHED_STARTS = 3
"""The number of best starts that L-BFGS improves; the others have reached the same minima."""

Verdict = Literal["scaling", "inverse scaling", "no scaling detected", "too few points"]


@dataclass(frozen=True)
class Points:
    """Losses of final models, shape (points,) each. Points of one group and size are seeds of one cell.

    `params` are exact parameter counts, `loss` is in nats and positive, `group` counts from 0.
    """

    params: Array
    loss: Array
    group: NDArray[np.int64]

    def __post_init__(self) -> None:
        if not (len(self.params) == len(self.loss) == len(self.group)):
            raise ValueError("params, loss and group must have one length")
        if not (np.isfinite(self.loss).all() and (self.loss > 0).all() and (self.params > 0).all()):
            raise ValueError("losses must be finite, losses and parameter counts positive")

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    def cells(self) -> NDArray[np.int64]:
        """Return each point's cell, counted from 0, shape (points,)."""
        _, cell = np.unique(np.stack([self.group.astype(np.float64), self.params]), axis=1, return_inverse=True)
        return np.asarray(cell, np.int64).reshape(-1)

    def cell_means(self) -> Points:
        """Return one point per cell, the mean of log L over its seeds: they share the configuration of one search."""
        cell = self.cells()
        first = np.unique(cell, return_index=True)[1]
        mean = np.bincount(cell, np.log(self.loss)) / np.bincount(cell)
        return Points(self.params[first], np.exp(mean), self.group[first])


@dataclass(frozen=True)
class Interval:
    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high


@dataclass(frozen=True)
class Slope:
    """d log L / d log N, with a t interval; negative means a falling loss. `df` are the degrees of freedom."""

    value: float
    interval: Interval
    df: int
    p_value: float


@dataclass(frozen=True)
class Score:
    """A model of the points: its `k` fitted numbers, variance included, and its AICc; None for too few points."""

    model: str
    k: int
    rss: float
    aicc: float | None


@dataclass(frozen=True)
class Answer:
    """The whole analysis. `law` and its parts are None if there were too few points for a fit.

    `draws` (draws, 2 groups + 1) are the bootstrap's laws; band() takes its quantiles from them.
    """

    verdict: Verdict
    why: str
    slopes: tuple[Slope | None, ...]
    pooled_slope: Slope | None
    law: Law | None
    alpha: Interval | None
    floors: tuple[Interval, ...]
    factors: tuple[Interval, ...]
    scores: tuple[Score, ...]
    seeds_per_cell: float
    draws: Array | None

    def band(self, group: int, params: Array) -> tuple[Array, Array]:
        """Return the interval (low, high) of the fitted loss at each size. Raises ValueError without a fit."""
        if self.draws is None or self.law is None:
            raise ValueError("there is no fit to draw a band from")
        curves = np.exp(self.law.problem_at(params, group).predict(self.draws))
        low, high = np.quantile(curves, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2], axis=0)
        return low, high


def answer(
    points: Points, rng: np.random.Generator, prior_loss: Sequence[float] | None = None, draws: int = DEFAULT_DRAWS
) -> Answer:
    """Analyse `points`. `prior_loss` is each group's loss of always answering its base rate, where known."""
    means = points.cell_means()
    slopes = tuple(slope(_of_group(means, group)) for group in range(points.groups))
    pooled = slope(means)
    seeds = len(points.loss) / max(1, len(means.loss))
    if pooled is None or _fewest_sizes(points) < MIN_SIZES:
        why = f"a group has {_fewest_sizes(points)} sizes, each needs {MIN_SIZES} or more"
        return Answer("too few points", why, slopes, pooled, None, None, (), (), (), seeds, None)
    law = fit(points)
    drawn = bootstrap(points, law, rng, draws)
    intervals = [_interval(column) for column in law.natural(drawn).T]
    scores = _scores(points, law, prior_loss)
    verdict, why = _verdict(pooled, scores)
    groups = points.groups
    return Answer(
        verdict, why, slopes, pooled, law, intervals[-1], tuple(intervals[:groups]),
        tuple(intervals[groups : 2 * groups]), scores, seeds, drawn,
    )  # fmt: skip


def slope(means: Points) -> Slope | None:
    """Fit log L to log N by least squares with an intercept per group; None without a degree of freedom.

    Give it cell means: seeds of a cell share an architecture and are not independent evidence about its size.
    """
    groups = np.unique(means.group)
    df = len(means.loss) - len(groups) - 1
    x, y = np.log(means.params), np.log(means.loss)
    for group in groups:
        own = means.group == group
        x, y = x - own * x[own].mean(), y - own * y[own].mean()
    spread = float(x @ x)
    if df < 1 or spread == 0.0:
        return None
    value = float(x @ y) / spread
    error = float(np.sqrt(((y - value * x) ** 2).sum() / df / spread))
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    p_value = float(2 * stats.t.sf(abs(value) / error, df)) if error > 0 else 0.0
    return Slope(value, Interval(value - reach, value + reach), df, p_value)


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


def bootstrap(points: Points, law: Law, rng: np.random.Generator, draws: int) -> Array:
    """Fit laws to `draws` resampled data sets, shape (draws, 2 groups + 1).

    Each point becomes its cell's mean plus a deviation drawn from those of all cells (pooled, since three seeds tell
    little about their own spread), widened by sqrt(n / (n - cells)) because the means were fitted. With one seed per
    cell the deviations are the fit's residuals, widened for its parameters.
    """
    log_loss, cell = np.log(points.loss), points.cells()
    n, cells = len(log_loss), int(cell.max()) + 1
    problem = Problem.of(points.params, points.loss, points.group)
    if n > cells:
        centre = (np.bincount(cell, log_loss) / np.bincount(cell))[cell]
        taken = cells
    else:
        centre = problem.predict(law.theta[None, :])[0]
        taken = min(n - 1, len(law.theta))
    deviations = (log_loss - centre) * np.sqrt(n / (n - taken))
    drawn = centre + rng.choice(deviations, (draws, n))
    return descend(problem, drawn, np.repeat(law.theta[None, :], draws, axis=0))[0]


def _of_group(points: Points, group: int) -> Points:
    own = points.group == group
    return Points(points.params[own], points.loss[own], points.group[own])


def _fewest_sizes(points: Points) -> int:
    return min((len(np.unique(points.params[points.group == g])) for g in range(points.groups)), default=0)


def _interval(draws: Array) -> Interval:
    low, high = np.quantile(draws, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    return Interval(float(low), float(high))


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


def _verdict(pooled: Slope, scores: Sequence[Score]) -> tuple[Verdict, str]:
    """Require two things of a law: the pooled slope's interval excludes zero, and AICc prefers the law."""
    by_model = {score.model: score.aicc for score in scores}
    laws = [a for m, a in by_model.items() if m.startswith("law") and a is not None]
    plain = {m: a for m, a in by_model.items() if not m.startswith("law") and a is not None}
    share = f"slope {pooled.value:+.4f} in [{pooled.interval.low:+.4f}, {pooled.interval.high:+.4f}]"
    if 0.0 in pooled.interval:
        return "no scaling detected", f"the pooled {share} does not exclude zero"
    if not laws or not plain:
        return "too few points", f"the pooled {share}, but there are too few points to compare models"
    simpler = min(plain, key=plain.__getitem__)
    if min(laws) > plain[simpler] - AICC_MARGIN:
        return "no scaling detected", f"the pooled {share}, but AICc does not prefer a law to the {simpler}"
    kind: Verdict = "scaling" if pooled.value < 0 else "inverse scaling"
    return kind, f"the pooled {share}; AICc prefers a law to the {simpler} by {plain[simpler] - min(laws):.1f}"
