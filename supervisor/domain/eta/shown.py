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
from supervisor.domain.eta.trial_times import share_left
from supervisor.domain.eta.trial_work import PHASES, believable, phase_of, searched_epochs, unjudged
from supervisor.domain.finalists import folds_of
from supervisor.domain.lifecycle import ProcessState, TrialState

START_S, BEGIN_S, END_S, TEST_S = 1.0, 15.0, 3.0, 30.0
"""The seconds of a trial beside its training, of an experiment's begin, and of its end without and with a test, until
they are measured."""
TEST_EPOCHS = 0.3
"""The share of an epoch that reading the test days takes: there are fewer of them, and no backward pass."""
SHARE_WEIGHT = 3.0
"""The trials for which the planned share of epochs counts against those that were seen."""
EARLY_KEPT = 0.7
"""The trials that ASHA keeps beyond its share for each e-fold of trials: simulated, of trials that are alike."""
LEAST_SHARE = 1e-3
IMPUTED = 3
"""The rounds in which running trials are given the end that the share says, and the share that they then have."""
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
    """Holds the share of its epochs that a trial trains, by phase; `unjudged` before the pruner can compare.

    `doubt` is the variance of the search's mean share, `spread` that of single trials, both as a part of its square.
    """

    by_phase: tuple[float, ...]
    unjudged: float
    doubt: float
    spread: float

    def of(self, spec: View, number: int) -> float:
        """Return the share of a trial."""
        return (*self.by_phase, self.unjudged)[_group(spec, number)]

    def of_waiting(self, spec: View, begun: int, waiting: int) -> float:
        """Return the mean share of the trials of the search that wait behind `begun` ones."""
        pruner, judged = spec.get("pruner", {}), self.by_phase[0]
        alone = min(waiting, max(0, unjudged(pruner) - begun))
        more = _kept_early(pruner, begun + waiting) - _kept_early(pruner, begun)
        epochs = alone * self.unjudged + (waiting - alone) * judged + more * (self.unjudged - judged)
        return min(1.0, max(LEAST_SHARE, epochs / waiting)) if waiting else judged


def _kept_early(pruner: View, trials: int) -> float:
    """Return how many of the first `trials` ASHA keeps beyond its share: of a rung's k-th result about 1/k."""
    return EARLY_KEPT * math.log(trials) if pruner.get("kind") == "asha" and trials > 1 else 0.0


def shares_shown(experiments: Sequence[View]) -> list[Shares]:
    """Return the shares of each experiment: by its own trials, and by how far all others are from their plans."""
    trained = [_trained(one) for one in experiments]
    ratios = []
    for group in range(PHASES + 1):
        seen = sum(one[group].epochs / one[group].plan for one in trained)
        ratios.append((SHARE_WEIGHT + seen) / (SHARE_WEIGHT + sum(one[group].trials for one in trained)))
    searched = sum(one[0].trials for one in trained)
    return [_shares(one, groups, ratios, searched) for one, groups in zip(experiments, trained, strict=True)]


@dataclass(frozen=True)
class _Trained:
    """Holds the ended trials of a group, the epochs of all together and the planned ones of one, as shares."""

    plan: float
    trials: float
    epochs: float
    running: tuple[float, ...]
    """The shares that the running trials have trained."""

    def share(self, ratio: float) -> float:
        """Return the share of a trial; a running one counts by what it has trained and is expected to train.

        Those that run are the long ones: without them the ended ones would say too little.
        """
        weight, sum_ended = SHARE_WEIGHT + self.trials, SHARE_WEIGHT * self.plan * ratio + self.epochs
        found = min(1.0, sum_ended / weight)
        for _ in range(IMPUTED if self.running else 0):
            whole = sum(done + share_left(found, done) for done in self.running)
            found = min(1.0, (sum_ended + whole) / (weight + len(self.running)))
        return found


def _trained(experiment: View) -> list[_Trained]:
    """Return what the trials of an experiment have trained: by phase, and before the pruner could compare."""
    spec, found = experiment["spec"], experiment["measured"]
    (alone, alone_epochs), most = found["unjudged"], max_epochs(spec)
    trials = [found["trials"][0] - alone, *found["trials"][1:], alone]
    epochs = [found["epochs"][0] - alone_epochs, *found["epochs"][1:], alone_epochs]
    running: list[list[float]] = [[] for _ in trials]
    for trial in experiment["running"]:
        running[_group(spec, int(trial["number"]))].append(min(1.0, trial["epoch"] / most))
    planned = searched_epochs(spec.get("pruner", {}), most) / most
    plans = (planned, *[1.0] * PHASES)
    shares = [count / most for count in epochs]
    shares[0] = max(0.0, shares[0] - _kept_early(spec.get("pruner", {}), found["trials"][0]) * (1.0 - planned))
    return [
        _Trained(plan, float(count), share, tuple(at_work))
        for plan, count, share, at_work in zip(plans, trials, shares, running, strict=True)
    ]


def _group(spec: View, number: int) -> int:
    """Return the phase of a trial, or the number after the last phase for one that no pruner judges."""
    phase = phase_of(spec, number)
    return PHASES if phase == 0 and number < unjudged(spec.get("pruner", {})) else phase


def _shares(experiment: View, groups: Sequence[_Trained], ratios: Sequence[float], searched: float) -> Shares:
    *by_phase, alone = (one.share(ratio) for one, ratio in zip(groups, ratios, strict=True))
    share, judged = max(by_phase[0], LEAST_SHARE), groups[0].trials
    squares = experiment["measured"]["epoch_squares"] / (share * max_epochs(experiment["spec"])) ** 2
    spread = (SHARE_WEIGHT * SHARE_SPREAD * (1.0 - share) / share + squares) / (SHARE_WEIGHT + judged)
    return Shares(tuple(by_phase), alone, spread / (SHARE_WEIGHT + judged + searched / 2.0), spread)


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
