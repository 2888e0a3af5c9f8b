"""What a validation pass says about a binary forecast, beyond its loss."""

from __future__ import annotations

import math

import numpy as np
from numpy.typing import NDArray

from training.scores import auc


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


def _entropy(rate: float) -> float:
    return 0.0 if rate in (0.0, 1.0) else -(rate * math.log(rate) + (1 - rate) * math.log(1 - rate))
