"""Fit the forecasts that a model must beat: the class prior, and scikit-learn models on summaries of the same windows.

A window of 80 days x 25 features has 2,000 numbers, far too many for 4,000 windows. So four numbers summarise each
feature: its last value, its mean over the last 5 days and over the older half (each as a distance from the window's
mean in the window's deviations, like the model's own normalisation), and the deviation as a share of the mean's size.
No price level enters. All models are fitted on the train windows only, within seconds; nothing is tuned.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from sklearn.ensemble import HistGradientBoostingClassifier, RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from training.data.splits import Indices

Array = NDArray[np.float64]

RECENT_DAYS = 5
# The share means nothing for an indicator with a mean near zero, such as MACD: it is clipped to this.
LARGEST_SHARE = 10.0
SUMMARY_CHUNK = 512
VOLATILITY_FEATURES = ("vix_close", "atr_14")
"""The volatility baseline reads the first of these that a dataset has."""


@dataclass(frozen=True)
class Baseline:
    """The answers of a fitted baseline: ``probabilities`` (windows,) of each part, and the ``seconds`` of the fit."""

    name: str
    title: str
    note: str
    seconds: float
    probabilities: dict[str, Array]


def summaries(table: Array, part: Indices, context: int) -> Array:
    """Summarise the windows that end on the days ``part`` of ``table`` (rows, features): (windows, 4 x features)."""
    views = np.lib.stride_tricks.sliding_window_view(table, context, axis=0)  # (rows - context + 1, features, context)
    firsts = part - (context - 1)
    pieces = [_summary(views[firsts[i : i + SUMMARY_CHUNK]]) for i in range(0, len(part), SUMMARY_CHUNK)]
    return np.concatenate(pieces)


def _summary(windows: Array) -> Array:
    mean, deviation = windows.mean(axis=2), windows.std(axis=2)
    size = np.abs(mean)
    flat = deviation <= 1e-8 * size
    scale = np.where(flat, 1.0, deviation)

    def placed(values: Array) -> Array:
        return np.where(flat, 0.0, (values - mean) / scale)

    share = np.minimum(deviation / np.maximum(size, deviation / LARGEST_SHARE + 1e-300), LARGEST_SHARE)
    half = windows.shape[2] // 2
    recent, older = windows[:, :, -RECENT_DAYS:].mean(axis=2), windows[:, :, :half].mean(axis=2)
    return np.concatenate([placed(windows[:, :, -1]), placed(recent), placed(older), share], axis=1)


def fit_baselines(
    table: Array,
    labels: Array,
    features: Sequence[str],
    parts: dict[str, Indices],
    context: int,
    seed: int,
    threads: int,
) -> list[Baseline]:
    """Fit every baseline on ``parts["train"]`` and predict the other parts.

    ``table`` (rows, features) and ``labels`` (rows,) are the dataset's; ``parts`` maps train, val, test to the last
    days of their windows.
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
    summed = {name: summaries(table, part, context) for name, part in parts.items()}
    volatile = {name: volatility(table, features, part) for name, part in parts.items()}
    own = [_fit(name, title, note, make(seed, threads), summed, known) for name, title, note, make in _KINDS]
    name, title, note, make = _VOLATILITY
    return [prior, _fit(name, title, note, make(seed, threads), volatile, known), *own]


def volatility(table: Array, features: Sequence[str], part: Indices) -> Array:
    """Return the logarithm of VIX, or of ATR 14 / close where the dataset has no VIX: (windows, 1)."""
    places = {name: place for place, name in enumerate(features)}
    found = next((name for name in VOLATILITY_FEATURES if name in places), None)
    if found is None or (found == "atr_14" and "close" not in places):
        return np.zeros((len(part), 1))
    values = table[part, places[found]]
    if found == "atr_14":
        values = values / table[part, places["close"]]
    logs: Array = np.log(np.maximum(values, 1e-12))[:, None]
    return logs


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
    ("logistic", "logistic regression", "on four summaries of each feature, standardised, C = 0.01", _logistic(0.01)),
    ("forest", "random forest", "on the same summaries, 200 trees, leaves of 20", _forest),
    ("boosting", "gradient boosting", "on the same summaries, 150 trees of 8 leaves, rate 0.05", _boosting),
)
