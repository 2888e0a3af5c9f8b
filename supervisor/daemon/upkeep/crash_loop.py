"""Whether a service manager's next start of a run makes sense: pure, from the run's own events.

A daemon that dies again and again before anything got done is delayed, then given up until a person starts it by name.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

CHAIN_GAP_S = 600.0
"""Two starts that lie further apart are not one loop."""
FREE_STARTS = 5
MAX_STARTS = 9
"""systemd's own limit in our unit is ten an hour; this one comes first and says why."""
DELAY_BASE_S, DELAY_CAP_S = 10.0, 300.0
PROGRESS = frozenset({"trial.reported", "trial.finished", "trial.failed", "experiment.finished", "run.finished"})
STARTED, STOPPED, FAILED, LOOPED = "daemon.started", "daemon.stopped", "run.failed", "daemon.crash_looped"
WATCHED = (*sorted(PROGRESS), STARTED, STOPPED, FAILED, LOOPED)


@dataclass(frozen=True)
class Verdict:
    """`delay_s` to wait before this start; `given_up` when it is not to be at all."""

    starts: int
    """Starts in a row that came to nothing."""
    delay_s: float
    given_up: bool
    told: bool = False
    """Given up before this start, so there is nothing new to tell."""


def judge(events: Iterable[tuple[str, float, bool]], now_wall_s: float) -> Verdict:
    """From (name, wall time in seconds, by a service manager) of a run's events in WATCHED, oldest first.

    A start counts that was followed by neither progress nor an end that was asked for. One by a person begins anew.
    """
    starts: list[float] = []
    given_up = failed = False
    for name, wall_s, by_service in events:
        if name in PROGRESS or (name == STARTED and not by_service) or (name == STOPPED and not failed):
            starts, given_up = [], False
        if name == STARTED:
            starts, failed = [*_chain(starts, wall_s), wall_s], False
        failed = failed or name == FAILED
        given_up = given_up or name == LOOPED
    count = len(starts if given_up else _chain(starts, now_wall_s))
    if given_up or count >= MAX_STARTS:
        return Verdict(count, 0.0, given_up=True, told=given_up)
    delay_s = 0.0 if count < FREE_STARTS else min(DELAY_CAP_S, DELAY_BASE_S * 2.0 ** (count - FREE_STARTS))
    return Verdict(count, delay_s, given_up=False)


def _chain(starts: list[float], wall_s: float) -> list[float]:
    """The starts that one at `wall_s` goes on with."""
    return starts if starts and abs(wall_s - starts[-1]) <= CHAIN_GAP_S else []
