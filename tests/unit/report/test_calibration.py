"""Calibration error, precision and recall: their definitions, and what a perfect forecast has."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import precision_score, recall_score

from supervisor.report.calibration import BINS, calibration, calibration_error, thresholds
from supervisor.report.predictions import Array, Part


def part_of(said: Array, came: Array) -> Part:
    return Part(tuple(map(str, range(len(said)))), came.astype(np.float64), {"7": said, "prior": said * 0})


@given(pairs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60))
def test_the_calibration_error_is_the_weighted_distance_over_bins_of_equal_width(
    pairs: list[tuple[float, bool]],
) -> None:
    said, came = np.array([p for p, _ in pairs]), np.array([float(label) for _, label in pairs])
    expected = 0.0
    for place in range(BINS):
        own = (said * BINS >= place) & ((said * BINS < place + 1) | (place == BINS - 1))
        if own.any():
            expected += own.mean() * abs(said[own].mean() - came[own].mean())
    assert calibration_error(said, came) == pytest.approx(expected, abs=1e-12)


def test_a_perfect_forecast_has_the_error_of_chance_and_a_shifted_one_more() -> None:
    rng = np.random.default_rng(1)
    said = rng.uniform(0.1, 0.6, 2000)
    came = rng.random(2000) < said
    perfect, shifted = calibration(part_of(said, came)), calibration(part_of(said + 0.2, came))
    assert perfect.error < 2 * perfect.by_chance
    assert shifted.error == pytest.approx(0.2, abs=0.03)
    assert shifted.mean_probability - shifted.base_rate == pytest.approx(0.2, abs=0.03)


def test_precision_and_recall_equal_scikit_learns() -> None:
    rng = np.random.default_rng(2)
    said = rng.uniform(0, 0.75, 300)
    came = rng.random(300) < said
    found = thresholds(part_of(said, came))
    assert [one.threshold for one in found] == [place / 10 for place in range(1, 8)], "none is called at .8"
    for one in found:
        assert one.called == (said >= one.threshold).sum()
        assert one.precision == pytest.approx(precision_score(came, said >= one.threshold))
        assert one.recall == pytest.approx(recall_score(came, said >= one.threshold))


def test_without_a_window_that_came_true_there_is_no_recall() -> None:
    (one,) = thresholds(part_of(np.array([0.15]), np.array([False])))
    assert (one.precision, one.recall) == (0.0, None)
