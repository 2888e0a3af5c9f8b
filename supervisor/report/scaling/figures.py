"""Draws the figures of the answer: loss against parameters, residuals, depth and width."""

from __future__ import annotations

from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator, NullFormatter, ScalarFormatter

from supervisor.report.drawing import INK, SERIES, finish, log_ticks, new_figure, size_text
from supervisor.report.page import Drawing
from supervisor.report.scaling.answer import ScalingAnswer
from supervisor.report.scaling.points import as_arrays
from supervisor.report.view import RunView

CURVE_POINTS = 60
MARGIN = 1.4
"""The curves go this factor beyond the smallest and largest model: farther out the fit tells nothing."""


def loss_against_parameters(answer: ScalingAnswer) -> Drawing:
    """Draw the points, the fitted curves with their bands and the baselines, on logarithmic axes."""
    figure, (axis,) = new_figure(height=4.4)
    sizes = np.array([point.params for point in answer.points], np.float64)
    grid = np.geomspace(sizes.min() / MARGIN, sizes.max() * MARGIN, CURVE_POINTS)
    for place, group in enumerate(answer.groups):
        colour = SERIES[place % len(SERIES)]
        own = [point for point in answer.points if point.group == group]
        axis.plot([p.params for p in own], [p.loss for p in own], "o", ms=6, color=colour, mec="none", label=group)
        prior, forest = answer.prior_loss[place], answer.forest_loss[place]
        if prior is not None:
            axis.axhline(prior, color=colour, lw=1.2, ls=":", label=f"class prior, {group}")
        if forest is not None:
            axis.axhline(forest, color=colour, lw=1.2, ls="--", label=f"random forest, {group}")
        _lines(axis, answer, place, grid, colour)
    axis.set(xscale="log", yscale="log", xlabel="parameters", ylabel=f"{answer.losses} loss (nats)")
    log_ticks(axis.xaxis, size_text)
    axis.yaxis.set_major_locator(MaxNLocator(8))
    axis.yaxis.set_major_formatter(ScalarFormatter(useOffset=False))
    axis.yaxis.set_minor_formatter(NullFormatter())
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    fan = (
        ""
        if answer.analysis.slope is None
        else (" Lines: the slope across budgets, through the mean of each group; fans: its 95 % interval.")
    )
    law = " Dash-dotted: the pooled law." if answer.analysis.shows_law else ""
    flat = "Dotted: the class prior; dashed: a random forest, where they are known."
    return finish(figure, "scaling-loss", f"Loss against parameters, both logarithmic.{fan}{law} {flat}")


def _lines(axis: Axes, answer: ScalingAnswer, place: int, grid: Any, colour: str) -> None:
    """Draw the slope with its fan, and the law where it means anything."""
    found, law = answer.analysis.slope, answer.analysis.law
    means = as_arrays(list(answer.points), answer.groups).complete()
    own = means.group == place
    if found is not None:
        centre = float(np.log(means.params[own]).mean())
        level = float(np.log(means.loss[own]).mean())
        middle, *ends = (
            np.exp(level + slope * (np.log(grid) - centre))
            for slope in (found.value, found.interval.low, found.interval.high)
        )
        axis.fill_between(grid, np.minimum(*ends), np.maximum(*ends), color=colour, alpha=0.18, lw=0)
        axis.plot(grid, middle, color=colour, lw=1.6)
    if law is not None and answer.analysis.shows_law:
        curve = np.exp(law.problem_at(grid, place).predict(law.theta[None, :])[0])
        axis.plot(grid, curve, color=colour, lw=1.2, ls="-.")


def residuals(answer: ScalingAnswer) -> Drawing | None:
    """Draw the residuals of the law in log L; None where the law is not shown."""
    law = answer.analysis.law
    if law is None or not answer.analysis.shows_law:
        return None
    figure, (axis,) = new_figure(height=2.6)
    for place, group in enumerate(answer.groups):
        own = as_arrays([point for point in answer.points if point.group == group], answer.groups)
        left = np.log(own.loss) - law.problem_at(own.params, place).predict(law.theta[None, :])[0]
        axis.plot(own.params, 100 * left, "o", ms=5, color=SERIES[place % len(SERIES)], mec="none", label=group)
    axis.axhline(0, color=INK, lw=0.8)
    axis.set(xscale="log", xlabel="parameters", ylabel="residual (%)")
    log_ticks(axis.xaxis, size_text)
    axis.legend(fontsize=8, loc="center left", bbox_to_anchor=(1.0, 0.5))
    return finish(figure, "scaling-residuals", "Residuals of the pooled law, in percent of the loss, by size.")


def depth_and_width(run: RunView) -> Drawing | None:
    """Draw the median rank of each width and depth within its experiment; None without architectures."""
    ranks: dict[tuple[int, int], list[float]] = {}
    for experiment in run.experiments:
        values = sorted(value for _, value in experiment.valued)
        for trial, value in experiment.valued:
            shape = trial.architecture or {}
            if len(values) > 1 and "d_model" in shape and "n_layers" in shape:
                share = values.index(value) / (len(values) - 1)
                ranks.setdefault((shape["d_model"], shape["n_layers"]), []).append(share)
    if not ranks:
        return None
    widths, depths = (sorted({key[place] for key in ranks}) for place in (0, 1))
    table = np.full((len(depths), len(widths)), np.nan)
    for (width, depth), shares in ranks.items():
        table[depths.index(depth), widths.index(width)] = np.median(shares)
    figure, (axis,) = new_figure(height=1.6 + 0.24 * len(depths))
    axis.grid(visible=False)
    image = axis.pcolormesh(np.ma.masked_invalid(table), cmap="viridis_r", vmin=0, vmax=1, edgecolor="none")
    axis.set_xticks(np.arange(len(widths)) + 0.5, [str(width) for width in widths])
    axis.set_yticks(np.arange(len(depths)) + 0.5, [str(depth) for depth in depths])
    axis.set(xlabel="width (d_model)", ylabel="depth (layers)")
    figure.colorbar(image, ax=axis, label="median rank (0 = best, 1 = worst)")
    caption = "The median rank of each width and depth among all trials of its experiment."
    return finish(figure, "scaling-shapes", caption)
