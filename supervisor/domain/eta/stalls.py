"""Says what pauses and lost attempts will take, as a share of the time of training: mostly little, now and then much.

Their number is Poisson's and each is long by chance, so their sum is taken for a gamma distribution: the fewer are
expected, the further its 90 % quantile lies above its mean. Pure; standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.domain.eta.log_normal import Z80

USUAL, USUAL_WEIGHT, MOST = 0.09, 4.0, 1.0
"""The share that stalls take before any is seen; the number of them for which that counts, since one says little of the
next; and the most that is expected of the future."""
USUAL_TIMES = 1.5
"""The stalls of a whole run, before any is seen."""
UNSEEN = 0.1
"""The share of all work that counts as trained without a stall: one in the first minute is no rate."""
LEAST_SHAPE = 0.3
"""The least shape of the gamma distribution for which its approximated quantile is good."""


@dataclass(frozen=True)
class Stalls:
    """Holds the mean and the 90 % quantile of the time that stalls take, as shares of the time of training."""

    mean: float
    high: float
    seen: bool = False

    def latest(self, bound: float) -> float:
        """Return the latest end of hours that end in `bound` without stalls: they do not count them.

        Before any is seen only the usual ones come on top.
        """
        return bound * (1.0 + (max(self.mean, self.high) if self.seen else self.mean))

    def stretched(self, median: float, low: float, high: float) -> tuple[float, float, float]:
        """Return the median and the interval of a time without stalls, with them: they only make it longer.

        What is uncertain by far more than they are is longer by their mean, in the median too.
        """
        middle = median * (1.0 + self.mean)
        if median <= 0.0 or high <= 0.0:
            return middle, low, high
        longer = math.hypot(math.log(high / median), math.log((1.0 + max(self.mean, self.high)) / (1.0 + self.mean)))
        return middle, min(low, middle), middle * math.exp(longer)


def stalls(lost: Iterable[Mapping[str, Any]], times: int, done_s: float, left_s: float) -> Stalls:
    """Return what stalls will take of `left_s`, by the `times` that they began in `done_s` of training."""
    known_s = done_s + UNSEEN * (done_s + left_s)
    if known_s <= 0.0:
        return Stalls(0.0, 0.0)
    seen = min(MOST, sum(float(entry["seconds"]) for entry in lost) / known_s)
    mean = (times * seen + USUAL_WEIGHT * USUAL) / (times + USUAL_WEIGHT)
    ahead = (times + UNSEEN * USUAL_TIMES) * left_s / known_s
    doubt = (2.0 / ahead if ahead > 0.0 else math.inf) + 1.0 / (times + USUAL_WEIGHT)
    shape = max(LEAST_SHAPE, 1.0 / doubt)
    return Stalls(mean, mean * _quantile(shape), times > 0)


def _quantile(shape: float) -> float:
    """Return the 90 % quantile of a gamma distribution with the mean 1 (Wilson and Hilferty, 1931)."""
    narrow = 1.0 / (9.0 * shape)
    return (1.0 - narrow + Z80 * math.sqrt(narrow)) ** 3
