"""Ends crash loops: delays the start of a daemon that a service manager starts again and again, then gives the run up.

Only starts by a service manager are judged, from the run's own events; a start by a person always goes ahead.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from dataclasses import dataclass

from supervisor.clock import Clock
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.errors import NOT_WORTH_A_RETRY, CrashLoop
from supervisor.store import lookups
from supervisor.store.run_writer import RunWriter

CHAIN_GAP_S = 600.0
"""Two starts further apart than this do not belong to one loop."""
FREE_STARTS = 5
MAX_STARTS = 9
"""systemd's own limit in our unit is ten an hour; this one is reached first and says why."""
DELAY_BASE_S, DELAY_CAP_S = 10.0, 300.0
PROGRESS = frozenset({"trial.reported", "trial.finished", "trial.failed", "experiment.finished", "run.finished"})
STARTED, STOPPED, FAILED, LOOPED = "daemon.started", "daemon.stopped", "run.failed", "daemon.crash_looped"
WATCHED = (*sorted(PROGRESS), STARTED, STOPPED, FAILED, LOOPED)
MAX_EVENTS = 100
"""More than a chain of starts can have between two of them that matter."""


@dataclass(frozen=True)
class Verdict:
    """Says how long to wait before this start, or that it must not happen."""

    starts: int
    """Starts in a row without progress."""
    delay_s: float
    given_up: bool
    recorded: bool = False
    """The run was given up before this start, so the event is in the log already."""


def judge(events: Iterable[tuple[str, float, bool]], now_wall_s: float) -> Verdict:
    """Judge the next start by the WATCHED events: (name, wall time in seconds, by a service manager), oldest first.

    A start counts if neither progress nor a requested end followed it. A start by a person resets the count.
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
        return Verdict(count, 0.0, given_up=True, recorded=given_up)
    delay_s = 0.0 if count < FREE_STARTS else min(DELAY_CAP_S, DELAY_BASE_S * 2.0 ** (count - FREE_STARTS))
    return Verdict(count, delay_s, given_up=False)


def _chain(starts: list[float], wall_s: float) -> list[float]:
    """Return `starts` if a start at `wall_s` belongs to their loop, else an empty list."""
    return starts if starts and abs(wall_s - starts[-1]) <= CHAIN_GAP_S else []


def judge_start(writer: RunWriter, clock: Clock) -> Verdict:
    """Judge this start by the run's last events; call it before this start is recorded.

    Raises CrashLoop for a run that was given up before: a further event each minute would say nothing new.
    """
    found = lookups.newest_events(writer.store, WATCHED, MAX_EVENTS, run=writer.run_id)
    events = [(event.name, event.wall_s, event.fields.get("by") == "service") for event in found]
    verdict = judge(events, clock.wall_s())
    if verdict.recorded:
        raise _given_up(verdict)
    return verdict


def _given_up(verdict: Verdict) -> CrashLoop:
    return CrashLoop(f"the daemon crashed {verdict.starts} times in a row; automatic restart is disabled")


async def delay_start(verdict: Verdict, writer: RunWriter, notify: ServiceNotify, stop: StopRequest) -> None:
    """Wait as long as `verdict` says, or until the run is asked to stop. Raises CrashLoop."""
    if verdict.given_up:
        writer.record(LOOPED, starts=verdict.starts)
        raise _given_up(verdict)
    if verdict.delay_s:
        writer.record("daemon.delayed", starts=verdict.starts, wait_s=verdict.delay_s)
        # The API answers, so the service manager may stop waiting.
        notify.send(READY="1", STATUS=f"crashed {verdict.starts} times in a row; waiting")
        await stop.within(verdict.delay_s)


def under_launchd() -> bool:
    """Return whether launchd started this process: it names its agent, "0" in other processes of a user."""
    return os.environ.get("XPC_SERVICE_NAME", "0") != "0"


def status_for_manager(exit_code: int, *, launchd: bool) -> int:
    """Return the exit code for the service manager: launchd restarts each minute unless it is 0."""
    return 0 if launchd and exit_code in NOT_WORTH_A_RETRY else exit_code
