"""Judge how soon contenders reach a loss: times, censored ones too, their medians, ratios and paired differences.

Pure. A contender that never reaches the loss is censored: all that is known of its time is that it is longer than its
whole search. Medians of such times are those of the Kaplan-Meier estimate.
"""

from __future__ import annotations

import math
import random
import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from fractions import Fraction
from typing import Any

from scipy.stats import t as student

HALF = Fraction(1, 2)
DRAWS = 2_000
LEVEL = 0.95


@dataclass(frozen=True)
class Report:
    """One epoch's end: seconds since the command, the trial's number, the epoch from 1, its validation loss.

    `train_s` are the seconds of its training and validation, by the training room's own clock.
    """

    at_s: float
    trial: int
    epoch: int
    loss: float
    train_s: float


@dataclass(frozen=True)
class Measured:
    """One search of one contender.

    `search_s` is when its last trial ended, `whole_s` when its command, or run, was over: both in seconds since the
    command. `cut` says that it was ended because it took too long. `stages` are the seconds of its parts, where known.
    """

    seed: int
    contender: str
    reports: tuple[Report, ...]
    search_s: float
    whole_s: float
    cut: bool = False
    stages: dict[str, float] = field(default_factory=dict)

    @property
    def best(self) -> float | None:
        """Return the least validation loss of all epochs; None without any."""
        return min((report.loss for report in self.reports), default=None)

    @property
    def train_s(self) -> float:
        """Return the seconds of training of all epochs together; of two trials at once both count."""
        return sum(report.train_s for report in self.reports)

    def as_json(self) -> dict[str, Any]:
        rows = [[one.at_s, one.trial, one.epoch, one.loss, one.train_s] for one in self.reports]
        return {**self.__dict__, "reports": rows}

    @classmethod
    def from_json(cls, found: dict[str, Any]) -> Measured:
        return cls(**{**found, "reports": tuple(Report(*row) for row in found["reports"])})


@dataclass(frozen=True)
class Time:
    """The seconds until a loss was reached; where it was not, the seconds after which the search was over."""

    seconds: float
    reached: bool


def time_to(measured: Measured, loss: float) -> Time:
    """Return when the contender first had a validation loss of at most `loss`."""
    first = min((report.at_s for report in measured.reports if report.loss <= loss), default=None)
    return Time(measured.search_s, reached=False) if first is None else Time(first, reached=True)


def median(times: Sequence[Time]) -> float | None:
    """Return the median by Kaplan and Meier (1958); None if fewer than half are known to have reached the loss.

    Where half is left over an interval, it is the middle of that interval; so without censoring it is the usual median.
    """
    left = Fraction(1)
    ends = sorted({time.seconds for time in times if time.reached})
    for place, at_s in enumerate(ends):
        at_risk = sum(time.seconds >= at_s for time in times)
        left *= 1 - Fraction(sum(time.reached and time.seconds == at_s for time in times), at_risk)
        if left == HALF and place + 1 < len(ends):
            return (at_s + ends[place + 1]) / 2
        if left <= HALF:
            return at_s
    return None


def ratio(slow: float | None, fast: float | None) -> float | None:
    """Return slow / fast of two medians, infinite or 0 where one was not reached; None where neither was."""
    if slow is None:
        return None if fast is None else math.inf
    return 0.0 if fast is None else slow / fast


@dataclass(frozen=True)
class Interval:
    """Holds an estimate with its 95 % interval."""

    value: float
    low: float
    high: float


def ratio_interval(slow: Sequence[Time], fast: Sequence[Time]) -> Interval | None:
    """Return the ratio of medians with its percentile bootstrap interval over seeds, drawn in pairs.

    `slow[i]` and `fast[i]` are of the same seed. None with fewer than two seeds, or where a ratio is not known.
    """
    value = ratio(median(slow), median(fast))
    if value is None or len(slow) < 2:
        return None
    dice, found = random.Random(0), []
    for _ in range(DRAWS):
        seeds = dice.choices(range(len(slow)), k=len(slow))
        drawn = ratio(median([slow[seed] for seed in seeds]), median([fast[seed] for seed in seeds]))
        if drawn is None:
            return None
        found.append(drawn)
    found.sort()
    outside = round(DRAWS * (1 - LEVEL) / 2)
    return Interval(value, found[outside], found[-outside - 1])


def paired(ours: Sequence[float], theirs: Sequence[float]) -> Interval | None:
    """Return the mean of ours less theirs with its paired t interval; None with fewer than two pairs."""
    differences = [one - other for one, other in zip(ours, theirs, strict=True)]
    if len(differences) < 2:
        return None
    mean, count = statistics.fmean(differences), len(differences)
    half = float(student.ppf((1 + LEVEL) / 2, count - 1)) * statistics.stdev(differences) / math.sqrt(count)
    return Interval(mean, mean - half, mean + half)


def of_complete_seeds(found: Sequence[Measured], contenders: Sequence[str]) -> dict[str, list[Measured]]:
    """Return each contender's searches by seed, of the seeds that all contenders have."""
    by_place = {(one.seed, one.contender): one for one in found}
    seeds = sorted({one.seed for one in found})
    whole = [seed for seed in seeds if all((seed, name) in by_place for name in contenders)]
    return {name: [by_place[seed, name] for seed in whole] for name in contenders}


def targets(reference: Sequence[Measured], within: float) -> list[float]:
    """Return for each seed the loss to reach: the reference's best, plus the share `within` of it.

    Raises ValueError if one of them has no epoch.
    """
    losses = []
    for one in reference:
        if one.best is None:
            raise ValueError(f"seed {one.seed}: expected an epoch of {one.contender}, found none; measure it again")
        losses.append(one.best * (1 + within))
    return losses


def median_of(found: Sequence[Measured], value: Callable[[Measured], float]) -> float:
    """Return the median of a value over searches."""
    return statistics.median(value(one) for one in found)
