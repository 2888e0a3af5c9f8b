"""Chooses how many trials run at once and with how many threads, where a plan leaves it to the machine.

From measured throughput where there is any, else by a rule. Pure. Standard library only.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from supervisor.domain import spec_changes
from supervisor.domain.concurrency_walk import WORTH_IT

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec

SPLIT_FROM_PARAMS = 10_000_000
"""A step of a smaller model is too short to be split among cores: its threads wait for each other."""


@dataclass(frozen=True, order=True)
class Share:
    """Counts the trials at once, and the threads of each."""

    trials: int
    threads: int

    def __str__(self) -> str:
        return f"{self.trials} x {self.threads}"


@dataclass(frozen=True)
class Choice:
    """A share, the sentence that says why, and the windows a second that each measured share trained.

    At most `most` trials of so many threads have room.
    """

    share: Share
    reason: str
    most: int
    measured: tuple[tuple[Share, float], ...] = ()

    def figures(self) -> list[dict[str, float]]:
        """Return the measured shares as JSON values."""
        return [
            {"trials": share.trials, "threads": share.threads, "windows_per_s": round(rate, 2)}
            for share, rate in self.measured
        ]


@dataclass(frozen=True)
class Limits:
    """Bounds a share by cores, trials at once, and trials that fit into memory (None: unknown).

    `splits` says that a step is long enough to be split among cores. `trials` and `threads` are the plan's own numbers;
    None where it says auto.
    """

    cores: int
    most_trials: int
    fit: int | None
    splits: bool = False
    trials: int | None = None
    threads: int | None = None

    def most_at(self, threads: int) -> int:
        """Return how many trials of so many threads can run at once; one always can."""
        most = min(self.cores // threads, self.most_trials, self.fit if self.fit is not None else self.cores)
        return max(1, most if self.trials is None else min(most, self.trials))


def by_rule(limits: Limits) -> Share:
    """Return one-core trials, as many as there is room for; cores that are left over are shared if steps are long."""
    if limits.threads is not None:
        return Share(limits.most_at(limits.threads), limits.threads)
    trials = limits.most_at(1)
    return Share(trials, max(1, limits.cores // trials) if limits.splits else 1)


def candidates(limits: Limits) -> list[Share]:
    """Return the shares worth a measurement: threads of 1, 2, 4 ..., each with all trials that have room, and half.

    The one of the rule comes first, then those that use the most cores.
    """
    threads = [limits.threads] if limits.threads is not None else _doubling(limits.cores)
    found = {by_rule(limits)}
    for each in threads:
        most = limits.most_at(each)
        found |= {Share(most, each), Share(most if limits.trials is not None else max(1, most // 2), each)}
    rest = sorted(found - {by_rule(limits)}, key=lambda share: (-share.trials * share.threads, share.threads))
    return [by_rule(limits), *rest]


def _doubling(most: int) -> list[int]:
    return [1 << power for power in range(most.bit_length()) if 1 << power <= most]


def choose(limits: Limits, measured: Sequence[tuple[Share, float]], why_not: str = "it was not measured") -> Choice:
    """Choose the share with the highest throughput; of those within WORTH_IT of it the one with the fewest trials.

    `measured` are windows a second. Without any, the rule decides, and `why_not` says why.
    """
    if not measured:
        share = by_rule(limits)
        return Choice(share, f"{share} of {limits.cores} cores by rule: {why_not}", limits.most_at(share.threads))
    best = max(rate for _, rate in measured)
    share, rate = min(
        (one for one in measured if one[1] * WORTH_IT >= best), key=lambda one: (one[0].trials, -one[1], one[0])
    )
    others = [f"{other}: {found:.3g}" for other, found in measured if other != share]
    compared = f", {', '.join(others)}" if others else ""
    reason = f"{share}: {rate:.3g} windows/s{compared}"
    return Choice(share, reason, limits.most_at(share.threads), tuple(measured))


def limits_of(spec: ExperimentSpec, cores: int, trial_bytes: int | None, memory_bytes: int, gpus: int = 1) -> Limits:
    """Return the limits of an experiment's share; `trial_bytes` is what its largest trial takes, None if unknown.

    At most half of the search runs at once, so that the other half is proposed from results.
    """
    from training.settings import parse_budget

    params = parse_budget(str(spec.config["budget"])) if spec.trainable == "patchtst" else 0
    fit = None if trial_bytes is None else memory_bytes // trial_bytes
    if spec.resources.all_gpu > 0:
        fit = int(gpus / spec.resources.all_gpu)
    return Limits(
        cores=cores,
        most_trials=(spec.phases[0] + 1) // 2,
        fit=fit,
        splits=params >= SPLIT_FROM_PARAMS,
        trials=None if spec.auto_concurrency else spec.concurrency,
        threads=None if spec.resources.auto else max(1, int(spec.resources.all_cpu)),
    )


def with_share(spec: ExperimentSpec, choice: Choice) -> ExperimentSpec:
    """Return `spec` as the store has it once the choice is recorded."""
    kept = {"config": spec.config, "resources": spec.resources.model_dump()}
    share = choice.share
    changed = spec_changes.with_share(kept, share.trials, share.threads, choice.most, choice.reason)
    return spec.model_copy(update={**changed, "resources": type(spec.resources).model_validate(changed["resources"])})
