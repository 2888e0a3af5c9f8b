"""A small version of the scaling simulation: the intervals keep their promise for each kind of noise.

The bounds lie four standard deviations of 400 runs about 5 and 95 %. Counting horizons as independent calls 17 % of
the flat truths scaling with half-shared noise, and 31 % with fully shared noise.
"""

from __future__ import annotations

import pytest

from benchmarks.scaling_simulation import FLAT, KINDS, STRONG, WEAK, alpha_coverage, false_scaling, slope_coverage

RUNS = 400


@pytest.mark.parametrize("kind", KINDS)
def test_flat_truths_are_seldom_called_scaling(kind: str) -> None:
    assert 0.005 <= false_scaling(kind, RUNS) <= 0.095


def test_days_that_tilt_the_line_are_why_days_are_resampled() -> None:
    assert false_scaling("days, not resampled", 80) > 0.25
    assert false_scaling("days", 80) < 0.15


@pytest.mark.parametrize("kind", KINDS)
def test_the_slope_is_inside_its_interval(kind: str) -> None:
    assert 0.905 <= slope_coverage(kind, RUNS) <= 0.995


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("truth", [FLAT, WEAK, STRONG])
def test_the_exponent_is_inside_its_interval(kind: str, truth: object) -> None:
    assert 0.9 <= alpha_coverage(kind, truth, 200) <= 1.0  # type: ignore[arg-type]
