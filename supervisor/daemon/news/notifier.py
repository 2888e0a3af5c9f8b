"""Sends messages about a run's events to the addresses in state/notify. The events in the store are the outbox.

The store holds for each address the number of the last event that it got, so nothing is lost while a service is down:
the next message that gets through tells what was missed. Only a daemon that dies between sending and storing that
number sends twice. The daemon's loop never waits for a service.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import platform
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from datetime import time
from pathlib import Path
from typing import Any

from supervisor.clock import Clock
from supervisor.daemon.news import digest
from supervisor.daemon.news.mailbox import Cursors, Mailbox, note_of, retry_in_s
from supervisor.daemon.news.notice import Notice, compose
from supervisor.daemon.news.pace import Pace
from supervisor.daemon.news.reader import NewsReader
from supervisor.daemon.news.tally import Item
from supervisor.daemon.news.topics import DIGEST
from supervisor.errors import DiskFull, SweepError
from supervisor.processes.notification import SEND_WITHIN_S, Problem, send_message
from supervisor.processes.notify_file import NotifySettings, label, read_settings
from supervisor.store import lookups
from supervisor.store.event import Event
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOOK_PERIOD_S = 5.0
LAST_MESSAGE_WITHIN_S = 10.0
SENT_UP_TO = "notices.sent_up_to"
"""The key in the store of the last events that were sent or passed over."""
REMEMBERED = 200
"""So many of the newest messages decide the pace of a daemon that starts anew."""

Send = Callable[[Sequence[str], str, str, float], Awaitable[list[Problem]]]
"""Takes addresses, title, body and the deadline in seconds; returns the problem of each address."""


class Notifier:
    """Sends the news of one home: `run` forever, `send_last` once when the daemon ends."""

    def __init__(
        self,
        writer: RunWriter,
        plan: str,
        file: Path,
        clock: Clock,
        view: Callable[[], Mapping[str, Any]],
        send: Send = send_message,
    ) -> None:
        """`view` returns the run as `status` shows it, for the digest."""
        self._writer, self._plan, self._file, self._clock, self._send = writer, plan, file, clock, send
        self._store, self._view = writer.store, view
        noted = self._store.noted(SENT_UP_TO) or self._up_to_of_last_message()
        self._cursors = Cursors(noted, lookups.last_seq(self._store))
        self._reader = NewsReader(self._store, self._cursors.first)
        self._boxes: dict[str, Mailbox] = {}
        # The last message must not overtake another one and repeat it.
        self._sending = asyncio.Lock()
        self._under_way: asyncio.Task[None] | None = None
        self._refused: str | None = None
        self._digest_wall_s: float | None = None
        # Stored at once: events before the first message gets through must outlive this daemon.
        self._store.note(SENT_UP_TO, noted or str(self._reader.up_to))

    def _up_to_of_last_message(self) -> str | None:
        """Return the number in the last message's event: a store that was rebuilt from the logs has no notes."""
        sent = lookups.newest_events(self._store, ["notice.sent"], 1)
        return str(sent[0].fields["up_to"]) if sent else None

    async def run(self) -> None:
        """Look for news every few seconds, for ever. Raises DiskFailed."""
        while True:
            await self.look()
            await self._clock.sleep(LOOK_PERIOD_S)

    async def look(self) -> None:
        """Read the news, and send what is due to each address. Raises DiskFailed.

        A message under way goes on when the caller is cancelled: cut off, it would be sent again.
        """
        self._under_way = asyncio.create_task(self._look_alone())
        await asyncio.shield(self._under_way)

    async def _look_alone(self) -> None:
        async with self._sending:
            await self._look(SEND_WITHIN_S, last=False)

    async def send_last(self) -> None:
        """Send all that waits, now that the daemon ends; if that fails, the next daemon sends it. Raises DiskFailed."""
        if self._under_way is not None and not self._under_way.done():
            # It may take longer than the time that is left.
            await asyncio.wait({self._under_way}, timeout=LAST_MESSAGE_WITHIN_S)
            self._under_way.cancel()
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._sending.acquire(), LAST_MESSAGE_WITHIN_S)
            try:
                await self._look(LAST_MESSAGE_WITHIN_S, last=True)
            finally:
                self._sending.release()

    async def _look(self, within_s: float, *, last: bool) -> None:
        settings = self._settings()
        if settings is None:
            return
        await self._read(settings)
        if settings.digest_at is not None and self._boxes and not last:
            self._put_digest(settings.digest_at)
        wall_s, mono_s = self._clock.wall_s(), self._clock.mono_s()
        due = [box for box in self._boxes.values() if (box.tally if last else box.due(wall_s, mono_s))]
        # At the same time: a service that is slow with one message must not delay the others.
        sending = [self._deliver(boxes, notice, within_s, settings) for boxes, notice in self._notices(due)]
        for failure in await asyncio.gather(*sending, return_exceptions=True):
            if failure is not None:
                raise failure
        self._store.note(SENT_UP_TO, note_of(self._boxes.values(), self._reader.up_to))

    def _settings(self) -> NotifySettings | None:
        """Return what the file asks for; None if it is refused, which is recorded once."""
        try:
            settings = read_settings(self._file)
        except SweepError as error:
            refusal = error.sentence()
            if refusal != self._refused:
                self._record("notice.failed", error=refusal, retry_in_s=LOOK_PERIOD_S)
            self._refused = refusal
            return None
        self._refused = None
        return settings

    async def _read(self, settings: NotifySettings) -> None:
        """Put the newest events into the boxes of the addresses that the file names now."""
        new = [address for address in settings.addresses if address not in self._boxes]
        # Once for all of them: it may look through the whole log.
        sent = lookups.newest_events(self._store, ["notice.sent"], REMEMBERED) if new else []
        boxes = {address: self._boxes.get(address) or self._box(address, sent) for address in settings.addresses}
        first_look, self._boxes = not self._boxes and bool(new), boxes
        if not boxes:
            # An address that is added later gets no old news, and the next look must not read the same events again.
            self._reader.skip()
            self._cursors = Cursors(None, self._reader.up_to)
            return
        if first_look:
            self._reader = NewsReader(self._store, min(box.sent_up_to for box in boxes.values()))
        more = True
        while more:
            items, more = await self._reader.read()
            for box in boxes.values():
                box.put(items, self._reader.up_to)
            await asyncio.sleep(0)
        self._cursors = Cursors(None, self._reader.up_to)

    def _box(self, address: str, sent: Iterable[Event]) -> Mailbox:
        """Return the box of an address; the messages `sent` so far decide its pace."""
        pace, told, sent_up_to = Pace(), set[str](), self._cursors.of(address)
        for event in sent:
            # A later message went to others: this address still waits for its news.
            if event.fields["up_to"] <= sent_up_to:
                topics = tuple(event.fields.get("topics", ()))
                pace.sent(topics, event.wall_s)
                told.update(topics if event.run == self._writer.run_id else ())
        return Mailbox(address, sent_up_to, pace, told)

    def _put_digest(self, at: time) -> None:
        """Put a digest into each box when its time of the day, `at`, has passed."""
        now_s = self._clock.wall_s()
        if self._digest_wall_s is None:
            self._digest_wall_s = self._last_digest_wall_s()
        if not digest.due(at, now_s, self._digest_wall_s):
            return
        self._digest_wall_s = now_s
        with self._store.reading():
            view = self._view()
        words, details = digest.sentence(view, now_s), digest.details(view, now_s)
        for box in self._boxes.values():
            # No event of its own: one that was not sent is written anew by the next daemon.
            box.tally.add(Item(self._reader.up_to, now_s, DIGEST, words, details=details))

    def _last_digest_wall_s(self) -> float:
        """Return when this run's last digest was sent; the run's begin before the first."""
        run_id = self._writer.run_id
        sent = lookups.newest_events(self._store, ["notice.sent"], REMEMBERED, run=run_id)
        digests = [event.wall_s for event in sent if DIGEST.key in event.fields.get("topics", ())]
        return digests[-1] if digests else float(lookups.run(self._store, run_id)["created_wall"])

    def _notices(self, boxes: Iterable[Mailbox]) -> list[tuple[list[Mailbox], Notice]]:
        """Return each different message with the boxes that it is for."""
        where = f"{self._writer.run_id} on {platform.node() or 'this machine'}"
        found: dict[Notice, list[Mailbox]] = {}
        for box in boxes:
            found.setdefault(compose(box.tally, self._plan, where), []).append(box)
        return [(group, notice) for notice, group in found.items()]

    async def _deliver(
        self, boxes: Sequence[Mailbox], notice: Notice, within_s: float, settings: NotifySettings
    ) -> None:
        problems = await self._send([box.address for box in boxes], notice.title, notice.body, within_s)
        self._settle(boxes, problems, settings)

    def _settle(self, boxes: Sequence[Mailbox], problems: Sequence[Problem], settings: NotifySettings) -> None:
        """Take note of what came of one message, and record it."""
        names = {address: label(number, address) for number, address in enumerate(settings.addresses, start=1)}
        wall_s, mono_s, new_problems = self._clock.wall_s(), self._clock.mono_s(), []
        reached = [box for box, problem in zip(boxes, problems, strict=True) if problem is None]
        topics, count = boxes[0].tally.keys, boxes[0].tally.count
        for box, problem in zip(boxes, problems, strict=True):
            if problem is None:
                box.sent(self._reader.up_to, wall_s)
            elif box.failed(problem, mono_s):
                new_problems.append(f"{names[box.address]}: {problem}")
        if reached:
            # Stored in the same transaction as the event.
            self._store.note(SENT_UP_TO, note_of(self._boxes.values(), self._reader.up_to))
            to = [names[box.address] for box in reached]
            self._record("notice.sent", count=count, up_to=self._reader.up_to, topics=topics, to=to)
        if new_problems:
            wait_s = max(retry_in_s(box.failures) for box in boxes if box.failures)
            self._record("notice.failed", error="; ".join(new_problems), retry_in_s=wait_s)

    def _record(self, name: str, **fields: object) -> None:
        try:
            self._writer.record(name, **fields)
        except DiskFull as error:
            log.warning("the outcome of a message cannot be recorded: %s", error)
