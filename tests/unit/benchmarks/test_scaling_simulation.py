"""A small version of the scaling simulation: the intervals keep their promise for each kind of noise.

The bounds lie four standard deviations of 300 runs about 5 and 95 %. Counting horizons as independent calls 17 % of
the flat truths scaling with half-shared noise, and 31 % with fully shared noise.
"""

from __future__ import annotations

import pytest

from benchmarks import scaling_simulation
from benchmarks.scaling_simulation import KINDS, STRONG, WEAK, Truth, alpha_coverage, false_scaling, slope_coverage

RUNS = 300


@pytest.fixture(autouse=True)
def few_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Resample the days less often: it takes most of the time."""
    monkeypatch.setattr(scaling_simulation, "DRAWS", 100)


@pytest.mark.parametrize("kind", [*KINDS, "days"])
def test_flat_truths_are_seldom_called_scaling(kind: str) -> None:
    assert false_scaling(kind, RUNS) <= 0.1


def test_days_that_tilt_the_line_are_why_days_are_resampled() -> None:
    assert false_scaling("days, not resampled", 80) > 0.25


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_inside_its_interval(kind: str) -> None:
    assert slope_coverage(kind, RUNS) >= 0.9


def test_intervals_are_not_wider_than_need_be() -> None:
    """With seeds drawn again inside their cell, 1.6 % of flat truths would be called scaling."""
    assert false_scaling("seed", 600) >= 0.02


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truth", [WEAK, STRONG])
def test_the_exponent_is_inside_its_interval(kind: str, truth: Truth) -> None:
    assert alpha_coverage(kind, truth, 100) >= 0.86
