"""Writes the lines below an experiment at work: what it does now, its trials, its best. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.domain.lifecycle import FAILED
from supervisor.domain.trials.extension import last_epoch, more_epochs
from supervisor.formatting import counted, duration, eta_range, folded, number, one_line

INDENT = "    "
LEVELS = "▁▂▃▄▅▆▇█"
MAX_RUNNING = 8
"""The running trials that are shown; the others are counted."""


def block(experiment: Mapping[str, Any], columns: int | None, *, sparklines: bool = False) -> list[str]:
    """Return the lines of an experiment at work, folded to `columns`; None folds nothing."""
    trials = _trials(experiment["running"], experiment["spec"], sparklines=sparklines)
    texts = [_counted(experiment), trials, *_best(experiment)]
    return [line for text in texts if text for line in folded(text, columns, INDENT)]


def _counted(experiment: Mapping[str, Any]) -> str:
    """Return what the experiment does now, and its trials by their end."""
    counts, running = experiment["counts"], len(experiment["running"])
    failed = sum(count for reason, count in counts.items() if reason in FAILED)
    pruned, aside = counts.get("pruned", 0), counts.get("set_aside", 0)
    parts = [(experiment["ended"] - failed - pruned - aside, "done"), (running, "running"), (pruned, "pruned")]
    parts += [(failed, "failed"), *([(aside, "set aside")] if aside else [])]
    words = [f"{count} {word}" for count, word in parts]
    return ", ".join([
        f"{experiment.get('doing') or 'waits'}: {', '.join(words)} of {experiment['max_trials']}",
        *eta_range(experiment.get("eta")), *_left(experiment), *_chosen(experiment["spec"]),
    ])  # fmt: skip


def _left(experiment: Mapping[str, Any]) -> list[str]:
    """Return how much of its hours is left, where it has hours and is at work."""
    if experiment.get("left_s") is None:
        return []
    hours = experiment["spec"].get("max_hours")
    of = "" if hours is None else f" of {duration(float(hours) * 3600.0)}"
    return [f"{duration(experiment['left_s'])}{of} left"]


def _chosen(spec: Mapping[str, Any]) -> list[str]:
    """Return the concurrency and the cores of a trial where the machine chose them; a person may have set a number."""
    if not spec.get("chosen"):
        return []
    by_whom = "auto " if spec.get("auto_concurrency", True) else ""
    return [f"{by_whom}{spec['concurrency']} x {spec['resources']['cpu']:g} cores"]


def _trials(running: list[dict[str, Any]], spec: Mapping[str, Any], *, sparklines: bool) -> str:
    shown = [_running(trial, spec, sparklines=sparklines) for trial in running[:MAX_RUNNING]]
    more = [f"and {len(running) - MAX_RUNNING} more"] if len(running) > MAX_RUNNING else []
    return "; ".join([*shown, *more])


def _running(trial: Mapping[str, Any], spec: Mapping[str, Any], *, sparklines: bool) -> str:
    """Return a running trial with its last value and its epoch, and by how many a person has extended it."""
    epochs, more = last_epoch(spec, trial["number"]), more_epochs(spec, trial["number"])
    value = trial.get("last_value")
    line = f"{sparkline(trial['recent'])} " if sparklines and len(trial["recent"]) > 1 else ""
    known = "" if value is None else f"{line}{number(value)} at "
    total = "" if epochs is None else f" of {epochs}"
    total += "" if more is None else f" (+{counted(more, 'epoch')})"
    held = f", paused: {one_line(str(trial['held_for']))}" if trial["state"] == "PAUSED" else ""
    return f"trial {trial['number']}: {known}epoch {trial['epoch']}{total}{held}"


def sparkline(values: Sequence[float]) -> str:
    """Return a character for each value, the lowest the smallest of them: "█▅▂▁"."""
    low, span = min(values), max(values) - min(values)
    top = len(LEVELS) - 1
    return "".join(LEVELS[round((value - low) / span * top) if span > 0.0 else top // 2] for value in values)


def _best(experiment: Mapping[str, Any]) -> list[str]:
    """Return the best value of the search with the prior's, and the final one apart."""
    best, final = experiment["best"], experiment.get("finalized")
    if best is None:
        return []
    prior = "" if best.get("prior") is None else f", the class prior {number(best['prior'])}"
    lines = [f"best of the search {number(best['value'])} (trial {best['trial']}, partly luck){prior}"]
    if final is not None:
        seeds = len(final["seeds"])
        lines.append(f"final {number(final['val_loss'])}, mean of {seeds} fresh seed{'s' * (seeds != 1)}")
    return lines
