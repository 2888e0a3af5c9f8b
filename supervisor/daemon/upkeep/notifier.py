"""Sends messages about a run's events to the addresses in state/notify. The events in the store are the outbox.

The store holds the number of the last event that was sent, so nothing is lost while a service is down: the next message
that gets through carries the newest of the missed events. Only a daemon that dies between sending and storing that
number sends twice. The daemon's loop never waits for a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import Clock
from supervisor.domain.command import Action
from supervisor.errors import DiskFailed, DiskFull, SweepError
from supervisor.processes.notification import SEND_WITHIN_S, Outcome, read_addresses, send_message
from supervisor.store import lookups
from supervisor.store.event import Event
from supervisor.store.event_catalog import EVENTS, describe
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 5.0
AT_MOST_EVERY_S = 60.0
LAST_MESSAGE_WITHIN_S = 10.0
RETRY_BASE_S, RETRY_CAP_S = 30.0, 3600.0
MAX_OUTSTANDING = 500
"""So many of the newest events are read for a message; it shows fewer, and counts the rest."""
MAX_LINES = 20
MAX_CHARACTERS = 300
"""The limit of one line."""
SENT_UP_TO = "notices.sent_up_to"
"""The key in the store of the last event that was sent or passed over."""

GOOD_NEWS = frozenset({"run.finished", "experiment.finished", "experiment.skipped", "disk.freed", "daemon.recovered"})
"""Worth a message though nothing is wrong. Beside these: every error, and a governor that stops work."""
NAMES = tuple(sorted({name for name, kind in EVENTS.items() if kind.level == "error"} | GOOD_NEWS | {"action.changed"}))
"""The events that the store looks for; `notable` decides about each."""

Send = Callable[[list[str], str, str, float], Awaitable[Outcome]]
"""Takes addresses, title, body and the deadline in seconds."""


@dataclass(frozen=True)
class Notice:
    """Holds one message about `count` events; the last of them is `seq`."""

    title: str
    body: str
    seq: int
    count: int


def notable(event: Event) -> bool:
    """Return whether an event is worth a message. A drill concerns only the person who started it."""
    if event.name not in NAMES or event.fields.get("drill"):
        return False
    if event.name == "action.changed":
        return event.fields["action"] in (Action.PAUSE.name, Action.STOP.name)
    return True


def compose(events: Sequence[Event], plan: str, machine: str) -> Notice:
    """Write one message about `events` (oldest first, at least one); it shows the last MAX_LINES of them."""
    lines = [describe(event.name, {**_place(event), **event.fields})[:MAX_CHARACTERS] for event in events]
    left_out = len(lines) - MAX_LINES
    shown = ([f"(and {left_out} earlier)"] if left_out > 0 else []) + lines[-MAX_LINES:]
    title = f"{plan} on {machine}: {lines[-1]}"[:MAX_CHARACTERS]
    return Notice(title, "\n".join(shown), events[-1].seq, len(lines))


def _place(event: Event) -> dict[str, object]:
    return {"experiment": event.experiment, "trial": event.trial, "attempt": event.attempt}


def retry_in_s(failures: int) -> float:
    """Return the seconds until the next try after `failures` in a row (at least one): doubled, an hour at most."""
    return float(min(RETRY_CAP_S, RETRY_BASE_S * 2.0 ** min(failures - 1, 20)))


class Notifier:
    """Sends the news of one home: `run` forever, `send_last` once when the daemon ends."""

    def __init__(self, writer: RunWriter, plan: str, file: Path, clock: Clock, send: Send = send_message) -> None:
        self._writer, self._plan, self._file, self._clock, self._send = writer, plan, file, clock, send
        self._store = writer.store
        noted = self._store.noted(SENT_UP_TO)
        self._sent_up_to = lookups.last_seq(self._store) if noted is None else int(noted)
        # Stored at once: events before the first message gets through must outlive this daemon.
        self._store.note(SENT_UP_TO, str(self._sent_up_to))
        # The last message must not overtake another one and repeat it.
        self._sending = asyncio.Lock()
        self._failures = 0
        self._last_problem: str | None = None

    async def run(self) -> None:
        """Look for news every few seconds; send at most one message a minute, fewer while they fail."""
        while True:
            tried = await self.send_news(SEND_WITHIN_S)
            wait_s = LOOK_PERIOD_S
            if tried:
                wait_s = AT_MOST_EVERY_S if self._failures == 0 else retry_in_s(self._failures)
            await self._clock.sleep(wait_s)

    async def send_last(self) -> None:
        """Send the news of the run's end; if that fails, the next daemon sends them."""
        with contextlib.suppress(TimeoutError):
            # A message under way may take longer than the time that is left.
            await asyncio.wait_for(self._sending.acquire(), LAST_MESSAGE_WITHIN_S)
            try:
                await self._send_news(LAST_MESSAGE_WITHIN_S)
            finally:
                self._sending.release()

    async def send_news(self, within_s: float) -> bool:
        """Send one message about the news; return whether there was news and an address."""
        async with self._sending:
            return await self._send_news(within_s)

    async def _send_news(self, within_s: float) -> bool:
        try:
            addresses = read_addresses(self._file)
        except SweepError as error:
            self._settle(None, Outcome(False, f"{error.message}; {error.remedy}"))
            return True
        notice = self._news() if addresses else None
        if notice is None:
            # The next look must not read the same events again; an address that is added later gets no old news.
            self._pass_over(lookups.last_seq(self._store))
            return False
        self._settle(notice, await self._send(addresses, notice.title, notice.body, within_s))
        return True

    def _news(self) -> Notice | None:
        news = lookups.newest_events(self._store, NAMES, MAX_OUTSTANDING, after=self._sent_up_to)
        events = [event for event in news if notable(event)]
        return compose(events, self._plan, platform.node() or "this machine") if events else None

    def _settle(self, notice: Notice | None, outcome: Outcome) -> None:
        try:
            if notice is not None and outcome.reached:
                self._failures = 0
                # Stored in the same transaction as the event.
                self._pass_over(notice.seq)
                self._writer.record("notice.sent", count=notice.count, up_to=notice.seq)
            else:
                self._failures += 1
            if outcome.problem not in (None, self._last_problem):
                # Once for each problem: a service that is down for days must not fill the log.
                wait_s = AT_MOST_EVERY_S if outcome.reached else retry_in_s(self._failures)
                self._writer.record("notice.failed", error=outcome.problem, retry_in_s=wait_s)
            self._last_problem = outcome.problem
        except (DiskFull, DiskFailed) as error:
            log.warning("the outcome of a message cannot be recorded: %s", error)

    def _pass_over(self, seq: int) -> None:
        if seq != self._sent_up_to:
            self._sent_up_to = seq
            self._store.note(SENT_UP_TO, str(seq))
