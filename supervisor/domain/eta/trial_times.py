"""Estimates how long trials take together: running ones to their end, waiting ones one after another. Pure.

Standard library only.
"""

from __future__ import annotations

import heapq
import math
from collections.abc import Sequence

OVERDUE = 0.1
"""The share of its time so far for which something that takes longer than expected is expected to go on."""
HALF = 0.5


def left_of(expected_s: float, since_s: float) -> float:
    """Return the seconds left of something that has worked for `since_s`: never zero, and it moves with each second."""
    if expected_s <= 0.0:
        return OVERDUE * since_s
    done = since_s / expected_s
    # To the half it counts seconds down; then ever slower, since it may take longer than expected.
    ahead = 1.0 - done if done < HALF else HALF * math.exp(-(done - HALF) / HALF)
    return max(expected_s * ahead, OVERDUE * since_s)


def share_left(share: float, done: float) -> float:
    """Return the share of its epochs that a trial has before it, if one in the mean trains `share` of them.

    With a constant hazard of an early end (exponential survival), whose mean over all epochs is `share`.
    """
    ahead = max(0.0, 1.0 - done)
    hazard = _hazard(share)
    return ahead if hazard < 1e-6 else -math.expm1(-hazard * ahead) / hazard


def _hazard(share: float) -> float:
    """Return the hazard h of (1 - exp(-h)) / h = share, by halving."""
    if share >= 0.999:
        return 0.0
    low, high = 0.0, 1.0 / max(share, 1e-3)
    for _ in range(40):
        middle = (low + high) / 2.0
        if -math.expm1(-middle) / middle > share:
            low = middle
        else:
            high = middle
    return (low + high) / 2.0


def together(running: Sequence[float], waiting: int, each_s: float, at_once: int) -> float:
    """Return the seconds until all have ended, `at_once` at a time; waiting trials take `each_s`, running ones theirs.

    Each waiting one takes the slot that is free first (list scheduling); whole rounds are counted at once.
    """
    slots = sorted([*running, *[0.0] * (at_once - len(running))])
    rounds = waiting // at_once
    slots = [slot + rounds * each_s for slot in slots[:at_once]] + slots[at_once:]
    heapq.heapify(slots)
    for _ in range(waiting % at_once):
        heapq.heapreplace(slots, slots[0] + each_s)
    return max(slots, default=0.0)


def searched(
    running: Sequence[float], waiting: int, each_s: float, at_once: int, idle_slots: int, whole_s: float
) -> float:
    """Return the seconds until a search has ended whose trials take `each_s` in the mean, and `whole_s` at most.

    At its end slots idle until the last trial has ended; `idle_slots` of them have nothing else to do.
    """
    evenly_s = (sum(running) + waiting * each_s) / at_once
    if idle_slots == 1:
        return evenly_s
    if each_s >= whole_s:
        return max(evenly_s, together(running, waiting, each_s, at_once))
    if waiting:
        return evenly_s + (1.0 - 1.0 / idle_slots) * HALF * whole_s
    return max(evenly_s, *running) if running else 0.0
