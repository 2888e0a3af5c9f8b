"""Says what trials cost: the work of each by the dry run's figures, and the time that the ended ones took.

The work of an epoch is its seconds by the dry run (preflight.work_figures): the training FLOPs of the architecture at
the rate that layers of its width reach. Without an absolute rate they are FLOPs at a nominal one, and an epoch of a
user's own trainable has the work 1. The ETA learns seconds per work, so only ratios must be right. Pure; standard
library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.finalists import finalisation_trials, search_trials

STEPS = "steps of your trainable"
"""The basis of figures of a user's own trainable, and of a trial without known FLOPs: each epoch has the work 1."""
OPERATIONS = "operations only"
"""The basis of figures without an absolute rate: FLOPs, on a machine where nothing was timed."""
NO_FIGURES: Mapping[str, Any] = {"basis": STEPS, "epoch_s": 1.0, "by_rank": {}, "at_once": None}
RANK = "shape_rank"
PHASES = 3
"""Search, finalisation and walk-forward, as finalists.phase numbers them."""
PRIOR_TRIALS = 4
"""The weight of the mean of all shapes against the shapes that the sampler has chosen so far, in trials."""

SHORTEST_EPOCH_S, LONGEST_EPOCH_S = 1e-9, 1e9
"""The bounds of an epoch's length that is believed."""

Spec = Mapping[str, Any]
Figures = Mapping[str, Any]


@dataclass(frozen=True)
class TrialCost:
    """Holds what an ended trial took: `seconds` of training in `epochs`, each of which had so much `work`.

    `start_s` is the time of its slot beside its training; None where a pause or another attempt may be part of it.
    """

    number: int
    epochs: int
    seconds: float
    work: float
    start_s: float | None
    started_wall: float | None
    ended_wall: float | None


def epoch_work(figures: Figures, params: Mapping[str, Any]) -> float:
    """Return the work of an epoch of a trial with these params."""
    return float(figures["by_rank"].get(str(params.get(RANK)), figures["epoch_s"]))


def expected_work(spec: Spec, figures: Figures) -> tuple[float, float]:
    """Return the work of an epoch of a trial that the sampler has not chosen yet, over the shapes that it may try.

    The mean, and the variance as a share of the mean's square.
    """
    dimension = spec.get("space", {}).get(RANK, {})
    if dimension.get("type") == "int":
        ranks: Sequence[Any] = range(dimension["low"], dimension["high"] + 1, dimension.get("step", 1))
    else:
        ranks = dimension.get("choices", ())
    known = [float(figures["by_rank"][str(rank)]) for rank in ranks if str(rank) in figures["by_rank"]]
    if not known:
        return float(figures["epoch_s"]), 0.0
    mean = sum(known) / len(known)
    return mean, sum((work / mean - 1.0) ** 2 for work in known) / len(known)


def searched_epochs(pruner: Mapping[str, Any], max_epochs: int) -> float:
    """Return the epochs that a pruner is expected to leave an average trial of the search.

    By its rungs for successive halving; for a median rule half of those after the warm-up.
    """
    if pruner.get("kind", "none") == "none":
        return max_epochs
    grace = min(pruner["grace_period"], max_epochs)
    if pruner["kind"] == "median":
        return float(grace + (max_epochs - grace) / 2)
    total, share, rung, top = float(grace), 1.0, float(grace), float(pruner["max_t"])
    while rung < top:
        following = min(rung * pruner["reduction_factor"], top)
        share /= pruner["reduction_factor"]
        total, rung = total + share * (following - rung), following
    return total


def unjudged(pruner: Mapping[str, Any]) -> int:
    """Return how many of the first trials of a search its pruner judges none of: there is too little to compare."""
    kind = pruner.get("kind", "none")
    return int(pruner.get("min_samples_required", 1)) if kind == "median" else int(kind == "asha")


def cost_of(
    figures: Figures, trial: Mapping[str, Any], params: Mapping[str, Any], epochs: int, seconds: float
) -> TrialCost:
    """Return the cost of an ended trial from its row, its params and its results."""
    walls = [trial.get(key) for key in ("added_wall", "started_wall", "ended_wall")]
    begun, started, ended = walls
    start_s = None
    if trial["attempt"] == 1 and begun is not None and started is not None and ended is not None:
        start_s = max(0.0, ended - begun - seconds)
    work = epoch_work(figures, params)
    return TrialCost(int(trial["number"]), epochs, seconds, work, start_s, started, ended)


