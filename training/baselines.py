"""Fit the forecasts that a model must beat: the class prior, and scikit-learn models on summaries of the same windows.

A window of 80 days x 25 features has 2,000 numbers, far too many for 4,000 windows. So four numbers summarise each
feature of a window as the model sees it, after the model's own normalisation: the last value, the mean over the last 5
days and over the older half, and the deviation. The log scales are added if the model gets them, and only then: under
``revin`` no baseline of these knows the level of volatility. All models are fitted on the train windows only, within
seconds; nothing is tuned. The one number of "volatility" is the same for every input.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import Tensor

from training.data.splits import Indices
from training.loop import cut, gather
from training.model import log_scales, normalise_window
from training.settings import TrialSettings

Array = NDArray[np.float64]

RECENT_DAYS = 5
SUMMARY_CHUNK = 512


@dataclass(frozen=True)
class Baseline:
    """The answers of a fitted baseline: ``probabilities`` (windows,) of each part, and the ``seconds`` of the fit."""

    name: str
    title: str
    note: str
    seconds: float
    probabilities: dict[str, Array]


def summaries(days: Array, part: Indices, settings: TrialSettings) -> Array:
    """Summarise the windows that end on the days ``part`` of the model's ``days``: (windows, summaries)."""
    table, samples = torch.from_numpy(days), torch.from_numpy(part)
    pieces = [_summary(gather(table, piece, settings.context), settings) for piece in cut(samples, SUMMARY_CHUNK)]
    return torch.cat(pieces).numpy()


def _summary(windows: Tensor, settings: TrialSettings) -> Tensor:
    seen = normalise_window(windows) if settings.scales_windows else windows  # (B, T, C)
    recent, older = seen[:, -RECENT_DAYS:].mean(dim=1), seen[:, : seen.shape[1] // 2].mean(dim=1)
    found = [seen[:, -1], recent, older, seen.std(dim=1, correction=0)]
    if settings.tells_scales:
        found.append(log_scales(windows))
    return torch.cat(found, dim=1)


def fit_baselines(
    days: Array,
    log_volatility: Array,
    labels: Array,
    parts: dict[str, Indices],
    settings: TrialSettings,
    seed: int,
    threads: int,
) -> list[Baseline]:
    """Fit every baseline on ``parts["train"]`` and predict the other parts.

    ``days`` (rows, features) are the model's inputs before its own normalisation, ``log_volatility`` and ``labels``
    (rows,) the dataset's; ``parts`` maps train, val, test to the last days of their windows.
    """
    asked = {name: part for name, part in parts.items() if name != "train"}
    known = labels[parts["train"]]
    rate = float(known.mean())
    prior = Baseline(
        "prior",
        "class prior",
        f"always answers the train base rate, {rate:.4f}",
        0.0,
        {name: np.full(len(part), rate) for name, part in asked.items()},
    )
    summed = {name: summaries(days, part, settings) for name, part in parts.items()}
    volatile = {name: log_volatility[part, None] for name, part in parts.items()}
    own = [_fit(name, title, note, make(seed, threads), summed, known) for name, title, note, make in _KINDS]
    name, title, note, make = _VOLATILITY
    return [prior, _fit(name, title, note, make(seed, threads), volatile, known), *own]


def _fit(name: str, title: str, note: str, model: Any, inputs: dict[str, Array], labels: Array) -> Baseline:
    started = time.monotonic()
    model.fit(inputs["train"], labels)
    answers = {
        part: np.asarray(model.predict_proba(values)[:, 1], np.float64)
        for part, values in inputs.items()
        if part != "train"
    }
    return Baseline(name, title, note, round(time.monotonic() - started, 3), answers)


def _logistic(c: float) -> Callable[[int, int], Any]:
    return lambda seed, threads: make_pipeline(StandardScaler(), LogisticRegression(C=c, max_iter=1000))


def _forest(seed: int, threads: int) -> Any:
    return RandomForestClassifier(n_estimators=200, min_samples_leaf=20, random_state=seed, n_jobs=threads)


def _boosting(seed: int, threads: int) -> Any:
    return HistGradientBoostingClassifier(
        max_iter=150, learning_rate=0.05, max_leaf_nodes=8, min_samples_leaf=40, l2_regularization=1.0,
        early_stopping=False, random_state=seed,
    )  # fmt: skip


_VOLATILITY = (
    "volatility",
    "logistic on volatility",
    "logistic regression on one number: log VIX, or log of ATR 14 / close",
    _logistic(1.0),
)
_KINDS: tuple[tuple[str, str, str, Callable[[int, int], Any]], ...] = (
    (
        "logistic",
        "logistic regression",
        "on summaries of each feature, standardised, C = 0.01",
        _logistic(0.01),
    ),
    ("forest", "random forest", "on the same summaries, 200 trees, leaves of 20", _forest),
    ("boosting", "gradient boosting", "on the same summaries, 150 trees of 8 leaves, rate 0.05", _boosting),
)
