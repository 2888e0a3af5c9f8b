"""Resamples days, seeds and cells, to see how far the slope depends on them. Pure, seeded by the caller.

The line's own residuals show the noise of seeds, of searches and of horizons. They cannot show days that favour large
models over small ones, or the reverse: those tilt the line and leave no residual. Hence the resampling of days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from supervisor.report.scaling.slope import Array, Interval, Points, Slope, budget_means

DRAWS = 1000


@dataclass(frozen=True)
class DailyLosses:
    """The log losses of each point by day, (points, days), on days that all points share.

    `block` is the mean number of days that a resample takes together (training.block_bootstrap.block_days).
    """

    losses: Array
    block: int


def resampled(points: Points, daily: DailyLosses, rng: np.random.Generator, draws: int = DRAWS) -> Array:
    """Return the slope of each resample, (draws,). `daily` has a row for each of `points`.

    A resample draws blocks of days, the same for all points (stationary bootstrap); seeds within each cell; and the
    budgets' deviations from the line, one for all groups of a budget, widened by sqrt(budgets / (budgets - 2)) for the
    two fitted numbers.
    """
    from training.block_bootstrap import draw_weights

    weights = draw_weights(daily.losses.shape[1], daily.block, draws, int(rng.integers(2**32)))
    seeds = _seeds_by_cell(points)
    shift = np.log(weights @ daily.losses.T / weights.sum(axis=1, keepdims=True))
    shift -= np.log(daily.losses.mean(axis=1))
    x, y = budget_means(points)
    x = x - x.mean()
    value = float(x @ y) / float(x @ x)
    residual = (y - y.mean() - value * x) * np.sqrt(len(x) / (len(x) - 2))
    log_loss = np.log(points.loss) + shift
    cells = np.empty((draws, len(seeds)))
    for column, members in enumerate(seeds):
        chosen = members[rng.integers(0, len(members), (draws, len(members)))]
        cells[:, column] = np.take_along_axis(log_loss, chosen, axis=1).mean(axis=1)
    drawn = cells.reshape(draws, len(x), -1).mean(axis=2) + rng.choice(residual, (draws, len(x)))
    return np.asarray(drawn @ x / float(x @ x), np.float64)


def widened(points: Points, found: Slope, daily: DailyLosses, rng: np.random.Generator, draws: int = DRAWS) -> Slope:
    """Return the slope with an interval that holds both its own and that of the resamples: never a narrower one."""
    # The percentile interval is widened for the number of blocks, as those of the test are.
    from training.block_bootstrap import interval

    other = interval(found.value, resampled(points, daily, rng, draws), daily.losses.shape[1] / daily.block)
    if other.low is None or other.high is None:
        return found
    return Slope(found.value, found.interval.hull(Interval(other.low, other.high)), found.df, found.p_value)


def _seeds_by_cell(points: Points) -> list[NDArray[np.int64]]:
    """Return the places in `points` of each complete cell's seeds."""
    kept, budgets = points.complete(), points.budgets()
    pairs = zip(kept.budgets(), kept.group, strict=True)
    return [np.flatnonzero((budgets == budget) & (points.group == group)) for budget, group in pairs]
