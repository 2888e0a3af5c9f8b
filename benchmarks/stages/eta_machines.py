"""Draw what the simulated runs of eta_runs have and no dry run knows: budgets, real costs, loads, learning curves.

It is drawn from other models than the forecast assumes (domain.eta): costs with a part that does not grow with the
work, experiments and trials with heavy tails, loads that come and go, pruning by the rules themselves over learning
curves, a sampler that keeps to good shapes, pauses in a row or a very long one.
"""

from __future__ import annotations

import bisect
import math
import random
import statistics
from dataclasses import dataclass, field
from typing import Any

from supervisor.domain.answer import TESTED
from supervisor.domain.eta.trial_work import searched_epochs

RANKS = 6
BASES = ("timed here", "timed here", "timed here", "by operations", "rule of thumb", None, None)
"""Five runs of seven have figures of the dry run; the others train a trainable of the user's own."""
WRONG_BY = {"timed here": 0.25, "by operations": 0.4, "rule of thumb": 0.7, None: 1.5}
"""By how much the dry run's figures are wrong for a machine, as a standard deviation of the logarithm."""
PRUNERS: tuple[dict[str, Any], ...] = (
    {"kind": "none"},
    {"kind": "median", "grace_period": 2, "min_samples_required": 3},
    {"kind": "asha", "grace_period": 2, "reduction_factor": 2.0},
)


@dataclass(frozen=True)
class Budget:
    """Holds an experiment: its spec, the dry run's work of an epoch by rank, and the seconds that it really takes."""

    spec: dict[str, Any]
    figures: list[float]
    real: list[float]


@dataclass(frozen=True)
class Machine:
    """Holds the times beside training, and what disturbs the run."""

    begin_s: float
    gap_s: float
    test_s: float
    killed: float
    """The chance that a trial loses an attempt."""
    loads: tuple[tuple[float, float, float], ...]
    """From when to when another program slows the run by a factor, in seconds in which it works; the worst counts."""
    pauses: tuple[tuple[float, float], ...]
    """The begins and lengths of its pauses, as shares of the time in which it works."""

    def slowed(self, at_s: float) -> float:
        """Return the factor by which epochs that begin at `at_s` take longer."""
        return max((factor for begin, end, factor in self.loads if begin <= at_s < end), default=1.0)


def heavy(dice: random.Random, spread: float) -> float:
    """Return a factor around 1 with heavy tails: exp of Student's t with four degrees of freedom, times `spread`."""
    chi = sum(dice.gauss(0.0, 1.0) ** 2 for _ in range(4))
    return math.exp(max(-2.5, min(2.5, spread * dice.gauss(0.0, 1.0) / math.sqrt(chi / 4.0))))


def budgets(dice: random.Random, basis: str | None) -> list[Budget]:
    """Draw the experiments of a run, from the smallest to the largest."""
    count, at_once = dice.choice((1, 2, 3, 4, 6, 9, 12)), dice.choice((1, 2, 2, 3, 4))
    growth = dice.choice((1.0, 3.0, 10.0)) if basis is not None else dice.choice((1.0, 1.0, 1.3))
    trials, epochs, pruner = dice.randint(8, 30), dice.randint(4, 16), dice.choice(PRUNERS)
    finalize = dice.choice((None, {"top": 2, "seeds": 2, "folds": 1}, {"top": 2, "seeds": 2, "folds": 3}))
    small_s, with_hours, fewer = dice.uniform(1.0, 20.0), dice.random() < 0.2, dice.choice((1.0, 1.0, 0.5))
    real = _costs(dice, basis, small_s)
    found = []
    for place in range(count):
        share = place / max(1, count - 1)
        work = small_s * growth ** (3.0 * share)
        own = {
            "name": f"e{place}", "seed": place, "max_epochs": max(3, round(epochs * dice.uniform(0.7, 1.3))),
            "concurrency": 1 if share > 0.7 and dice.random() < 0.3 else at_once,
            "pruner": dict(dice.choice(PRUNERS) if dice.random() < 0.3 else pruner),
            "finalize": finalize, "trainable": "mine:train" if basis is None else TESTED,
        }  # fmt: skip
        searched = max(6, round(trials * fewer**share * dice.uniform(0.6, 1.3)))
        found.append(_budget(dice, own, searched, work, with_hours, real))
    return found


def _budget(
    dice: random.Random, own: dict[str, Any], searched: int, work: float, with_hours: bool, real: Any
) -> Budget:
    finalize = own["finalize"]
    trials = searched + (0 if finalize is None else 4 + 2 * (finalize["folds"] - 1))
    hours = dice.uniform(0.4, 1.5) * trials * own["max_epochs"] * work / own["concurrency"] / 3600
    if own["pruner"]["kind"] == "asha":
        own["pruner"]["max_t"] = own["max_epochs"]
    spec = {
        **own, "mode": "min", "metric": "loss", "enqueue": [], "max_trials": trials,
        "max_hours": hours if with_hours else None,
        "space": {"shape_rank": {"type": "int", "low": 0, "high": RANKS - 1, "step": 1}},
    }  # fmt: skip
    figures = [work * math.exp(0.15 * (rank - RANKS / 2)) for rank in range(RANKS)]
    each = heavy(dice, 0.12)
    return Budget(spec, figures, [real(figure) * each * heavy(dice, 0.1) for figure in figures])