def phase_of(spec: Spec, number: int) -> int:
    """Return the phase of a trial, from 0, by its number."""
    search = search_trials(spec)
    return 0 if number < search else 1 if number < search + finalisation_trials(spec) else 2


def believable(epoch_s: float) -> bool:
    """Return whether an epoch can take so many seconds: a trainable of one's own may report any number."""
    return SHORTEST_EPOCH_S < epoch_s < LONGEST_EPOCH_S


def measured(
    spec: Spec,
    figures: Figures,
    costs: Iterable[TrialCost],
    best: int | None,
    walls: tuple[float | None, float | None],
) -> dict[str, Any]:
    """Return as JSON what the ended trials of an experiment have shown, for the ETA.

    `best` is the number of its best trial; `walls` are the experiment's own start and end. `trials` and `epochs` are
    sums by phase; `squares` is the sum of squared deviations of the trials' log paces from their mean. `unjudged` are
    count and epochs of those trials of the search that no pruner judged, `epoch_squares` is the sum of squared
    deviations of the others' epochs from their mean.
    """
    costs = list(costs)
    timed = [cost for cost in costs if cost.epochs and cost.work > 0.0 and believable(cost.seconds / cost.epochs)]
    logs = [math.log(cost.seconds / (cost.work * cost.epochs)) for cost in timed]
    by_phase = [[cost for cost in costs if phase_of(spec, cost.number) == phase] for phase in range(PHASES)]
    alone = unjudged(spec.get("pruner", {}))
    first = [cost.epochs for cost in by_phase[0] if cost.number < alone]
    expected, spread = expected_work(spec, figures)
    work, final_work = _work_to_come(expected, by_phase, best, search_trials(spec))
    return {
        "basis": figures["basis"],
        "at_once": figures["at_once"],
        "work": work,
        "final_work": final_work,
        "work_variance": spread,
        "trials": [len(phase) for phase in by_phase],
        "epochs": [sum(cost.epochs for cost in phase) for phase in by_phase],
        "unjudged": [len(first), sum(first)],
        "epoch_squares": _squares([float(cost.epochs) for cost in by_phase[0] if cost.number >= alone]),
        "timed": len(timed),
        "seconds": sum(cost.seconds for cost in timed),
        "done_work": sum(cost.work * cost.epochs for cost in timed),
        "squares": _squares(logs),
        # The finalisation's trials are added long before they have a slot.
        "start_s": _median(cost.start_s for cost in by_phase[0]),
        **_edges(costs, *walls),
    }


def _squares(values: Sequence[float]) -> float:
    """Return the sum of squared deviations from the mean."""
    mean = sum(values) / len(values) if values else 0.0
    return sum((value - mean) ** 2 for value in values)


def _work_to_come(
    expected: float, by_phase: Sequence[Sequence[TrialCost]], best: int | None, planned: int
) -> tuple[float, float]:
    """Return the work of an epoch in the search, and after it by the chance that the best trial stays the best.

    Among trials that are alike that is the share of the `planned` ones that has ended.
    """
    searched = [cost.work for cost in by_phase[0]]
    work = (PRIOR_TRIALS * expected + sum(searched)) / (PRIOR_TRIALS + len(searched))
    final = [cost.work for phase in by_phase[1:] for cost in phase]
    if final:
        return work, sum(final) / len(final)
    leading = next((cost.work for cost in by_phase[0] if cost.number == best), work)
    stays = min(1.0, len(searched) / planned) if planned > 0 else 1.0
    return work, stays * leading + (1.0 - stays) * work


def _edges(costs: Sequence[TrialCost], began: float | None, over: float | None) -> dict[str, float | None]:
    """Return the seconds before the first trial, those after the last one (its test), and when that one ended."""
    first = min((cost.started_wall for cost in costs if cost.started_wall is not None), default=None)
    last = max((cost.ended_wall for cost in costs if cost.ended_wall is not None), default=None)
    return {
        "first_s": None if first is None or began is None else max(0.0, first - began),
        "end_s": None if last is None or over is None else max(0.0, over - last),
        "last_wall": last,
    }


def _median(values: Iterable[float | None]) -> float | None:
    known = sorted(value for value in values if value is not None)
    return known[len(known) // 2] if known else None
