"""Measures and draws how much each parameter mattered, from the search's own trials."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from scipy import stats

from supervisor.report.drawing import BLUE, finish, new_figure
from supervisor.report.page import Drawing
from supervisor.report.view import ExperimentRow, RunView

MAX_BINS = 5
MIN_TRIALS = 10
"""With fewer, every parameter explains something by chance."""


def importance(experiment: ExperimentRow) -> dict[str, float]:
    """Return the share of the values' ranks that each parameter's bins explain, 0 to 1; empty for too few trials.

    Eta squared of Kruskal and Wallis's H, (H - k + 1) / (n - k) (Tomczak and Tomczak, 2014), and 0 if that is negative.
    Ranks, because a diverging trial must not decide; bins, because the best learning rate is often in the middle.
    """
    valued = experiment.valued
    if len(valued) < MIN_TRIALS:
        return {}
    shares = {}
    for name, dimension in experiment.spec["space"].items():
        shown = [(trial.params[name], value) for trial, value in valued if name in trial.params]
        bins = _binned(shown, dimension)
        if len(bins) >= 2:
            h = float(stats.kruskal(*bins).statistic) if len({v for b in bins for v in b}) > 1 else 0.0
            n, k = sum(map(len, bins)), len(bins)
            shares[name] = min(1.0, max(0.0, (h - k + 1) / (n - k))) if n > k else 0.0
    return shares


def mean_importance(run: RunView) -> dict[str, float]:
    """Average the importance over the experiments with enough trials, the largest first."""
    each = [shares for experiment in run.experiments if (shares := importance(experiment))]
    names = dict.fromkeys(name for shares in each for name in shares)
    means = {name: float(np.mean([shares[name] for shares in each if name in shares])) for name in names}
    return dict(sorted(means.items(), key=lambda item: -item[1]))


def _binned(shown: list[tuple[Any, float]], dimension: Mapping[str, Any]) -> list[list[float]]:
    """Group the values by choice, else by quantile of the parameter; groups of one are left out."""
    if dimension["type"] == "categorical":
        keys = [str(param) for param, _ in shown]
    else:
        params = np.array([float(param) for param, _ in shown])
        edges = np.unique(params)[1:]
        if len(edges) >= MAX_BINS:
            edges = np.unique(np.quantile(params, np.linspace(0, 1, min(MAX_BINS, len(shown) // 4) + 1)[1:-1]))
        keys = [str(place) for place in np.searchsorted(edges, params, side="right")]
    bins: dict[str, list[float]] = {}
    for key, (_, value) in zip(keys, shown, strict=True):
        bins.setdefault(key, []).append(value)
    return [values for values in bins.values() if len(values) >= 2]


def importances(run: RunView) -> Drawing | None:
    """Draw the mean importance of each parameter; None for too few trials."""
    shares = mean_importance(run)
    if not shares:
        return None
    figure, (axis,) = new_figure(height=0.8 + 0.28 * len(shares))
    names = list(reversed(shares))
    axis.barh(names, [shares[name] for name in names], color=BLUE)
    axis.set_xlim(0, max(0.05, *shares.values()) * 1.05)
    axis.set_xlabel("share of the ranking explained")
    caption = (
        "How much of the trials' ranking each parameter explains alone (eta squared of Kruskal and Wallis's H), "
        "mean of the experiments. The search itself distorts it: a parameter that it settled early looks unimportant."
    )
    return finish(figure, "importance", caption)
