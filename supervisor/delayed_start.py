"""Holds back the start of a service manager that starts again and again for nothing (crash_loop); never a person's."""

from __future__ import annotations

import asyncio
import contextlib
import json

from supervisor import crash_loop
from supervisor.clock import Clock
from supervisor.errors import CrashLoop
from supervisor.ledger import Ledger
from supervisor.service_notify import ServiceNotify

MAX_EVENTS = 100
"""More than a chain of starts can have between two of them that matter."""


def judge_start(ledger: Ledger, clock: Clock) -> crash_loop.Verdict:
    """From the run's last events; call it before this start is one of them."""
    marks = ", ".join("?" * len(crash_loop.WATCHED))
    rows = ledger.store.rows(
        f"SELECT name, wall, fields FROM event WHERE run = ? AND name IN ({marks}) ORDER BY seq DESC LIMIT ?",  # noqa: S608 - only marks
        ledger.run_id, *crash_loop.WATCHED, MAX_EVENTS,
    )  # fmt: skip
    events = [(row["name"], row["wall"], json.loads(row["fields"]).get("by") == "service") for row in rows]
    return crash_loop.judge(reversed(events), clock.wall_s())


async def delay_start(
    verdict: crash_loop.Verdict, ledger: Ledger, notify: ServiceNotify, stop_asked: asyncio.Event
) -> None:
    """Waits as long as the verdict says, or until the run is to stop. Raises CrashLoop."""
    if verdict.given_up:
        ledger.tell("daemon.crash_looped", starts=verdict.starts)
        raise CrashLoop(f"{verdict.starts} starts in a row came to nothing")
    if verdict.delay_s:
        ledger.tell("daemon.delayed", starts=verdict.starts, wait_s=verdict.delay_s)
        # Ready to be asked, which is all that its service manager waits for.
        notify.tell(READY="1", STATUS=f"{verdict.starts} starts came to nothing; waiting")
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(stop_asked.wait(), verdict.delay_s)
