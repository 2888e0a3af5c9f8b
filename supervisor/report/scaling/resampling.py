"""Resamples days and cells, to see how far the slope depends on them. Pure, seeded by the caller.

The line's own residuals show the noise of seeds, of searches and of horizons. They cannot show days that favour large
models over small ones, or the reverse: those tilt the line and leave no residual. Hence the resampling of days.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supervisor.report.scaling.slope import Array, Interval, Points, Slope, budget_means


@dataclass(frozen=True)
class DailyLosses:
    """The log losses of each point by day, (points, days), on days that all points share.

    `weights` (draws, days) count how often each resample has a day (training.block_bootstrap.draw_weights), `blocks`
    is the number of blocks of days.
    """

    losses: Array
    weights: Array
    blocks: float


def resampled(points: Points, daily: DailyLosses, rng: np.random.Generator) -> Array:
    """Return the slope of each resample, (draws,). `daily` has a row for each of `points`.

    A resample draws blocks of days, the same for all points (stationary bootstrap), and the budgets' deviations from
    the line. Such a deviation is that of all cells of a budget with all of their seeds, so horizons stay together; it
    is widened by sqrt(budgets / (budgets - 2)) for the two fitted numbers. Seeds stay in their cell: drawing them
    again inside it would count their noise twice (Davison and Hinkley, "Bootstrap Methods and their Application",
    1997, section 3.8).
    """
    x, y = budget_means(points)
    x = x - x.mean()
    value = float(x @ y) / float(x @ x)
    residual = (y - y.mean() - value * x) * np.sqrt(len(x) / (len(x) - 2))
    means = daily.weights @ daily.losses.T / daily.weights.sum(axis=1, keepdims=True)
    shift = np.log(means) - np.log(daily.losses.mean(axis=1))
    drawn = shift @ points.share_of_budgets() + rng.choice(residual, (len(shift), len(x)))
    return np.asarray(value + drawn @ x / float(x @ x), np.float64)


def widened(points: Points, found: Slope, daily: DailyLosses, rng: np.random.Generator) -> Slope:
    """Return the slope with an interval that holds both its own and that of the resamples: never a narrower one."""
    # The percentile interval is widened for the number of blocks, as those of the test are.
    from training.block_bootstrap import interval

    other = interval(found.value, resampled(points, daily, rng), daily.blocks)
    if other.low is None or other.high is None:
        return found
    return Slope(found.value, found.interval.hull(Interval(other.low, other.high)), found.df, found.p_value)
