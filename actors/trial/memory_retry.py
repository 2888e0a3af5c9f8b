"""Settings for a trial's next attempt after memory ran out or was asked back. Pure.

The trainable offers them (`sweep_smaller`): the built-in one halves its micro-batch. One without such a method is tried
once more with the machine to itself.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from actors.trial.worker_exit import OOM_KILLED

OOM, ASKED_BACK = "oom", "memory"
"""Causes of a lost attempt beside worker_exit's: an allocation failed; the governor asked for its memory."""

ALONE = "alone"
"""Key of the setting that gives an attempt the machine to itself: no other trial runs beside it."""

Memory = Mapping[str, Any]


@dataclass(frozen=True)
class Offer:
    """A trainable's settings with which its next attempt takes less memory; None: nothing is left to try."""

    smaller: Memory | None


@dataclass(frozen=True)
class NextAttempt:
    """`memory` are its settings. `spent` says that nothing smaller is left: it only reports the trial's end."""

    memory: Memory | None
    spent: bool = False


def next_attempt(cause: str, given: Memory | None, offer: Offer | None, *, drill: bool = False) -> NextAttempt:
    """Return the attempt after one with settings `given` that was lost by `cause`.

    `offer` is None if its worker died before it could answer. Only memory that ran out ends a trial; a trial whose
    memory is asked back can always wait instead.
    """
    if cause in (OOM, OOM_KILLED) and offer is not None:
        return NextAttempt(given, spent=True) if offer.smaller is None else NextAttempt(offer.smaller)
    # A trial that comes back alone would wait for all others; better it comes back as it was, when there is room.
    shrinks = offer is not None and offer.smaller is not None and not offer.smaller.get(ALONE)
    if cause == ASKED_BACK and shrinks and not drill:
        assert offer is not None
        return NextAttempt(offer.smaller)
    return NextAttempt(given)


def once_alone(given: Memory | None) -> Memory | None:
    """Return the offer of a trainable that cannot take less memory: one attempt alone, then None."""
    return None if given is not None and given.get(ALONE) else {**(given or {}), ALONE: True}
