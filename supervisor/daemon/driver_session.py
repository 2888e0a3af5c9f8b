"""One driver's life, from its begin to its end: what it says is heard, committed and acknowledged."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

from supervisor import failpoints
from supervisor.daemon.experiment_state import MAX_HOURS_REACHED
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.domain import messages
from supervisor.errors import DiskFailed, DiskFull, StoreLocked
from supervisor.processes import driver_process
from supervisor.processes.driver_process import DriverProcess, DriverSilentError
from supervisor.redaction import redact
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOCKED_POLL_S = 1.0
REFUSALS_IN_A_ROW = 10
"""A trial that is fenced off speaks a few times more before its driver notices; one that speaks on never will."""


@dataclass(frozen=True)
class DriverEnd:
    """How a driver's life ended."""

    ended: bool
    """Whether it ended its experiment, too."""
    error: str | None
    """What it said that went wrong."""
    status: str
    """What made it end, where the process's own status does not say it."""
    out_of_time: bool = False
    """Its experiment's `max_hours` were over."""


def without_secrets(message: messages.Message) -> messages.Message:
    """An error's text is foreign words, and may quote what its program knows."""
    match message:
        case messages.TrialEnded() | messages.AttemptLost() | messages.ExperimentEnded() if message.error is not None:
            return replace(message, error=redact(message.error))
        case _:
            return message


class DriverLife:
    """Of a driver that is spawned. `await live(...)`, then `await reap()`."""

    def __init__(
        self,
        driver: DriverProcess,
        name: str,
        ledger: RunWriter,
        hear: Callable[[messages.Message], bool],
        room: DiskReserve | None,
        stop: StopRequest,
    ) -> None:
        """`hear` keeps a message, or refuses it: False. ValueError, KeyError, TypeError: it makes no sense."""
        self._driver, self._name, self._ledger, self._hear = driver, name, ledger, hear
        self._room, self._stop = room, stop
        self._out_of_time = self._ended = False
        self._error: str | None = None
        self._status = ""
        self._refusals: dict[int, int] = {}

    async def live(self, begin: messages.Begin | None, seconds_left: float | None) -> DriverEnd:
        """Until its pipe closes; it is killed when it is silent, deaf or talks nonsense, or `begin` is None.

        Raises DiskFull and DiskFailed: what it has to say cannot be kept, and it is killed.
        """
        stopper = asyncio.create_task(self._finish_when_asked(seconds_left))
        try:
            # A head that died while the driver was spawned has nobody else to end this driver.
            await (self._driver.kill() if begin is None else self._driver.send(begin))
            await self._converse()
        except DriverSilentError as silence:
            self._status = str(silence)
            self._ledger.record("driver.hung", experiment=self._name, silent_s=float(self._status.split()[0]))
            await self._driver.kill()
        except messages.LinkError as broken:
            self._status = f"broke the link: {broken}"
            await self._driver.kill()
        except (DiskFull, DiskFailed):
            # What it has to say cannot be kept; the next one begins from what was.
            await self._driver.kill()
            raise
        finally:
            stopper.cancel()
        if self._driver.finish_forced:
            what, after_s = f"the driver of {self._name}", driver_process.FINISH_GRACE_S
            self._ledger.record("stop.forced", experiment=self._name, what=what, after_s=after_s)
        return DriverEnd(self._ended, self._error, self._status, self._out_of_time)

    async def _converse(self) -> None:
        async for said, number in self._driver.messages():
            message = without_secrets(said)
            if isinstance(message, messages.ExperimentEnded):
                self._ended, self._error = message.final or message.error is None, message.error
                self._status = "" if self._ended else f"it stumbled: {message.error}"
            await self._listen(message)
            if number is not None:
                failpoints.hit("ack.send")
                await self._driver.send(messages.Ack(number))

    async def reap(self) -> int:
        """Its exit status. Its pipe is closed: it has ended or is about to; its group goes with it."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._driver.exited(), 10.0)
        await self._driver.kill()
        return await self._driver.exited()

    async def _finish_when_asked(self, seconds_left: float | None) -> None:
        """Ends the driver when the run is to stop, or when its experiment's `max_hours` are over."""
        self._out_of_time = not await self._stop.within(seconds_left)
        await self._driver.finish(self._stop.reason or MAX_HOURS_REACHED)

    def _count(self, message: messages.Message, *, believed: bool) -> None:
        """Raises LinkError when a trial was refused REFUSALS_IN_A_ROW times: the two no longer mean the same trials."""
        number: int | None = getattr(message, "number", None)
        if number is None:
            return
        self._refusals[number] = 0 if believed else self._refusals.get(number, 0) + 1
        if self._refusals[number] >= REFUSALS_IN_A_ROW:
            raise messages.LinkError(f"{REFUSALS_IN_A_ROW} messages in a row about trial {number} were refused")

    async def _listen(self, message: messages.Message) -> None:
        """Raises LinkError for what makes no sense: a driver's nonsense ends the driver, not the daemon.

        On a full disk it waits: the message is neither committed nor acknowledged, so it is not lost.
        """
        try:
            while True:
                try:
                    return self._count(message, believed=self._hear(message))
                except StoreLocked as locked:
                    log.warning("%s; waiting", locked.message)
                    if await self._stop.within(LOCKED_POLL_S):
                        raise
                except DiskFull:
                    if self._room is None:
                        raise
                    self._room.give_up()
                    if not await self._room.wait(self._stop):
                        raise
        except (ValueError, KeyError, TypeError) as error:
            log.exception("the driver of %s sent nonsense: %r", self._name, message)
            raise messages.LinkError(f"{type(message).__name__}: {error}") from error
