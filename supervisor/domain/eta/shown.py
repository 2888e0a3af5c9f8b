"""Says what the trials of a run have shown so far: their pace, the share of their epochs, the time beside training.

Everything is read from the views of the experiments (store.queries). Pure; standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from supervisor.domain.answer import TESTED
from supervisor.domain.eta.paces import PRIORS, WITHOUT_RATE, Shown
from supervisor.domain.eta.trial_work import PHASES, believable, searched_epochs
from supervisor.domain.finalists import folds_of
from supervisor.domain.lifecycle import ProcessState, TrialState

START_S, BEGIN_S, END_S, TEST_S = 1.0, 15.0, 3.0, 30.0
"""The seconds of a trial beside its training, of an experiment's begin, and of its end without and with a test, until
they are measured."""
TEST_EPOCHS = 0.3
"""The share of an epoch that reading the test days takes: there are fewer of them, and no backward pass."""
SHARE_WEIGHT = 3.0
"""The trials for which the planned share of epochs counts against those that were seen."""
SHARE_SPREAD = 0.5
"""The variance of trials' shares of their epochs, as a part of the most that shares of that mean can have."""

View = Mapping[str, Any]


# Paces


def paces_shown(experiments: Sequence[View]) -> list[Shown]:
    """Return what each experiment has shown of its pace; the newest of those with one has the age 0."""
    found = [_shown(one) for one in experiments]
    newest = max((place for place, one in enumerate(found) if one.log_pace is not None), default=0)
    return [replace(one, age=max(0, newest - place)) for place, one in enumerate(found)]


def _shown(experiment: View) -> Shown:
    found = experiment["measured"]
    seconds, work, trials = float(found["seconds"]), float(found["done_work"]), float(found["timed"])
    for trial in experiment["running"]:
        if trial["epoch"] and trial["work"] > 0.0 and believable(trial["spent_s"] / trial["epoch"]):
            seconds, work = seconds + trial["spent_s"], work + trial["work"] * trial["epoch"]
            # A trial that has just begun says nearly as much as a whole one.
            trials += trial["epoch"] / (1.0 + trial["epoch"])
    log_pace = math.log(seconds / work) if seconds > 0.0 and work > 0.0 else None
    prior = PRIORS.get(found["basis"], WITHOUT_RATE)
    return Shown(math.log(found["work"]), prior, log_pace, trials, float(found["squares"]))


def with_overdue(
    experiments: Sequence[View], shown: Sequence[Shown], expected: Sequence[float], now_wall: float | None
) -> list[Shown]:
    """Return `shown`, where a first epoch that takes longer than `expected` (log paces) counts by its time so far."""
    found = []
    for experiment, one, log_pace in zip(experiments, shown, expected, strict=True):
        waited = [
            math.log(since / trial["work"])
            for trial in experiment["running"]
            if not trial["epoch"] and trial["work"] > 0.0 and (since := since_s(trial, now_wall)) > 0.0
        ]
        longest = max(waited, default=-math.inf)
        overdue = one.log_pace is None and longest > log_pace
        found.append(replace(one, log_pace=longest, trials=1.0) if overdue else one)
    return found


def since_s(trial: View, now_wall: float | None) -> float:
    """Return for how long a trial has worked on its epoch; 0 for a paused one."""
    if now_wall is None or trial["state"] != TrialState.RUNNING or trial["since_wall"] is None:
        return 0.0
    return max(0.0, float(now_wall - trial["since_wall"]))


# Epochs


@dataclass(frozen=True)
class Shares:
    """Holds the share of its epochs that a trial trains, by phase.

    `doubt` is the variance of the search's mean share, `spread` that of single trials, both as a part of its square.
    """

    by_phase: tuple[float, ...]
    doubt: float
    spread: float


def shares_shown(experiments: Sequence[View]) -> list[Shares]:
    """Return the shares of each experiment: by its own trials, and by how far all others are from their plans."""
    plans = [_planned(one["spec"]) for one in experiments]
    counts = [[float(count) for count in one["measured"]["trials"]] for one in experiments]
    epochs = [[count / max_epochs(one["spec"]) for count in one["measured"]["epochs"]] for one in experiments]
    ratios = []
    for phase in range(PHASES):
        by_plan = sum(one[phase] / plan[phase] for one, plan in zip(epochs, plans, strict=True))
        ratios.append((SHARE_WEIGHT + by_plan) / (SHARE_WEIGHT + sum(one[phase] for one in counts)))
    found, searched = [], sum(one[0] for one in counts)
    for plan, count, trained in zip(plans, counts, epochs, strict=True):
        shares = tuple(
            min(1.0, (SHARE_WEIGHT * plan[phase] * ratios[phase] + trained[phase]) / (SHARE_WEIGHT + count[phase]))
            for phase in range(PHASES)
        )
        spread = SHARE_SPREAD * (1.0 - shares[0]) / shares[0]
        found.append(Shares(shares, spread / (SHARE_WEIGHT + count[0] + searched / 2.0), spread))
    return found


def _planned(spec: View) -> tuple[float, float, float]:
    epochs = max_epochs(spec)
    return searched_epochs(spec.get("pruner", {}), epochs) / epochs, 1.0, 1.0


def max_epochs(spec: View) -> int:
    """Return the most epochs of a trial."""
    return int(spec.get("max_epochs") or 1)


# Starts and ends


@dataclass(frozen=True)
class Edges:
    """Holds the seconds of a trial's and an experiment's start, and by how much ends take longer than expected."""

    start_s: float
    begin_s: float
    end_ratio: float


def edges_shown(experiments: Sequence[View]) -> Edges:
    """Return what the experiments have shown of the time beside training."""
    found = [one["measured"] for one in experiments]
    ends = [
        one["measured"]["end_s"] / end_s(one, _epoch_s(one))
        for one in experiments
        if one["measured"]["end_s"] is not None and ProcessState(one["state"]) is ProcessState.EXITED
    ]
    return Edges(
        _middle([one["start_s"] for one in found if one["start_s"] is not None], START_S),
        _middle([one["first_s"] for one in found if one["first_s"] is not None], BEGIN_S),
        _middle(ends, 1.0),
    )


def _middle(values: Sequence[float], prior: float) -> float:
    """Return the (lower) median of the values and `prior`: a pause in one of them must not count."""
    ordered = sorted([prior, *values])
    return ordered[(len(ordered) - 1) // 2]


def _epoch_s(experiment: View) -> float:
    """Return the seconds of an average epoch of the trials that have ended; 0 before the first."""
    found = experiment["measured"]
    return float(found["seconds"] / found["done_work"] * found["work"]) if found["done_work"] else 0.0


def end_s(experiment: View, epoch_s: float) -> float:
    """Return the planned seconds from the last trial's end to the experiment's: its test, where it has one."""
    spec = experiment["spec"]
    finalize = spec.get("finalize")
    if finalize is None or spec.get("trainable") != TESTED:
        return END_S
    return TEST_S + TEST_EPOCHS * int(finalize["seeds"]) * folds_of(spec) * epoch_s
