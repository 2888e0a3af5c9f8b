"""Draws the figures of any plan: results per experiment, progress of the search, learning curves, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from matplotlib.axes import Axes
from matplotlib.ticker import MaxNLocator

from supervisor.domain.lifecycle import SUCCEEDED, EndReason
from supervisor.formatting import short_value
from supervisor.report.drawing import BLUE, GREEN, GREY, INK, ORANGE, RED, finish, log_ticks, new_figure, robust_limits
from supervisor.report.page import Drawing
from supervisor.report.view import ExperimentRow, RunView, TrialRow, best_so_far

MAX_CURVES = 200
"""Learning curves in one panel: more are a grey area and megabytes of SVG."""
MAX_PARAMS = 12
MAX_CATEGORIES = 12


def overview(run: RunView) -> Drawing | None:
    """Draw every trial's value and the best, a line per experiment; None if no trial has a value."""
    rows = [experiment for experiment in run.experiments if experiment.best is not None]
    if not rows:
        return None
    figure, (axis,) = new_figure(height=1.2 + 0.28 * len(rows))
    for place, experiment in enumerate(reversed(rows)):
        values = [value for _, value in experiment.valued]
        axis.plot(values, [place] * len(values), "o", ms=4, color=GREY, alpha=0.5, mec="none")
        if experiment.best is not None and experiment.best.value is not None:
            axis.plot([experiment.best.value], [place], "D", ms=6, color=BLUE)
    axis.set_yticks(range(len(rows)), [experiment.name for experiment in reversed(rows)])
    axis.set_ylim(-0.6, len(rows) - 0.4)
    metrics = sorted({experiment.metric for experiment in rows})
    axis.set_xlabel(", ".join(metrics))
    every = [value for experiment in rows for _, value in experiment.valued]
    every += [experiment.best.value for experiment in rows if experiment.best and experiment.best.value is not None]
    limits = robust_limits(every, minimised=rows[0].minimised)
    if limits:
        axis.set_xlim(limits)
    caption = f"Each dot is a search trial's {' or '.join(metrics)}, the diamond the best of its experiment."
    return finish(figure, "overview", caption)


def search(experiment: ExperimentRow) -> Drawing | None:
    """Draw the best value so far over trials and the learning curves; None if nothing was reported."""
    if not any(value is not None for trial in experiment.trials for _, value in trial.results):
        return None
    figure, (left, right) = new_figure(columns=2)
    _best_so_far(left, experiment)
    drawn = _learning_curves(right, experiment)
    caption = (
        f"{experiment.name}. Left: the best {experiment.metric} so far (line) and each trial's own (dots). "
        f"Right: {experiment.metric} by epoch of {drawn} trials."
    )
    return finish(figure, f"{experiment.name}-search", caption)


def _best_so_far(axis: Axes, experiment: ExperimentRow) -> None:
    for pruned, colour, marker, label in ((False, GREY, "o", "ended"), (True, ORANGE, "v", "pruned")):
        chosen = [(t.number, value) for t, value in experiment.valued if (t.end_reason is EndReason.PRUNED) is pruned]
        if chosen:
            axis.plot([n for n, _ in chosen], [v for _, v in chosen], marker, ms=4, color=colour, label=label)
    curve = best_so_far(experiment)
    if curve:
        steps = [*curve, (max(t.number for t in experiment.trials if not t.final), curve[-1][1])]
        axis.step([n for n, _ in steps], [v for _, v in steps], where="post", color=BLUE, lw=1.8, label="best so far")
    ended = [trial for trial in experiment.trials if trial.end_reason is not None and not trial.final]
    failed = [trial.number for trial in ended if trial.end_reason not in SUCCEEDED]
    for place, number in enumerate(failed):
        axis.axvline(number, color=RED, lw=0.8, alpha=0.6, label="no value" if place == 0 else None)
    limits = robust_limits([value for _, value in experiment.valued], minimised=experiment.minimised)
    if limits:
        axis.set_ylim(limits)
    axis.set(xlabel="trial", ylabel=experiment.metric, title="Search")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if curve or failed:
        axis.legend(fontsize=8)