def _costs(dice: random.Random, basis: str | None, small_s: float) -> Any:
    """Return the function from the dry run's work to the real seconds of an epoch, but for each experiment's own part.

    One run in five costs ever more than its figures the larger it is; one in five has a part in each epoch that is
    the same for all sizes.
    """
    level, kind = dice.gauss(0.0, WRONG_BY[basis]), dice.random()
    tilt = dice.uniform(0.05, 0.2) if kind < 0.2 else dice.gauss(0.0, 0.03)
    same_s = dice.uniform(0.3, 3.0) * small_s if kind > 0.8 else 0.0

    def seconds(work: float) -> float:
        return (same_s + work * (work / small_s) ** tilt) * math.exp(level)

    return seconds


def machine(dice: random.Random, planned: list[Budget]) -> Machine:
    """Draw what disturbs a run of these experiments."""
    total_s = sum(
        budget.spec["max_trials"] * searched_epochs(budget.spec["pruner"], budget.spec["max_epochs"])
        * sum(budget.real) / RANKS / budget.spec["concurrency"]
        for budget in planned
    )  # fmt: skip
    loads = []
    for _ in range(dice.choice((0, 0, 1, 1, 2, 3))):
        begin = dice.uniform(-0.2, 1.0) * total_s
        loads.append((begin, begin + dice.uniform(0.03, 0.4) * total_s, dice.choice((1.15, 1.3, 1.3, 1.6, 2.0))))
    return Machine(
        begin_s=dice.uniform(8.0, 40.0), gap_s=dice.uniform(0.3, 2.5), test_s=dice.uniform(5.0, 60.0),
        killed=dice.choice((0.0, 0.0, 0.05, 0.15)), loads=tuple(loads), pauses=_pauses(dice),
    )  # fmt: skip


def _pauses(dice: random.Random) -> tuple[tuple[float, float], ...]:
    """Draw no pause, some by heat, many in a row by heat, or a long one by a person."""
    kind = dice.random()
    if kind < 0.4:
        return ()
    if kind < 0.7:
        return tuple((dice.random(), dice.uniform(0.005, 0.05)) for _ in range(dice.randint(1, 4)))
    if kind < 0.9:
        begin, each = dice.random(), dice.uniform(0.002, 0.02)
        return tuple((begin + 0.02 * place, each * heavy(dice, 0.3)) for place in range(dice.randint(5, 40)))
    return ((dice.random(), dice.uniform(0.05, 0.4)),)


@dataclass
class Curves:
    """Draws the trials of one experiment: their shapes, their learning curves, and which the pruner ends when."""

    dice: random.Random
    spec: dict[str, Any]
    patience: float = field(init=False)
    """The chance that a trial stops by itself before its last epoch."""
    ranks: list[tuple[float, int]] = field(default_factory=list)
    """The values and shapes of the trials of the search."""
    seen: dict[int, list[float]] = field(default_factory=dict)
    """The values of earlier trials at each epoch that the pruner compares, in order, or their means so far."""

    def __post_init__(self) -> None:
        self.patience = self.dice.choice((0.0, 0.1, 0.5))

    def shape(self) -> int:
        """Draw a shape as a sampler does: at random, then more and more like the best one."""
        if len(self.ranks) > 8 and self.dice.random() < 0.6:
            return max(0, min(RANKS - 1, min(self.ranks)[1] + self.dice.choice((-1, 0, 0, 1))))
        return self.dice.randrange(RANKS)

    def trial(self, phase: int, begun: int) -> tuple[int, int, str, float]:
        """Draw one trial behind `begun` ones of its phase; return its rank, its epochs, how it ends, its value.

        The finalisation trains the best ones of the search again, the walk-forward the very best.
        """
        epochs, reason, value = self._epochs(phase)
        if phase == 0:
            rank = self.shape()
            self.ranks.append((value, rank))
        else:
            place = begun // int(self.spec["finalize"]["seeds"]) if phase == 1 else 0
            rank = sorted(self.ranks)[min(place, len(self.ranks) - 1)][1]
        return rank, epochs, reason, value

    def _epochs(self, phase: int) -> tuple[int, str, float]:
        most, level = int(self.spec["max_epochs"]), self.dice.gauss(0.0, 1.0)
        if len(self.ranks) > 10:
            level = min(level, self.dice.gauss(0.0, 1.0))
        plateau = self.dice.uniform(0.3, 1.0) * most if self.dice.random() < self.patience else most
        best, total = math.inf, 0.0
        for step in range(1, most + 1):
            value = level + 3.0 * math.exp(-4.0 * step / most) + self.dice.gauss(0.0, 0.3)
            best, total = min(best, value), total + value
            if phase == 0 and self._is_pruned(step, value, best, total / step) and step < most:
                return step, "pruned", best
            if step >= plateau and step < most:
                return step, "early_stopped", best
        return most, "finished", best

    def _is_pruned(self, step: int, value: float, best: float, mean: float) -> bool:
        """Return whether the experiment's pruner ends a trial, as Ray's does; it learns the trial's value or mean."""
        pruner, others = self.spec["pruner"], self.seen.setdefault(step, [])
        known = list(others)
        bisect.insort(others, mean if pruner["kind"] == "median" else value)
        if pruner["kind"] == "none" or step < pruner["grace_period"]:
            return False
        if pruner["kind"] == "median":
            return len(known) >= pruner["min_samples_required"] and best > statistics.median(known)
        rung = math.log(step / pruner["grace_period"], pruner["reduction_factor"])
        return abs(rung - round(rung)) < 1e-9 and bool(known) and value > _quantile(known, pruner["reduction_factor"])


def _quantile(ordered: list[float], factor: float) -> float:
    """Return the value below which one in `factor` lies, between two neighbours in proportion."""
    place = (len(ordered) - 1) / factor
    low = int(place)
    return ordered[low] + (place - low) * (ordered[min(low + 1, len(ordered) - 1)] - ordered[low])
