"""Adds up times that are uncertain by factors: log-normal ones, bounded or not. Pure; standard library only."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z80 = 1.2816
"""The standard normal's 90 % quantile: between it and its negative lie 80 %."""


@dataclass(frozen=True)
class Moments:
    """Holds the mean and the variance of a positive time in seconds."""

    mean: float
    variance: float

    @property
    def log_variance(self) -> float:
        """Return the variance of the logarithm, of the log-normal with these moments."""
        return math.log1p(self.variance / self.mean**2) if self.mean > 0.0 else 0.0

    def quantiles(self, bound: float | None = None) -> tuple[float, float, float]:
        """Return the median and the ends of the 80 % interval; none of them above `bound`.

        The sum of log-normals is taken for one with the same moments (Fenton, 1960).
        """
        spread = self.log_variance
        middle = self.mean * math.exp(-spread / 2.0)
        step = math.exp(Z80 * math.sqrt(spread))
        found = (middle, middle / step, middle * step)
        return found if bound is None else (min(found[0], bound), min(found[1], bound), min(found[2], bound))

    def bounded(self, bound: float) -> Moments:
        """Return the moments of the smaller of this log-normal and `bound`."""
        if self.mean <= 0.0 or bound <= 0.0:
            return Moments(0.0, 0.0)
        spread = self.log_variance
        if spread < 1e-12:
            return Moments(min(self.mean, bound), 0.0)
        sd, middle = math.sqrt(spread), math.log(self.mean) - spread / 2.0
        place = (math.log(bound) - middle) / sd
        above = 1.0 - _below(place)
        first = self.mean * _below(place - sd) + bound * above
        second = math.exp(2.0 * middle + 2.0 * spread) * _below(place - 2.0 * sd) + bound**2 * above
        return Moments(first, max(0.0, second - first**2))


def uncertain(median: float, log_variance: float) -> Moments:
    """Return the moments of a log-normal time."""
    mean = median * math.exp(log_variance / 2.0)
    return Moments(mean, mean**2 * math.expm1(log_variance))


def _below(place: float) -> float:
    """Return the probability that a standard normal is below `place`."""
    return 0.5 * math.erfc(-place / math.sqrt(2.0))
