"""Draws the figures of the test: the skill of every model, and how reliable its probabilities are."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator
from numpy.typing import NDArray

from supervisor.report.drawing import BLUE, INK, SERIES, finish, new_figure
from supervisor.report.page import Drawing
from supervisor.report.predictions import Predictions
from supervisor.report.view import RunView

MAX_PANELS = 24
BINS = 8
"""Bins of equal counts: with 400 test windows each holds 50."""
Z = 1.959964
"""The normal quantile of a 95 % interval."""


@dataclass(frozen=True)
class Bin:
    """Windows of similar probability: its mean, the share that came true, and that share's 95 % Wilson interval."""

    predicted: float
    observed: float
    low: float
    high: float


def reliability_bins(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> list[Bin]:
    """Divide windows by probability into at most BINS bins of equal counts. Arrays (windows,); Wilson (1927)."""
    order = np.argsort(probabilities, kind="stable")
    bins = []
    for part in np.array_split(order, min(BINS, len(order))):
        n, share = len(part), float(labels[part].mean())
        middle = (share + Z**2 / (2 * n)) / (1 + Z**2 / n)
        reach = Z / (1 + Z**2 / n) * float(np.sqrt(share * (1 - share) / n + Z**2 / (4 * n**2)))
        bins.append(Bin(float(probabilities[part].mean()), share, middle - reach, middle + reach))
    return bins


def skill(run: RunView) -> Drawing | None:
    """Draw each model's skill on the test windows; None if nothing is tested."""
    tested = [(e.name, e.evaluation) for e in run.experiments if e.evaluation is not None]
    if not tested:
        return None
    figure, (axis,) = new_figure(height=1.2 + 0.42 * len(tested))
    titles: dict[str, str] = {}
    for _, evaluation in tested:
        for model in evaluation["models"]:
            titles.setdefault(model, model if model != "patchtst" else "PatchTST")
    for rank, (model, title) in enumerate(titles.items()):
        _model_skill(axis, [evaluation["models"].get(model) for _, evaluation in tested], rank, len(titles), title)
    axis.axvline(0, color=INK, lw=0.8)
    axis.set_yticks(range(len(tested)), [name for name, _ in tested])
    axis.invert_yaxis()
    axis.set_xlabel("skill on the test windows (share of the class prior's log loss that is saved)")
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    caption = (
        "Skill on the test windows with 95 % intervals by stationary block bootstrap; right of the line is better than "
        "always answering the base rate."
    )
    return finish(figure, "test-skill", caption)


def _model_skill(axis: Axes, models: list[Mapping[str, Any] | None], rank: int, count: int, title: str) -> None:
    shift = 0.6 * ((rank + 0.5) / count - 0.5)
    for place, model in enumerate(models):
        score = None if model is None else model["test"].get("skill")
        if score is None or score["value"] is None:
            continue
        colour = SERIES[rank % len(SERIES)]
        if score["low"] is not None and score["high"] is not None:
            axis.plot([score["low"], score["high"]], [place + shift] * 2, color=colour, lw=1.4, alpha=0.7)
        axis.plot([score["value"]], [place + shift], "o", ms=4, color=colour, label=title)
        title = f"_{title}"  # a label with an underscore is left out of the legend, so each model is there once


def reliability(predictions: Predictions) -> Drawing | None:
    """Draw a panel for each tested experiment, the mean of its seeds; None for no predictions."""
    tested = {name: parts["test"] for name, parts in list(predictions.items())[:MAX_PANELS]}
    return _reliability([(name, reliability_bins(part.mean(), part.labels)) for name, part in tested.items()])


def _reliability(panels: list[tuple[str, list[Bin]]]) -> Drawing | None:
    if not panels:
        return None
    columns = min(4, len(panels))
    rows = -(-len(panels) // columns)
    figure, axes = new_figure(columns, rows, height=0.3 + 2.1 * rows)
    for axis, (name, bins) in zip(axes, panels, strict=False):
        reach = [bin_.high for bin_ in bins] + [bin_.predicted for bin_ in bins]
        top = min(1.0, max(reach) * 1.08)
        axis.plot([0, top], [0, top], color=INK, lw=0.7, ls=":")
        for bin_ in bins:
            axis.plot([bin_.predicted] * 2, [bin_.low, bin_.high], color=BLUE, lw=1, alpha=0.6)
        axis.plot([bin_.predicted for bin_ in bins], [bin_.observed for bin_ in bins], "o-", ms=3.5, lw=1, color=BLUE)
        axis.set(xlim=(0, top), ylim=(0, top), title=name, xlabel="predicted probability")
        axis.xaxis.set_major_locator(MaxNLocator(4))
    for place, axis in enumerate(axes):
        axis.set_visible(place < len(panels))
        if place % columns == 0:
            axis.set_ylabel("share that came true")
    caption = (
        "Reliability on the test windows, mean of the seeds: of windows with probability p, the share that came true. "
        "The 95 % Wilson intervals take windows as independent and are too narrow where labels overlap. Dotted: a "
        "perfect forecast."
    )
    return finish(figure, "test-reliability", caption)
