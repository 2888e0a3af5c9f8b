"""Holds back the start of a service manager that starts again and again for nothing (crash_loop); never a person's."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os

from supervisor.clock import Clock
from supervisor.daemon.upkeep import crash_loop
from supervisor.daemon.upkeep.sd_notify import ServiceNotify
from supervisor.errors import NOT_WORTH_A_RETRY, CrashLoop
from supervisor.store.run_writer import RunWriter

MAX_EVENTS = 100
"""More than a chain of starts can have between two of them that matter."""


def judge_start(ledger: RunWriter, clock: Clock) -> crash_loop.Verdict:
    """From the run's last events; call it before this start is one of them.

    Raises CrashLoop for a run that was given up before: it has been told, and one more line a minute says no more.
    """
    marks = ", ".join("?" * len(crash_loop.WATCHED))
    rows = ledger.store.rows(
        f"SELECT name, wall, fields FROM event WHERE run = ? AND name IN ({marks}) ORDER BY seq DESC LIMIT ?",  # noqa: S608 - only marks
        ledger.run_id, *crash_loop.WATCHED, MAX_EVENTS,
    )  # fmt: skip
    events = [(row["name"], row["wall"], json.loads(row["fields"]).get("by") == "service") for row in rows]
    verdict = crash_loop.judge(reversed(events), clock.wall_s())
    if verdict.told:
        raise _given_up(verdict)
    return verdict


def _given_up(verdict: crash_loop.Verdict) -> CrashLoop:
    return CrashLoop(f"{verdict.starts} starts in a row came to nothing")


def under_launchd() -> bool:
    """launchd names the agent in its environment, and "0" in that of everything else that a user starts."""
    return os.environ.get("XPC_SERVICE_NAME", "0") != "0"


def status_for_manager(exit_code: int, *, launchd: bool) -> int:
    """launchd knows no exit codes to stop at: it restarts whatever did not succeed, each minute, for ever."""
    return 0 if launchd and exit_code in NOT_WORTH_A_RETRY else exit_code


async def delay_start(
    verdict: crash_loop.Verdict, ledger: RunWriter, notify: ServiceNotify, stop_asked: asyncio.Event
) -> None:
    """Waits as long as the verdict says, or until the run is to stop. Raises CrashLoop."""
    if verdict.given_up:
        ledger.record("daemon.crash_looped", starts=verdict.starts)
        raise _given_up(verdict)
    if verdict.delay_s:
        ledger.record("daemon.delayed", starts=verdict.starts, wait_s=verdict.delay_s)
        # Ready to be asked, which is all that its service manager waits for.
        notify.tell(READY="1", STATUS=f"{verdict.starts} starts came to nothing; waiting")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop_asked.wait(), verdict.delay_s)