def _learning_curves(axis: Axes, experiment: ExperimentRow) -> int:
    curved = [t for t in experiment.trials if any(value is not None for _, value in t.results)]
    drawn = curved[-MAX_CURVES:]
    if experiment.best is not None and experiment.best not in drawn:
        drawn = [experiment.best, *drawn]
    for trial in drawn:
        best = trial is experiment.best
        points = [(step, value) for step, value in trial.results if value is not None]
        axis.plot(
            [step for step, _ in points], [value for _, value in points],
            color=BLUE if best else _curve_colour(trial), lw=2.2 if best else 0.9, alpha=1.0 if best else 0.65,
            marker="." if len(points) == 1 else None, zorder=3 if best else 2,
            label=f"best, trial {trial.number}" if best else None,
        )  # fmt: skip
    limits = robust_limits([v for t in drawn for _, v in t.results if v is not None], minimised=experiment.minimised)
    if limits:
        axis.set_ylim(limits)
    axis.set(xlabel="epoch", ylabel=experiment.metric, title="Learning curves")
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    if experiment.best is not None:
        axis.legend(fontsize=8)
    return len(drawn)


def _curve_colour(trial: TrialRow) -> str:
    if trial.end_reason is None:
        return GREEN
    if trial.end_reason is EndReason.PRUNED:
        return ORANGE
    return GREY if trial.end_reason in (*SUCCEEDED, EndReason.SET_ASIDE) else RED


def parameters(experiment: ExperimentRow) -> Drawing | None:
    """Draw the value against each sampled parameter; None if fewer than two trials have a value."""
    trials = experiment.valued
    names = [name for name in experiment.spec["space"] if any(name in trial.params for trial, _ in trials)][:MAX_PARAMS]
    if len(trials) < 2 or not names:
        return None
    columns = min(4, len(names))
    rows = -(-len(names) // columns)
    figure, axes = new_figure(columns, rows, height=0.3 + 2.0 * rows)
    limits = robust_limits([value for _, value in trials], minimised=experiment.minimised)
    for axis, name in zip(axes, names, strict=False):
        _one_parameter(axis, name, experiment.spec["space"][name], trials, experiment.best)
        if limits:
            axis.set_ylim(limits)
        axis.set_xlabel(name)
    for place, axis in enumerate(axes):
        axis.set_visible(place < len(names))
        if place % columns == 0:
            axis.set_ylabel(experiment.metric)
        else:
            axis.tick_params(labelleft=False)
    caption = f"{experiment.name}. {experiment.metric} of each trial against each parameter; the diamond is the best."
    return finish(figure, f"{experiment.name}-parameters", caption)


def _one_parameter(
    axis: Axes, name: str, dimension: Mapping[str, Any], trials: Sequence[tuple[TrialRow, float]], best: TrialRow | None
) -> None:
    shown = [(trial, value) for trial, value in trials if name in trial.params]
    if dimension["type"] == "categorical":
        choices = dimension["choices"][:MAX_CATEGORIES]
        shown = [(trial, value) for trial, value in shown if trial.params[name] in choices]
        places: list[Any] = [choices.index(trial.params[name]) for trial, _ in shown]
        axis.set_xticks(range(len(choices)), [short_value(choice) for choice in choices])
        axis.set_xlim(-0.5, len(choices) - 0.5)
    else:
        places = [trial.params[name] for trial, _ in shown]
        if dimension.get("log"):
            axis.set_xscale("log")
        elif dimension["type"] == "int":
            axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    axis.plot(places, [value for _, value in shown], "o", ms=4, color=GREY, mec="none", alpha=0.8)
    if dimension.get("log"):
        log_ticks(axis.xaxis, short_value)
    for place, (trial, value) in zip(places, shown, strict=True):
        if trial is best:
            axis.plot([place], [value], "D", ms=6, color=BLUE, mec=INK, mew=0.5)
