"""Sends a sign of life to a web address every few minutes: when the signs end, that service alarms its user.

A dead machine can say nothing, so its silence must. Off unless state/notify has a line `ping = https://...`.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from pathlib import Path

from supervisor.clock import Clock
from supervisor.errors import DiskFull, SweepError
from supervisor.processes.notify_file import read_settings
from supervisor.processes.ping import Answer, Sign, send_ping
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

PERIOD_S = 300.0
"""The time between two signs; docs/runbook.md names it."""
RETRY_S = 60.0
"""The time after a sign that was not taken."""
SAID_AFTER = 2
"""So many signs in a row must fail before it is an event: one lost packet is none."""

Ping = Callable[[str, Sign], Awaitable[Answer]]


class DeadMan:
    """Sends the signs of one daemon: `run` until `end`."""

    def __init__(self, writer: RunWriter, file: Path, clock: Clock, ping: Ping = send_ping) -> None:
        self._writer, self._file, self._clock, self._ping = writer, file, clock, ping
        self._begun = self._ended = False
        self._failures = 0
        # The sign of the end must come after all others.
        self._sending = asyncio.Lock()

    async def run(self) -> None:
        """Send a sign every PERIOD_S until the end, the sign of a start first. Raises DiskFailed."""
        while True:
            async with self._sending:
                if self._ended:
                    return
                await self._sign()
            await self._clock.sleep(PERIOD_S if self._failures == 0 else RETRY_S)

    async def end(self, *, failed: bool) -> None:
        """Send the last sign: a failure if the run failed, else that all is well. Raises DiskFailed."""
        async with self._sending:
            self._ended = True
            address = self._address()
            if address is None:
                return
            # A service of another kind has no address for failures; its alarm is that no sign follows.
            await self._ping(address, Sign.FAIL if failed else Sign.ALIVE)

    async def _sign(self) -> None:
        address = self._address()
        if address is None:
            self._failures = 0
            return
        answer = await self._ping(address, Sign.ALIVE if self._begun else Sign.START)
        if not self._begun and not answer.reached and answer.status is not None:
            # A service of another kind has no address for starts.
            answer = await self._ping(address, Sign.ALIVE)
        self._begun = self._begun or answer.reached
        self._settle(answer)

    def _address(self) -> str | None:
        try:
            return read_settings(self._file).ping
        except SweepError:
            # The notifier records that the file is refused.
            return None

    def _settle(self, answer: Answer) -> None:
        failures, self._failures = self._failures, 0 if answer.reached else self._failures + 1
        try:
            if self._failures == SAID_AFTER:
                self._writer.record("ping.failed", error=answer.words)
            elif answer.reached and failures >= SAID_AFTER:
                self._writer.record("ping.answered", failures=failures)
        except DiskFull as error:
            log.warning("the outcome of a ping cannot be recorded: %s", error)
