"""What a trial's next attempt is given when its memory ran out, or was asked back. Pure.

What is given is the trainable's own (`sweep_smaller`): the built-in one halves its micro-batch. One that has no such
means is tried once more with the machine to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.trial.worker_exit import OOM_KILLED

OOM, ASKED_BACK = "oom", "memory"
"""Causes of a lost attempt beside the kernel's: an allocation failed; the governor wants its memory, before worse."""

ALONE = "alone"
"""The key under which an attempt is given the machine to itself: nothing runs beside it."""

Memory = Mapping[str, Any]


@dataclass(frozen=True)
class Offer:
    """What a trainable says that its next attempt could be given to take less memory; None: nothing is left to try."""

    smaller: Memory | None


@dataclass(frozen=True)
class NextAttempt:
    """`memory` is what it is given. `spent` says that there is nothing smaller: it can only tell the trial's end."""

    memory: Memory | None
    spent: bool = False


def next_attempt(cause: str, given: Memory | None, offer: Offer | None, *, drill: bool = False) -> NextAttempt:
    """After an attempt that had `given` and was lost by `cause`; `offer` None: its worker never got to say.

    Only memory that ran out ends a trial. What is merely asked back is given back by standing still, at the worst.
    """
    if cause in (OOM, OOM_KILLED) and offer is not None:
        return NextAttempt(given, spent=True) if offer.smaller is None else NextAttempt(offer.smaller)
    # What only comes back alone would wait for all others: it had better come back as it was, when there is room.
    shrinks = offer is not None and offer.smaller is not None and not offer.smaller.get(ALONE)
    if cause == ASKED_BACK and shrinks and not drill:
        assert offer is not None
        return NextAttempt(offer.smaller)
    return NextAttempt(given)


def once_alone(given: Memory | None) -> Memory | None:
    """The offer of a trainable that cannot take less: once more, alone; then nothing."""
    return None if given is not None and given.get(ALONE) else {**(given or {}), ALONE: True}
