"""Whether a trial hangs: its progress and the policy say how long it may be silent. Pure; standard library only.

Times are seconds of CLOCK_MONOTONIC, which stands still while a machine sleeps and knows no summer time.
"""

from __future__ import annotations

import statistics
from dataclasses import dataclass
from enum import IntEnum

from supervisor.governor.policy import Policy

LATE_PERIODS = 5.0
"""A watcher that comes so many of its periods late was stopped itself, and so, likely, was all that it watches."""


class Phase(IntEnum):
    """What a worker is at. Only in the last two is silence a bad sign."""

    IDLE = 0
    """Between two steps, held by the scheduler, or without a trial."""
    WAITING = 1
    """At a closed gate, or in a THROTTLE rest."""
    PREPARING = 2
    """Building, loading or saving: nothing that repeats, so nothing to measure by."""
    WORKING = 3


@dataclass(frozen=True)
class Progress:
    """A worker's own note. `batches_s` are its last batches, `tails_s` what its last steps took after their last batch.

    A step without batches is all tail. `in_batches` says that the trainable waits at its gate before every batch,
    those of validation too; of other code nobody knows what a long silence is.
    """

    phase: Phase
    since_mono_s: float
    in_batches: bool = False
    batches_s: tuple[float, ...] = ()
    tails_s: tuple[float, ...] = ()


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
