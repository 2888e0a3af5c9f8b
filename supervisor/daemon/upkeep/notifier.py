"""Tells people far away what happened, by the addresses in state/notify. The events in the store are the outbox.

What was told is one number in the store, so nothing is lost while a service is down: the next message that gets
through carries the newest of what was missed. Only a daemon that dies between the sending and the writing down tells
twice. The daemon's loop never waits for a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import platform
import sys
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import Clock
from supervisor.daemon.upkeep.notices import NAMES, Notice, compose, notable, retry_in_s
from supervisor.errors import DiskFailed, DiskFull, SweepError
from supervisor.processes.environment import passed_on
from supervisor.processes.guardian import end_group
from supervisor.processes.notice_addresses import read_addresses
from supervisor.store.database import Event, Store
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 5.0
AT_MOST_EVERY_S = 60.0
SEND_WITHIN_S = 30.0
LAST_WORDS_WITHIN_S = 10.0
MAX_OUTSTANDING = 500
"""So many of the newest events are read for a message; it shows fewer, and counts the rest."""
TOLD = "notices.told"
PROXIES = ("http_proxy", "https_proxy", "no_proxy", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY")


@dataclass(frozen=True)
class Outcome:
    """Whether anybody was reached, and what went wrong with the others."""

    reached: bool
    problem: str | None = None


Send = Callable[[list[str], str, str, float], Awaitable[Outcome]]
"""Addresses, title, body, deadline in seconds."""


class Notifier:
    """One home's. `run` never returns; `last_words` says what is left when the daemon ends."""

    def __init__(self, ledger: RunWriter, plan: str, file: Path, clock: Clock, send: Send | None = None) -> None:
        self._ledger, self._plan, self._file, self._clock = ledger, plan, file, clock
        self._store: Store = ledger.store
        self._send = send or send_by_child
        self._told = self._told_so_far()
        # The last words must not overtake a message that is on its way, and tell the same.
        self._sending = asyncio.Lock()
        self._failures = 0
        self._last_problem: str | None = None

    def _told_so_far(self) -> int:
        row = self._store.row("SELECT value FROM meta WHERE key = ?", TOLD)
        told = self._newest() if row is None else int(row["value"])
        # Written down at once: what happens before the first message gets through must outlive this daemon.
        self._store.note(TOLD, str(told))
        return told

    def _newest(self) -> int:
        row = self._store.row("SELECT coalesce(max(seq), 0) AS seq FROM event")
        assert row is not None
        return int(row["seq"])

    async def run(self) -> None:
        """Looks for news every few seconds; at most one message a minute, fewer while they fail."""
        while True:
            tried = await self.tell_news(SEND_WITHIN_S)
            wait_s = LOOK_PERIOD_S
            if tried:
                wait_s = AT_MOST_EVERY_S if self._failures == 0 else retry_in_s(self._failures)
            await self._clock.sleep(wait_s)

    async def last_words(self) -> None:
        """The end of the run is news, too; the next daemon tells what does not get through now."""
        with contextlib.suppress(TimeoutError):
            # A message that is on its way may take longer than is left.
            await asyncio.wait_for(self._sending.acquire(), LAST_WORDS_WITHIN_S)
            try:
                await self._tell_news(LAST_WORDS_WITHIN_S)
            finally:
                self._sending.release()

    async def tell_news(self, within_s: float) -> bool:
        """Whether there was something to tell and somebody to tell it to."""
        async with self._sending:
            return await self._tell_news(within_s)

    async def _tell_news(self, within_s: float) -> bool:
        try:
            addresses = read_addresses(self._file)
        except SweepError as error:
            self._settle(None, Outcome(False, f"{error.message}; {error.remedy}"))
            return True
        if not addresses:
            # Nobody wants to hear; who comes later is not told of the past.
            self._move_to(self._newest())
            return False
        notice = self._news()
        if notice is None:
            # The next look, in seconds, must not go through the same events again.
            self._move_to(self._newest())
            return False
        self._settle(notice, await self._send(addresses, notice.title, notice.body, within_s))
        return True

    def _news(self) -> Notice | None:
        rows = self._store.rows(
            f"SELECT * FROM event WHERE seq > ? AND name IN ({', '.join('?' * len(NAMES))})"  # noqa: S608 - only marks
            " ORDER BY seq DESC LIMIT ?",
            self._told, *NAMES, MAX_OUTSTANDING,
        )  # fmt: skip
        events = [event for row in reversed(rows) if notable(event := Event.of_row(row))]
        return compose(events, self._plan, platform.node() or "this machine") if events else None

    def _settle(self, notice: Notice | None, outcome: Outcome) -> None:
        try:
            if notice is not None and outcome.reached:
                self._failures = 0
                # In the same transaction as the event that says so.
                self._move_to(notice.seq)
                self._ledger.record("notice.sent", count=notice.count, up_to=notice.seq)
            else:
                self._failures += 1
            if outcome.problem not in (None, self._last_problem):
                # Once for each kind of trouble: a service that is down for days must not fill the log.
                wait_s = AT_MOST_EVERY_S if outcome.reached else retry_in_s(self._failures)
                self._ledger.record("notice.failed", error=outcome.problem, retry_in_s=wait_s)
            self._last_problem = outcome.problem
        except (DiskFull, DiskFailed) as error:
            log.warning("a message's fate cannot be written down: %s", error)

    def _move_to(self, seq: int) -> None:
        if seq != self._told:
            self._told = seq
            self._store.note(TOLD, str(seq))


async def send_by_child(addresses: list[str], title: str, body: str, within_s: float) -> Outcome:
    """Sends by a child that is killed after `within_s`."""
    request = json.dumps({"addresses": addresses, "title": title, "body": body}).encode()
    try:
        child = await asyncio.create_subprocess_exec(
            sys.executable, "-P", "-m", "supervisor.processes.notification", stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.DEVNULL, start_new_session=True,
            env=passed_on(PROXIES),
        )  # fmt: skip
    except OSError as error:
        return Outcome(False, f"the sender cannot start: {error}")
    try:
        async with asyncio.timeout(within_s):
            answer, _ = await child.communicate(request)
    except TimeoutError:
        return Outcome(False, f"no service answered within {within_s:g} s")
    finally:
        # Also on cancellation: a child that nobody waits for must not live on.
        if child.returncode is None:
            end_group(child.pid, 0.0)
            await child.wait()
    if child.returncode != 0:
        return Outcome(False, f"the sender ended with {child.returncode}")
    try:
        failures: dict[str, str] = dict(json.loads(answer))
    except (ValueError, TypeError):
        # What a service's plug-in prints stands before it, and may quote the address: it is not shown.
        return Outcome(False, "the sender's answer makes no sense")
    problem = "; ".join(f"{address}: {why}" for address, why in failures.items())
    return Outcome(len(failures) < len(addresses), problem or None)
