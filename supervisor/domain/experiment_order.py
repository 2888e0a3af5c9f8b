"""Decides in which order experiments begin: the plan's, unless a person puts one next. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from supervisor.domain.lifecycle import ENDED, ProcessState


@dataclass(frozen=True)
class Waiting:
    """An experiment; `begun` if a driver of it was started, `put_next` is the number of the event that put it next."""

    name: str
    state: ProcessState
    begun: bool
    put_next: int | None = None


def in_order(experiments: Sequence[Waiting]) -> list[str]:
    """Return the experiments that have not ended, the next one first.

    Once a person has put one next: those that have begun, then the one that was put next last.
    """
    left = [each for each in experiments if each.state not in ENDED]
    if any(each.put_next is not None and not each.begun for each in left):
        # Sorting keeps the plan's order of equals.
        left = sorted(left, key=lambda each: (not each.begun, -(each.put_next or 0)))
    return [each.name for each in left]


def why_not_next(each: Waiting, at_work: bool) -> str | None:
    """Return why an experiment cannot be put next; None when it can."""
    if each.state in ENDED:
        return f"it has ended ({each.state})"
    if at_work or each.begun:
        return "it has begun already"
    return None
