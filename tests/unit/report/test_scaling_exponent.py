"""The exponents that the losses do not reject."""

from __future__ import annotations

import math

import numpy as np
import pytest

from supervisor.report.scaling.exponent import exponents
from supervisor.report.scaling.slope import Interval, Points, slope

SIZES = np.geomspace(1e6, 1e9, 7)


def interval_of(loss: np.ndarray, noise: float = 1e-4, seed: int = 1) -> Interval | None:
    noisy = loss * np.exp(np.random.default_rng(seed).normal(0, noise, len(loss)))
    points = Points(SIZES[: len(loss)], noisy, np.zeros(len(loss), np.int64))
    found = slope(points)
    assert found is not None
    return exponents(points, found)


def test_little_noise_and_many_budgets_pin_the_exponent_down() -> None:
    found = interval_of(0.4 + 4 * SIZES**-0.25)
    assert found is not None
    assert 0.25 in found
    assert found.high < 0.35


def test_a_rising_loss_has_a_negative_exponent() -> None:
    found = interval_of(0.4 + 0.01 * SIZES**0.15)
    assert found is not None
    assert -0.15 in found
    assert found.high < 0


def test_flat_losses_reject_no_exponent() -> None:
    assert interval_of(np.full(7, 0.5)) == Interval(-math.inf, math.inf)


def test_three_budgets_cannot_bound_the_exponent() -> None:
    found = interval_of(0.4 * SIZES[:3] ** -0.1)
    assert found is not None
    assert found.low == pytest.approx(0.1, abs=0.01)
    assert found.high == math.inf


def test_a_loss_that_falls_ever_faster_rejects_every_exponent() -> None:
    assert interval_of(0.5 - 0.001 * np.linspace(0, 6, 7) ** 2) is None


def test_the_near_end_is_the_end_of_the_slopes_interval() -> None:
    """A law is nowhere steeper than its exponent, so zero is inside exactly where the slope's interval holds it."""
    loss = 0.4 * SIZES**-0.02
    points = Points(SIZES, loss * np.exp(np.random.default_rng(2).normal(0, 0.01, 7)), np.zeros(7, np.int64))
    line = slope(points)
    assert line is not None
    found = exponents(points, line)
    assert found is not None
    assert found.low == pytest.approx(-line.interval.high)
