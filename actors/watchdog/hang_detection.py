"""Decides whether a trial hangs, by its progress and the policy's bounds of silence. Pure; standard library only.

Times are seconds of CLOCK_MONOTONIC, which stops while a machine sleeps and is never set.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from actors.trial.heartbeat import Phase, Progress
from supervisor.governor.policy import Policy

LATE_PERIODS = 5.0
"""A watcher that is so many periods late was stopped itself, and likely its trials too."""

LONG_FACTOR = 2.0
"""Times the second-longest batch: where each sixteenth one waits for a device that only queued the others, the median
says nothing of it. The longest may be an accident."""


@dataclass(frozen=True)
class Hang:
    """A worker's silence, the allowed silence, and the usual time of its batch or step."""

    silent_s: float
    allowed_s: float
    median_s: float | None


def median_s(progress: Progress) -> float | None:
    """Return the longer of the median batch and the median tail; None before the first."""
    known = [statistics.median(kept) for kept in (progress.batches_s, progress.tails_s) if kept]
    return max(known, default=None)


def allowed_s(progress: Progress, policy: Policy) -> float | None:
    """Return how long this worker may be silent; None: without a bound."""
    if progress.phase in (Phase.IDLE, Phase.WAITING):
        return None
    if progress.phase is Phase.PREPARING:
        return policy.hung_first_s
    median = median_s(progress)
    if progress.in_batches:
        if median is None:
            return policy.hung_first_s
        second_s = max(sorted(progress.batches_s)[:-1], default=0.0)
        return max(policy.hung_min_s, policy.hung_factor * median, LONG_FACTOR * second_s)
    if median is None or not progress.tails_s:
        return policy.hung_first_step_s
    return max(policy.hung_first_s, policy.hung_factor * median)


def hang_of(progress: Progress, policy: Policy, now_mono_s: float, watched_from_mono_s: float) -> Hang | None:
    """Return the worker's hang, if it hangs. Silence before `watched_from_mono_s` (Attention) does not count."""
    allowed = allowed_s(progress, policy)
    if allowed is None or now_mono_s - max(progress.since_mono_s, watched_from_mono_s) <= allowed:
        return None
    return Hang(now_mono_s - progress.since_mono_s, allowed, median_s(progress))


@dataclass(frozen=True)
class Attention:
    """The time since which a watcher has looked without a gap; after a stop or a sleep it begins anew."""

    watched_from_mono_s: float
    looked_mono_s: float

    def looking(self, now_mono_s: float, period_s: float) -> Attention:
        """Return the attention after a look now, if the next comes after `period_s`."""
        if now_mono_s - self.looked_mono_s > LATE_PERIODS * period_s:
            return Attention(now_mono_s, now_mono_s)
        return Attention(self.watched_from_mono_s, now_mono_s)
