"""Whether a trial hangs: its progress and the policy say how long it may be silent. Pure; standard library only.

Times are seconds of CLOCK_MONOTONIC, which stands still while a machine sleeps and knows no summer time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass

from actors.trial.heartbeat import Phase, Progress
from supervisor.governor.policy import Policy

LATE_PERIODS = 5.0
"""A watcher that comes so many of its periods late was stopped itself, and so, likely, was all that it watches."""


@dataclass(frozen=True)
class Hang:
    """How long a worker has been silent, how long it might be, and what its batch or step usually takes."""

    silent_s: float
    allowed_s: float
    median_s: float | None


def median_s(progress: Progress) -> float | None:
    """The median batch, or the median tail where that is longer; None before the first."""
    known = [statistics.median(kept) for kept in (progress.batches_s, progress.tails_s) if kept]
    return max(known, default=None)


def allowed_s(progress: Progress, policy: Policy) -> float | None:
    """How long this worker may be silent; None for ever."""
    if progress.phase in (Phase.IDLE, Phase.WAITING):
        return None
    if progress.phase is Phase.PREPARING:
        return policy.hung_first_s
    median = median_s(progress)
    if progress.in_batches:
        return policy.hung_first_s if median is None else max(policy.hung_min_s, policy.hung_factor * median)
    if median is None or not progress.tails_s:
        return policy.hung_first_step_s
    return max(policy.hung_first_s, policy.hung_factor * median)


def hang_of(progress: Progress, policy: Policy, now_mono_s: float, watched_from_mono_s: float) -> Hang | None:
    """The hang, or None. Silence before `watched_from_mono_s` (Attention) does not count."""
    allowed = allowed_s(progress, policy)
    if allowed is None or now_mono_s - max(progress.since_mono_s, watched_from_mono_s) <= allowed:
        return None
    return Hang(now_mono_s - progress.since_mono_s, allowed, median_s(progress))


@dataclass(frozen=True)
class Attention:
    """Since when a watcher has looked without a gap. One that was stopped, or slept, begins anew."""

    watched_from_mono_s: float
    looked_mono_s: float

    def looking(self, now_mono_s: float, period_s: float) -> Attention:
        """As of this look, the next after `period_s`."""
        if now_mono_s - self.looked_mono_s > LATE_PERIODS * period_s:
            return Attention(now_mono_s, now_mono_s)
        return Attention(self.watched_from_mono_s, now_mono_s)
