"""What a validation pass says about a binary forecast, beyond its loss."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray


def binary_metrics(logits: NDArray[np.float64], labels: NDArray[np.float64]) -> dict[str, float]:
    """``accuracy`` at logit 0, ``base_rate``, ``prior_loss`` and, with both classes there, ``auc``. Arrays (samples,).

    ``prior_loss`` is the log loss of always answering the base rate: a model that does not beat it has learned nothing.
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


def auc(scores: NDArray[np.float64], labels: NDArray[np.float64]) -> float:
    """Area under the ROC curve by ranks (Mann and Whitney, 1947), ties at their mean rank. Needs both classes."""
    _, inverse, counts = np.unique(scores, return_inverse=True, return_counts=True)
    last = np.cumsum(counts)
    ranks = (last - (counts - 1) / 2)[inverse]
    positive = labels > 0.5
    n_positive, n_negative = int(positive.sum()), int((~positive).sum())
    return float((ranks[positive].sum() - n_positive * (n_positive + 1) / 2) / (n_positive * n_negative))


def _entropy(rate: float) -> float:
    return 0.0 if rate in (0.0, 1.0) else -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
