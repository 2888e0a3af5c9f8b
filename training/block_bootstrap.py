"""Compute intervals for scores of dependent days by the stationary block bootstrap (Politis and Romano, 1994).

Labels that look h days ahead overlap, and calm and wild months come in spells. So days are not independent, and their
plain standard error is too small. Blocks of random length keep neighbours together.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from arch.bootstrap import StationaryBootstrap, optimal_block_length
from scipy import stats

from training.scores import Array

DRAWS = 2000
CONFIDENCE = 0.95
SPELL_DAYS = 42
"""Two trading months. Spells last for weeks and hide in the noise of single days, so the automatic choice of a block
length sees little of them: intervals from its short blocks covered 79 to 89 instead of 95 % of simulated series."""


@dataclass(frozen=True)
class Interval:
    """A value, and where it would lie on other days of the same kind with CONFIDENCE; None where unknown."""

    value: float | None
    low: float | None
    high: float | None

    def as_dict(self) -> dict[str, float | None]:
        return {"value": self.value, "low": self.low, "high": self.high}


def block_days(losses: Array, horizon: int) -> int:
    """Choose the mean block length for these daily losses (days,).

    It is the longest of the automatic choice of Politis and White (2004, corrected 2009), ``horizon`` (labels overlap
    so long) and SPELL_DAYS, but at most a third of the days, which leaves three blocks.
    """
    least, most = max(horizon, SPELL_DAYS), max(1, len(losses) // 3)
    # The automatic choice fails on a handful of days, so it runs only where it can change the result.
    if most <= least or np.ptp(losses) == 0:
        return min(least, most)
    found = float(optimal_block_length(losses)["stationary"].iloc[0])
    return min(max(least, math.ceil(found) if math.isfinite(found) else 1), most)


def draw_weights(days: int, block: int, draws: int, seed: int) -> Array:
    """Count how often each day is in each resample: (draws, days), rows sum to ``days``."""
    bootstrap = StationaryBootstrap(block, np.arange(days), seed=np.random.default_rng(seed))
    weights = np.empty((draws, days))
    for row, (positional, _) in enumerate(bootstrap.bootstrap(draws)):
        weights[row] = np.bincount(positional[0], minlength=days)
    return weights


def interval(value: float, drawn: Array, blocks: float) -> Interval:
    """Compute the percentile interval of a score from its resamples (draws,); NaN ones are left out.

    It is widened for the number of ``blocks`` in the days, as for a mean: a resample varies about its own mean, which
    takes 2 / blocks off the variance, and only that many blocks estimate the variance (Student's t).
    """
    known = drawn[np.isfinite(drawn)]
    if not math.isfinite(value) or len(known) < len(drawn) / 2 or blocks <= 2:
        return Interval(float(value) if math.isfinite(value) else None, None, None)
    low, high = np.quantile(known, [(1 - CONFIDENCE) / 2, (1 + CONFIDENCE) / 2])
    place = (1 + CONFIDENCE) / 2
    wider = stats.t.ppf(place, blocks) / stats.norm.ppf(place) / math.sqrt(1 - 2 / blocks)
    return Interval(float(value), float(value - (value - low) * wider), float(value + (high - value) * wider))
