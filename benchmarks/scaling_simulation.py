"""Measure how honest the intervals of the scaling answer are, on simulated plans whose truth is known.

    python -m benchmarks.scaling_simulation [--runs 2000] [--alpha-runs 400]

A plan has four budgets a decade apart, three horizons and three seeds a cell, each tested on the same days. The
verdict is made as the report makes it: Student's t across budgets, widened by resamples of days and cells. Noise of
log loss, 1 % a cell in all kinds but the last, comes

- seed: from each seed
- cell: from each search, for itself
- half, full: from each search, half or wholly shared by the horizons of a budget
- days: from days that favour large models or small ones; they tilt the line and leave no residual
- days, not resampled: the same, and only Student's t

The table gives, in percent of the runs: how often a flat truth is called scaling or inverse scaling; how often the
slope's interval holds the true slope; and how often alpha's interval holds the true exponent of a strong power law,
of a weak one, and of a law with a floor. Where a law has a floor, alpha's interval is meant to be too wide: its near
end is exact only without one.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from benchmarks.machine import machine
from supervisor.report.scaling.exponent import exponents
from supervisor.report.scaling.law import verdict_of
from supervisor.report.scaling.points import DRAWS, SEED
from supervisor.report.scaling.resampling import DailyLosses, widened
from supervisor.report.scaling.slope import Array, Points, Slope, slope
from training.block_bootstrap import draw_weights

BUDGETS = np.array([2e6, 2e7, 2e8, 2e9])
CENTRE = float(np.exp(np.log(BUDGETS).mean()))
LEVELS = (0.45, 0.66, 0.67)
"""The loss of each horizon at the central size."""
SEEDS = 3
NOISE = 0.01
BETWEEN_SEEDS = 0.005
SHARED = {"cell": 0.0, "half": 0.5, "full": 1.0}
"""The share of a cell's variance that the horizons of its budget have in common."""
KINDS = ("seed", *SHARED)
DAYS = 600
BLOCK = 42
"""Two trading months, the least mean block of the product."""
HARD_DAYS = 0.5
"""The standard deviation of a day's loss, as a share of the mean: some days are hard for all models."""
DAY_TILT = 0.1
"""A day's tilt of log loss a decade in the kind days, as a standard deviation; .004 on the mean of all days."""


@dataclass(frozen=True)
class Truth:
    """A law L = level (floor + (1 - floor) (N / CENTRE)^-alpha) of each horizon."""

    alpha: float
    floor: float = 0.0

    def log_loss(self, level: float) -> Array:
        return np.log(level * (self.floor + (1 - self.floor) * (BUDGETS / CENTRE) ** -self.alpha))


FLAT, STRONG, WEAK, FLOOR = Truth(0.0), Truth(0.03), Truth(0.005), Truth(0.25, floor=0.9)


def draw(rng: np.random.Generator, kind: str, truth: Truth) -> Points:
    """Draw the final losses of a plan: horizons x budgets x seeds."""
    shape = (len(LEVELS), len(BUDGETS), SEEDS)
    log_loss = np.stack([truth.log_loss(level) for level in LEVELS])[:, :, None] + np.zeros(shape)
    if kind == "seed":
        log_loss += rng.normal(0, NOISE, shape)
    else:
        shared = SHARED.get(kind, 0.0)
        cell = NOISE if kind in SHARED else NOISE / 5
        log_loss += cell * np.sqrt(shared) * rng.normal(size=(1, shape[1], 1))
        log_loss += cell * np.sqrt(1 - shared) * rng.normal(size=(*shape[:2], 1))
        log_loss += rng.normal(0, BETWEEN_SEEDS, shape)
    group, budget, _ = np.indices(shape)
    return Points(
        BUDGETS[budget.ravel()],
        np.exp(log_loss).ravel(),
        group.ravel().astype(np.int64),
        budget.ravel().astype(np.int64),
    )


def over_days(rng: np.random.Generator, points: Points, tilt: float) -> tuple[Points, DailyLosses]:
    """Test the points on common days, which favour large or small models by `tilt`; return the losses, also by day."""
    hard = np.abs(rng.normal(1, HARD_DAYS, DAYS))
    decades = np.log10(points.params / CENTRE)
    by_day = points.loss[:, None] * hard / hard.mean() * (1 + decades[:, None] * rng.normal(0, tilt, DAYS))
    return replace(points, loss=by_day.mean(axis=1)), DailyLosses(by_day, _weights(DRAWS), DAYS / BLOCK)


@lru_cache
def _weights(draws: int) -> Array:
    """Return the resamples of the days: the same for all plans, whose days are independent of them."""
    return draw_weights(DAYS, BLOCK, draws, SEED)


Analysis = Callable[[np.random.Generator, Truth], tuple[Points, Slope]]
"""Draws a plan and fits its slope."""


def analysis(kind: str) -> Analysis:
    """Return the way to simulate a kind of noise."""

    def one(rng: np.random.Generator, truth: Truth) -> tuple[Points, Slope]:
        tilt = DAY_TILT if kind.startswith("days") else 0.0
        points, daily = over_days(rng, draw(rng, kind, truth), tilt)
        found = slope(points)
        assert found is not None, "four budgets give a slope"
        return points, found if kind == "days, not resampled" else widened(points, found, daily, rng)

    return one


def false_scaling(kind: str, runs: int, seed: int = 1) -> float:
    """Return the share of flat truths that are called scaling or inverse scaling."""
    rng, one = np.random.default_rng(seed), analysis(kind)
    return sum(verdict_of(one(rng, FLAT)[1]) != "no scaling detected" for _ in range(runs)) / runs


def slope_coverage(kind: str, runs: int, seed: int = 2) -> float:
    """Return the share of power laws whose slope is inside its interval."""
    rng, one = np.random.default_rng(seed), analysis(kind)
    return sum(-STRONG.alpha in one(rng, STRONG)[1].interval for _ in range(runs)) / runs


def alpha_coverage(kind: str, truth: Truth, runs: int, seed: int = 3) -> float:
    """Return the share of laws whose exponent is inside its interval."""
    rng, one, held = np.random.default_rng(seed), analysis(kind), 0
    for _ in range(runs):
        points, found = one(rng, truth)
        interval = exponents(points, found)
        held += interval is not None and truth.alpha in interval
    return held / runs


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description="Measure how honest the intervals of the scaling answer are.")
    parser.add_argument("--runs", type=int, default=2000, help="of a flat truth and of a slope, for each kind of noise")
    parser.add_argument("--alpha-runs", type=int, default=400, help="of each law, for each kind of noise")
    arguments = parser.parse_args()
    began = time.monotonic()
    print(machine())
    print(f"{'noise':<20} {'false scaling':>13} {'slope held':>10}   alpha held: strong   weak  floor")
    with threadpool_limits(1):
        for kind in (*KINDS, "days", "days, not resampled"):
            flat, held = false_scaling(kind, arguments.runs), slope_coverage(kind, arguments.runs)
            alpha = [alpha_coverage(kind, truth, arguments.alpha_runs) for truth in (STRONG, WEAK, FLOOR)]
            shares = "  ".join(f"{100 * share:5.1f}" for share in alpha)
            print(f"{kind:<20} {100 * flat:13.1f} {100 * held:10.1f}               {shares}", flush=True)
    print(f"{arguments.runs} runs a share, {arguments.alpha_runs} for alpha; {time.monotonic() - began:.0f} s")


if __name__ == "__main__":
    main()
