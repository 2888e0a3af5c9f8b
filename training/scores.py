"""Score binary forecasts, for all resamples at once: each score takes a row of weights per resample. NumPy only.

BCE is the mean log loss in nats; skill is 1 - BCE / BCE of always answering the train base rate, so 0 is the class
prior's; AUC and average precision rank; Brier is the mean squared error of the probabilities (Brier, 1950). Equal
answers share their rank, as in scikit-learn.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]

SCORES = ("bce", "skill", "auc", "average_precision", "brier")

# A certain and wrong forecast would have an infinite loss; single precision cannot express more than this anyway.
CLIP = 1e-7


@dataclass(frozen=True)
class Forecast:
    """Answers and outcomes: ``probabilities`` and ``labels`` (days,), and the ``prior`` (train base rate).

    The prior is one number, or (days,) where folds with different train days are pooled.
    """

    probabilities: Array
    labels: Array
    prior: float | Array

    def losses(self) -> Array:
        """Return the log loss of each day, in nats: (days,)."""
        return log_losses(self.probabilities, self.labels)

    def prior_losses(self) -> Array:
        """Return the log losses of the answer ``prior``: (days,)."""
        return log_losses(np.broadcast_to(self.prior, len(self.labels)), self.labels)


def log_losses(probabilities: Array, labels: Array) -> Array:
    """Return -log of the probability of each outcome, clipped to CLIP .. 1 - CLIP: (days,)."""
    sure = np.clip(probabilities, CLIP, 1 - CLIP)
    return -np.log(np.where(labels > 0.5, sure, 1 - sure))


def scores(forecast: Forecast) -> dict[str, float]:
    """Compute each of SCORES; AUC and average precision are NaN where a class is missing."""
    found = resampled_scores(forecast, np.ones((1, len(forecast.labels))))
    return {name: float(values[0]) for name, values in found.items()}


def resampled_scores(forecast: Forecast, weights: Array) -> dict[str, Array]:
    """Compute each of SCORES for every row of ``weights`` (draws, days): (draws,).

    A weight counts how often a day is drawn. AUC and average precision are NaN in a draw without both classes.
    """
    total = weights.sum(axis=1)
    bce = weights @ forecast.losses() / total
    prior = weights @ forecast.prior_losses() / total
    squared = (np.clip(forecast.probabilities, 0, 1) - forecast.labels) ** 2
    area, average_precision = _ranked(forecast.probabilities, forecast.labels, weights)
    return {
        "bce": bce,
        "skill": 1 - bce / prior,
        "auc": area,
        "average_precision": average_precision,
        "brier": weights @ squared / total,
    }


def auc(answers: Array, labels: Array) -> float:
    """Compute the area under the ROC curve of answers that rank; arrays (days,). NaN where a class is missing."""
    area, _ = _ranked(answers, labels, np.ones((1, len(labels))))
    return float(area[0])


def _ranked(answers: Array, labels: Array, weights: Array) -> tuple[Array, Array]:
    """Compute AUC (Mann and Whitney, 1947) and average precision (sum of precision x step of recall): (draws,)."""
    order = np.argsort(-answers, kind="stable")  # highest first
    ranked, positive = answers[order], labels[order] > 0.5
    starts = np.flatnonzero(np.r_[True, ranked[1:] != ranked[:-1]])
    hits = np.add.reduceat(weights[:, order] * positive, starts, axis=1)  # (draws, distinct scores)
    misses = np.add.reduceat(weights[:, order] * ~positive, starts, axis=1)
    true, false = hits.cumsum(axis=1), misses.cumsum(axis=1)
    n_positive, n_negative = true[:, -1], false[:, -1]
    with np.errstate(invalid="ignore", divide="ignore"):
        # A miss ranked below a hit counts whole, one of equal rank half.
        below = n_negative[:, None] - false + misses / 2
        area = (hits * below).sum(axis=1) / (n_positive * n_negative)
        precision = np.where(true + false > 0, true / (true + false), 0.0)
        average_precision = (hits * precision).sum(axis=1) / n_positive
    neither = (n_positive == 0) | (n_negative == 0)
    return np.where(neither, np.nan, area), np.where(neither, np.nan, average_precision)


def binary_metrics(logits: Array, labels: Array) -> dict[str, float]:
    """Compute ``accuracy`` at logit 0, ``base_rate``, ``prior_loss`` and, with both classes, ``auc``.

    ``prior_loss`` is the log loss of always answering the base rate: a model must beat it to have learned anything.
    """
    rate = float(labels.mean())
    metrics = {
        "accuracy": float(((logits > 0) == (labels > 0.5)).mean()),
        "base_rate": rate,
        "prior_loss": _entropy(rate),
    }
    if 0 < rate < 1:
        metrics["auc"] = auc(logits, labels)
    return metrics


def _entropy(rate: float) -> float:
    return 0.0 if rate in (0.0, 1.0) else -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
