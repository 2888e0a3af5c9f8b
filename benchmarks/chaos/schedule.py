"""Decide the order of the faults by the seed alone.

Faults are dealt from a deck with each kind as often as its weight, so each deck has all kinds, in an order that the
seed decides.
"""

from __future__ import annotations

import random
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from enum import StrEnum

MAX_AFTER_S = 1.2
MAX_LASTS_S = 4.0
HASTY = 0.35
"""This share of the faults that may be hasty are hasty."""
MAX_HASTY = 2
"""Faults in a row before work resumes: five drivers in a row without a result end an experiment."""


class Kind(StrEnum):
    """The kinds of faults."""

    WORKER = "kill a worker"
    WORKERS = "kill every worker"
    DRIVER = "kill the driver"
    DAEMON = "kill the daemon"
    TERM_DAEMON = "SIGTERM the daemon"
    RAYLET = "kill the raylet"
    GCS = "kill gcs_server"
    GUARDIAN = "kill the head's guardian"
    WATCHDOG = "kill the watchdog"
    DASHBOARD = "kill the dashboard"
    AGENT = "kill an agent of Ray"
    STORM = "kill workers, driver and raylet"
    STOP_WORKER = "SIGSTOP a worker"
    STOP_DRIVER = "SIGSTOP the driver"
    STOP_DAEMON = "SIGSTOP the daemon"
    DISK = "fill the disk"
    PAUSE = "pause --now, resume"
    HOLD = "pause, resume"
    PAUSE_TRIAL = "pause a trial, resume it"
    STOP_START = "stop, start"


WEIGHTS: dict[Kind, int] = {
    # Ray's head takes 6 s to come back, a worker 2 s: most kills hit processes that restart quickly.
    Kind.WORKER: 16,
    Kind.WORKERS: 14,
    Kind.DRIVER: 10,
    Kind.WATCHDOG: 3,
    Kind.DASHBOARD: 2,
    Kind.AGENT: 2,
    Kind.DAEMON: 3,
    Kind.TERM_DAEMON: 1,
    Kind.RAYLET: 2,
    Kind.GCS: 2,
    Kind.GUARDIAN: 1,
    Kind.STORM: 2,
    Kind.STOP_WORKER: 2,
    Kind.STOP_DRIVER: 1,
    Kind.STOP_DAEMON: 1,
    Kind.DISK: 1,
    Kind.PAUSE: 3,
    Kind.HOLD: 1,
    Kind.PAUSE_TRIAL: 1,
    Kind.STOP_START: 1,
}

KILLED_DURING = (Kind.WORKER, Kind.DRIVER, Kind.DAEMON)
_MAY_BE_HASTY = frozenset({Kind.WORKER, Kind.WORKERS, Kind.DRIVER, Kind.WATCHDOG, Kind.RAYLET, Kind.DASHBOARD})
_SOLO = frozenset({Kind.DISK, Kind.PAUSE, Kind.HOLD, Kind.PAUSE_TRIAL, Kind.STOP_START})


@dataclass(frozen=True)
class Fault:
    """One fault of the schedule, `after_s` after work resumed from the fault before.

    `lasts_s`: how long a process is stopped, the disk is full or a pause holds. `aim` in [0, 1) chooses among several
    processes. After a `hasty` fault the next follows at once, without waiting for work. `during` is killed while a
    pause holds or the disk is full.
    """

    kind: Kind
    after_s: float
    lasts_s: float
    aim: float
    hasty: bool = False
    during: Kind | None = None


def schedule(seed: int, kinds: Collection[Kind] = tuple(Kind)) -> Iterator[Fault]:
    """Yield faults of these kinds endlessly, the same for the same seed. Raises ValueError without a kind."""
    rng = random.Random(seed)
    hasty_in_a_row = 0
    if not kinds:
        raise ValueError("a schedule needs a kind of fault")
    while True:
        deck = [kind for kind, weight in WEIGHTS.items() if kind in kinds for _ in range(weight)]
        rng.shuffle(deck)
        for place, kind in enumerate(deck):
            follower = deck[place + 1] if place + 1 < len(deck) else None
            may = kind in _MAY_BE_HASTY and follower is not None and follower not in _SOLO
            hasty = rng.random() < HASTY and may and hasty_in_a_row < MAX_HASTY
            hasty_in_a_row = hasty_in_a_row + 1 if hasty else 0
            during = rng.choice((None, *KILLED_DURING)) if kind in (Kind.PAUSE, Kind.DISK) else None
            yield Fault(kind, rng.uniform(0.0, MAX_AFTER_S), rng.uniform(1.0, MAX_LASTS_S), rng.random(), hasty, during)
