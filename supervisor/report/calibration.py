"""Measures how far the probabilities of a test can be believed: calibration, precision and recall. Pure."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from supervisor.report.predictions import Array, Part

BINS = 15
"""Bins of equal width over 0 to 1, as in Guo et al., "On Calibration of Modern Neural Networks" (2017)."""
CHANCE_DRAWS = 200
THRESHOLDS = tuple(place / 10 for place in range(1, 10))


@dataclass(frozen=True)
class Calibration:
    """The expected calibration error of a forecast of `windows`, and its mean `by_chance` for a perfect one."""

    error: float
    by_chance: float
    mean_probability: float
    base_rate: float
    windows: int


@dataclass(frozen=True)
class Threshold:
    """The windows that a probability of `threshold` or above calls, one at least; no recall where none came true."""

    threshold: float
    called: int
    precision: float
    recall: float | None


def calibration_error(probabilities: Array, labels: Array) -> float:
    """Return the expected calibration error (Naeini, Cooper and Hauskrecht, AAAI 2015): arrays (windows,).

    It is the mean over windows of |mean probability - share that came true| of the window's bin.
    """
    places = np.minimum((probabilities * BINS).astype(np.int64), BINS - 1)
    said, came = (np.bincount(places, values, BINS) for values in (probabilities, labels))
    return float(np.abs(said - came).sum() / len(labels))


def calibration(part: Part) -> Calibration:
    """Measure the mean of the seeds. Its error by chance: the same probabilities, with outcomes drawn from them."""
    said, rng = part.mean(), np.random.default_rng(0)
    drawn = [calibration_error(said, (rng.random(len(said)) < said).astype(np.float64)) for _ in range(CHANCE_DRAWS)]
    error = calibration_error(said, part.labels)
    return Calibration(error, float(np.mean(drawn)), float(said.mean()), float(part.labels.mean()), len(said))


def thresholds(part: Part) -> list[Threshold]:
    """Return precision and recall of the seeds' mean at each of THRESHOLDS that calls a window."""
    said, came = part.mean(), part.labels > 0.5
    found = []
    for threshold in THRESHOLDS:
        called = said >= threshold
        hits, calls, all_true = int((called & came).sum()), int(called.sum()), int(came.sum())
        if calls:
            found.append(Threshold(threshold, calls, hits / calls, hits / all_true if all_true else None))
    return found
