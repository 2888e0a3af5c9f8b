"""Fits the slope of log loss on log parameters across budgets, with an interval. Pure.

Horizons share days, and their labels overlap, so their losses are not independent evidence about size. One budget
therefore counts once: its log losses and log parameters are averaged over all groups before the line is fitted.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy import stats

Array = NDArray[np.float64]

CONFIDENCE = 0.95
DECADE = math.log(10)
"""d log L / d log N times this is the change of log L from one power of ten to the next."""


@dataclass(frozen=True)
class Interval:
    """A range of values; an end without a bound is infinite."""

    low: float
    high: float

    def __contains__(self, value: float) -> bool:
        return self.low <= value <= self.high

    def hull(self, other: Interval) -> Interval:
        """Return the smallest interval that holds both."""
        return Interval(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Points:
    """Losses of final models, shape (points,) each. Points of one group and budget are seeds of one cell.

    `params` are exact parameter counts, `loss` is in nats and positive, `group` counts from 0. `budget` numbers the
    budgets, since the sizes that a search chooses near one budget differ by group; None: each size is a budget.
    """

    params: Array
    loss: Array
    group: NDArray[np.int64]
    budget: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        lengths = {len(self.params), len(self.loss), len(self.group), len(self.budgets())}
        if len(lengths) > 1:
            raise ValueError(f"params, loss, group and budget must have one length, found {sorted(lengths)}")
        if not (np.isfinite(self.loss).all() and (self.loss > 0).all() and (self.params > 0).all()):
            raise ValueError("losses must be finite, losses and parameter counts positive")

    @property
    def groups(self) -> int:
        return int(self.group.max()) + 1 if len(self.group) else 0

    def budgets(self) -> NDArray[np.int64]:
        """Return each point's budget, shape (points,)."""
        if self.budget is not None:
            return self.budget
        return np.asarray(np.unique(self.params, return_inverse=True)[1], np.int64).reshape(-1)

    def cells(self) -> NDArray[np.int64]:
        """Return each point's cell, counted from 0, shape (points,)."""
        _, cell = np.unique(np.stack([self.group, self.budgets()]), axis=1, return_inverse=True)
        return np.asarray(cell, np.int64).reshape(-1)

    def cell_means(self) -> Points:
        """Return one point per cell: the mean of log N and of log L over its seeds."""
        cell = self.cells()
        first, count = np.unique(cell, return_index=True)[1], np.bincount(cell)
        params, loss = (np.exp(np.bincount(cell, np.log(value)) / count) for value in (self.params, self.loss))
        return Points(params, loss, self.group[first], self.budgets()[first])

    def of_group(self, group: int) -> Points:
        """Return the points of one group."""
        own = self.group == group
        return Points(self.params[own], self.loss[own], self.group[own], self.budgets()[own])

    def share_of_budgets(self) -> Array:
        """Return each point's weight in the mean of each complete budget, (points, budgets); columns sum to one.

        A budget's mean is that of its cells, a cell's that of its seeds.
        """
        kept, budgets = self.complete(), self.budgets()
        groups = len(np.unique(kept.group))
        shares = np.zeros((len(self.loss), len(kept.loss) // max(1, groups)))
        for place, (budget, group) in enumerate(zip(kept.budgets(), kept.group, strict=True)):
            own = (budgets == budget) & (self.group == group)
            shares[own, place // groups] = 1 / own.sum() / groups
        return shares

    def complete(self) -> Points:
        """Return the cell means of those budgets that every group has, sorted by budget, then by group."""
        means = self.cell_means()
        budgets, count = np.unique(means.budgets(), return_counts=True)
        kept = np.isin(means.budgets(), budgets[count == len(np.unique(means.group))])
        order = np.lexsort((means.group[kept], means.budgets()[kept]))
        chosen = np.flatnonzero(kept)[order]
        return Points(means.params[chosen], means.loss[chosen], means.group[chosen], means.budgets()[chosen])


@dataclass(frozen=True)
class Slope:
    """d log L / d log N and its interval; negative means a falling loss.

    `df` are the degrees of freedom, `p_value` is that of Student's t against a slope of zero.
    """

    value: float
    interval: Interval
    df: int
    p_value: float

    @property
    def excludes_zero(self) -> bool:
        return 0.0 not in self.interval


def budget_means(points: Points) -> tuple[Array, Array]:
    """Return log N and log L of each complete budget, averaged over its groups: (budgets,) each."""
    means = points.complete()
    groups = max(1, len(np.unique(means.group)))
    x, y = (np.log(value).reshape(-1, groups).mean(axis=1) for value in (means.params, means.loss))
    return x, y


def slope(points: Points) -> Slope | None:
    """Fit the line of log L on log N across budgets; None for fewer than three complete budgets.

    Least squares; the interval is Student's t with (budgets - 2) degrees of freedom (Draper and Smith, "Applied
    Regression Analysis", 1998, section 1.4). Each deviation of a budget from the line counts as noise, whether it
    came from seeds, from a lucky search or from noise that all horizons share.
    """
    x, y = budget_means(points)
    df = len(x) - 2
    x = x - x.mean() if len(x) else x
    spread = float(x @ x)
    if df < 1 or spread == 0.0:
        return None
    value = float(x @ y) / spread
    error = math.sqrt(float(((y - y.mean() - value * x) ** 2).sum()) / df / spread)
    reach = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * error
    p_value = float(2 * stats.t.sf(abs(value) / error, df)) if error > 0 else 0.0
    return Slope(value, Interval(value - reach, value + reach), df, p_value)
