"""Converses with one driver: handles, commits and acknowledges its messages from begin to end."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from supervisor import failpoints
from supervisor.daemon.experiments.experiment_hours import Countdown
from supervisor.daemon.experiments.experiment_state import MAX_HOURS_REACHED
from supervisor.daemon.stop_request import StopRequest
from supervisor.daemon.upkeep.disk_reserve import DiskReserve
from supervisor.domain import messages
from supervisor.domain.codec import LinkError
from supervisor.domain.trials.begin_parts import in_parts
from supervisor.errors import DiskFailed, DiskFull, StoreLocked, SweepError
from supervisor.formatting import error_sentence
from supervisor.processes import driver_process
from supervisor.processes.driver_process import DriverProcess, DriverSilentError
from supervisor.processes.print_file import last_printed, print_path
from supervisor.redaction import redact
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

LOCKED_POLL_S = 1.0
REFUSALS_IN_A_ROW = 10
"""A trial whose attempt was replaced sends a few more messages before its driver notices; ten are a broken driver."""


@dataclass(frozen=True)
class DriverEnd:
    """Says how a driver ended."""

    ended: bool
    """True if its experiment has ended, too."""
    error: str | None
    """The error that the driver sent."""
    status: str
    """The cause of its end, where the process's exit status does not say it."""
    out_of_time: bool = False
    """True if the `max_hours` of its experiment were over."""
    trial: int | None = None
    """The trial of which it died, where that is known."""
    begins_anew: bool = False
    """True if it was asked to end so that the next one begins with another state."""


def without_secrets(message: messages.Message) -> messages.Message:
    """Return `message` with a redacted error: a library's text may quote secrets."""
    match message:
        case messages.TrialEnded() | messages.AttemptLost() | messages.ExperimentEnded() if message.error is not None:
            return replace(message, error=redact(message.error))
        case _:
            return message


def with_last_lines(message: messages.Message, folder: Path) -> messages.Message:
    """Return `message` with the last lines that its failed attempt printed; `folder` is its experiment's."""
    match message:
        case messages.TrialEnded() | messages.AttemptLost() if message.error is not None:
            printed = last_printed(print_path(folder / str(message.number), message.attempt))
            return replace(message, printed=None if printed is None else redact(printed))
        case _:
            return message


class DriverSession:
    """Serves a driver that is spawned: `await run(...)`, then `await reap()`."""

    def __init__(
        self,
        driver: DriverProcess,
        experiment: str,
        writer: RunWriter,
        handle: Callable[[messages.Message], bool],
        reserve: DiskReserve,
        stop: StopRequest,
    ) -> None:
        """`handle` commits a message and returns False for a refused one.

        It raises ValueError, KeyError or TypeError for a malformed one.
        """
        self._driver, self._experiment, self._writer, self._handle = driver, experiment, writer, handle
        self._reserve, self._stop = reserve, stop
        self._out_of_time = self._ended = False
        self._error: str | None = None
        self._trial: int | None = None
        self._status = ""
        self._refusals: dict[int, int] = {}

    async def run(self, begin: messages.Begin | None, countdown: Countdown) -> DriverEnd:
        """Converse until the driver's pipe closes; it is killed if it is silent, breaks the link, or `begin` is None.

        `countdown` has the hours of its experiment. Raises DiskFull and DiskFailed, and kills the driver, when its
        messages cannot be committed.
        """
        stopper = asyncio.create_task(self._finish_when_asked(countdown))
        try:
            # If meanwhile the head died, or the experiment was left out, nothing else would end this driver.
            await (self._driver.kill() if begin is None else self._driver.send(*in_parts(begin)))
            await self._converse()
        except DriverSilentError as silence:
            self._status = str(silence)
            self._writer.record("driver.hung", experiment=self._experiment, silent_s=float(self._status.split()[0]))
            await self._driver.kill()
        except LinkError as broken:
            self._status = f"broke the link: {broken}"
            await self._driver.kill()
        except (DiskFull, DiskFailed):
            # The next driver begins from the committed messages.
            await self._driver.kill()
            raise
        finally:
            stopper.cancel()
        if self._driver.finish_forced:
            what, after_s = f"the driver of {self._experiment}", driver_process.FINISH_GRACE_S
            self._writer.record("stop.forced", experiment=self._experiment, what=what, after_s=after_s)
        return DriverEnd(self._ended, self._error, self._status, self._out_of_time, self._trial)

    async def reap(self) -> int:
        """Return the exit status of a driver whose pipe is closed; its process group is killed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._driver.exited(), 10.0)
        await self._driver.kill()
        return await self._driver.exited()

    async def _converse(self) -> None:
        async for received, number in self._driver.messages():
            # The driver's log lies in the folder of its experiment.
            message = with_last_lines(without_secrets(received), self._driver.log.parent)
            if isinstance(message, messages.ExperimentEnded):
                self._ended, self._error = message.final or message.error is None, message.error
                self._trial = message.trial
                self._status = "" if self._ended else f"it failed: {error_sentence(message.error or '')}"
            await self._commit(message)
            if number is not None:
                failpoints.hit("ack.send")
                await self._driver.send(messages.Ack(number))

    async def _finish_when_asked(self, countdown: Countdown) -> None:
        """End the driver when the run is asked to stop or `max_hours` are over; until then tell it what is left."""
        while not self._out_of_time and not await self._stop.within(countdown.period_s):
            # A disk that does not answer ends the driver by its own messages; this one comes again.
            with contextlib.suppress(SweepError):
                left_s = countdown.look()
                if left_s is None:
                    continue
                self._out_of_time = left_s <= 0.0
                try:
                    if (news := countdown.news()) is not None:
                        await self._driver.send(news)
                except (ArithmeticError, LookupError, OSError, TypeError, ValueError):
                    # An estimate that cannot be made must not keep a stop, or the end of the hours, from the driver.
                    log.exception("the driver cannot be told what is left of its hours")
        await self._driver.finish(self._stop.reason or MAX_HOURS_REACHED)

    async def _commit(self, message: messages.Message) -> None:
        """Commit `message`; on a full disk or locked store wait, so an acknowledged message is never lost.

        Raises LinkError for a malformed message: it ends the driver, not the daemon.
        """
        try:
            while True:
                try:
                    return self._count(message, accepted=self._handle(message))
                except StoreLocked as locked:
                    log.warning("%s; waiting", locked.message)
                    if await self._stop.within(LOCKED_POLL_S):
                        raise
                except DiskFull:
                    self._reserve.give_up()
                    if not await self._reserve.wait(self._stop):
                        raise
        except (ValueError, KeyError, TypeError) as error:
            log.exception("the driver of %s sent a malformed message: %r", self._experiment, message)
            raise LinkError(f"{type(message).__name__}: {error}") from error

    def _count(self, message: messages.Message, *, accepted: bool) -> None:
        """Raise LinkError after REFUSALS_IN_A_ROW for one trial: driver and daemon disagree about it."""
        number: int | None = getattr(message, "number", None)
        if number is None:
            return
        if accepted:
            self._refusals.pop(number, None)
            return
        self._refusals[number] = self._refusals.get(number, 0) + 1
        if self._refusals[number] >= REFUSALS_IN_A_ROW:
            raise LinkError(f"{REFUSALS_IN_A_ROW} messages in a row about trial {number} were refused")
