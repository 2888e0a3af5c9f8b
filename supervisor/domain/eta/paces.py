"""Estimates the pace of each experiment of a run, in seconds per work, from those that have shown one.

A Bayesian regression in logarithms (Gelman and Hill, 2007, chapter 12): the log pace of an experiment is a line in its
log work, which all experiments share, and a deviation of its own; each trial adds noise. So an experiment that has run
goes by its own trials, one that waits by the others', the more doubtfully the larger it is than they were. Pure;
standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

TRIAL_SD, TRIAL_WEIGHT = 0.3, 4.0
"""The deviation of a trial's log pace before any is known, and the trials for which that counts."""
SPREAD_WEIGHT = 3.0
"""The experiments for which the deviation between experiments counts that is assumed before any is known."""
AGEING = 1.0
"""By how much an experiment's deviation weighs more for each one after it: machine and load change."""


@dataclass(frozen=True)
class Prior:
    """Holds the standard deviations assumed before anything is measured: of level and slope, between experiments.

    The level of figures without an absolute rate is unknown.
    """

    level: float
    slope: float
    between: float

    @property
    def absolute(self) -> bool:
        """Return whether the figures say how long a trial takes before one has run."""
        return self.level < UNKNOWN_LEVEL


UNKNOWN_LEVEL = 5.0
PRIORS = {
    "timed here": Prior(0.3, 0.12, 0.2),
    "by operations": Prior(0.5, 0.12, 0.25),
    "rule of thumb": Prior(0.85, 0.12, 0.3),
}
"""An epoch has a part that is the same for all sizes, which figures leave out: hence the doubt about the slope.

By the basis of the figures (preflight.step_times.Basis), which promise a factor of 1.5, or of three."""
WITHOUT_RATE = Prior(UNKNOWN_LEVEL, 0.2, 0.4)


@dataclass(frozen=True)
class Shown:
    """Holds what one experiment has shown: the mean log pace of `trials`, and its age in experiments.

    `log_pace` is None before its first epoch has ended. `squares` are those of the trials' deviations.
    """

    log_work: float
    prior: Prior
    log_pace: float | None = None
    trials: float = 0.0
    squares: float = 0.0
    age: int = 0


@dataclass(frozen=True)
class Line:
    """Holds a line's level and slope with their covariance: level and level, level and slope, slope and slope."""

    level: float
    slope: float
    covariance: tuple[float, float, float]

    def at(self, x: float) -> float:
        return self.level + self.slope * x

    def shared(self, x: float, other: float) -> float:
        """Return the covariance of the line at two places."""
        ll, ls, ss = self.covariance
        return ll + ls * (x + other) + ss * x * other


@dataclass(frozen=True)
class Paces:
    """Holds the mean log pace of each experiment, and how those of two of them err together."""

    line: Line
    places: tuple[float, ...]
    means: tuple[float, ...]
    trusted: tuple[float, ...]
    """The weight of an experiment's own trials, from 0 to 1."""
    own: tuple[float, ...]
    """The variance that each has for itself."""
    noise: float
    """The variance of one trial's log pace."""

    def variance(self, place: int) -> float:
        """Return the variance of an experiment's log pace."""
        return self._by_line(place) + self.own[place]

    def _by_line(self, place: int) -> float:
        x = self.places[place]
        return (1.0 - self.trusted[place]) ** 2 * self.line.shared(x, x)

    def shared(self, place: int, others: Weights) -> float:
        """Return the covariance of an experiment's pace with the sum of others, each as a part of its mean."""
        x, (ll, ls, ss) = self.places[place], self.line.covariance
        return self._on_line(place) * (
            ll * others.plain + ls * (x * others.plain + others.tilted) + ss * x * others.tilted
        )

    def with_one(self, others: Weights, place: int, weight: float) -> Weights:
        """Return `others` and an experiment of this weight."""
        on_line = weight * self._on_line(place)
        return Weights(others.plain + on_line, others.tilted + on_line * self.places[place])

    def _on_line(self, place: int) -> float:
        """Return by how much a pace follows the line: less by its own trials, more where its log's variance is large.

        The variance of a log-normal, as a part of its mean's square, is exp(v) - 1 for the variance v of its logarithm.
        """
        by_line = self._by_line(place)
        return (1.0 - self.trusted[place]) * (math.sqrt(math.expm1(by_line) / by_line) if by_line > 0.0 else 1.0)


@dataclass(frozen=True)
class Weights:
    """Holds the weights of experiments on the line, added up: plain, and times their place."""

    plain: float = 0.0
    tilted: float = 0.0


def paces(shown: Sequence[Shown]) -> Paces | None:
    """Estimate the pace of each experiment; None while nothing says how long any epoch takes."""
    known = [one for one in shown if one.log_pace is not None]
    if not shown or (not known and not all(one.prior.absolute for one in shown)):
        return None
    weight = TRIAL_WEIGHT + sum(max(0.0, one.trials - 1.0) for one in known)
    noise = (TRIAL_WEIGHT * TRIAL_SD**2 + sum(one.squares for one in known)) / weight
    centre = sum(one.log_work for one in shown) / len(shown)
    first = _line(shown, centre, noise, 1.0)
    wider = _widening(known, centre, noise, first)
    line = _line(shown, centre, noise, wider)
    means, trusted, own = [], [], []
    for one in shown:
        between, at = one.prior.between**2 * wider, line.at(one.log_work - centre)
        trust = 0.0 if one.log_pace is None else between / (between + noise / one.trials)
        means.append(at if one.log_pace is None else (1.0 - trust) * at + trust * one.log_pace)
        trusted.append(trust)
        own.append(between if one.log_pace is None else trust * noise / one.trials)
    places = tuple(one.log_work - centre for one in shown)
    return Paces(line, places, tuple(means), tuple(trusted), tuple(own), noise)


def _line(shown: Sequence[Shown], centre: float, noise: float, wider: float) -> Line:
    """Fit the line; `wider` multiplies the variance that is assumed between experiments."""
    level, slope = max(one.prior.level for one in shown), max(one.prior.slope for one in shown)
    ll, ls, ss, l_sum, s_sum = level**-2, 0.0, slope**-2, 0.0, 0.0
    for one in shown:
        if one.log_pace is not None:
            x = one.log_work - centre
            weight = 1.0 / _variance(one, noise, wider)
            ll, ls, ss = ll + weight, ls + weight * x, ss + weight * x * x
            l_sum, s_sum = l_sum + weight * one.log_pace, s_sum + weight * x * one.log_pace
    determinant = ll * ss - ls * ls
    covariance = (ss / determinant, -ls / determinant, ll / determinant)
    at = covariance[0] * l_sum + covariance[1] * s_sum
    return Line(at, covariance[1] * l_sum + covariance[2] * s_sum, covariance)


def _variance(one: Shown, noise: float, wider: float) -> float:
    return one.prior.between**2 * wider * (1.0 + AGEING * one.age) + noise / one.trials


def _widening(known: Sequence[Shown], centre: float, noise: float, line: Line) -> float:
    """Return by how much experiments differ more than assumed, in variances, from their distances to the line."""
    ratios = [
        (one.log_pace - line.at(one.log_work - centre)) ** 2 / _variance(one, noise, 1.0)
        for one in known
        if one.log_pace is not None
    ]
    return max(0.5, (SPREAD_WEIGHT + sum(ratios)) / (SPREAD_WEIGHT + len(ratios)))
