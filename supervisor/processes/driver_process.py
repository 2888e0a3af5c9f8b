"""Starts a driver, exchanges messages with it, and ends it. One driver, one experiment."""

from __future__ import annotations

import asyncio
import contextlib
import io
import os
import select
import signal
import sys
from collections.abc import AsyncIterator, Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from supervisor.domain import codec
from supervisor.domain.messages import Finish, Message
from supervisor.processes.guardian import end_group

SILENCE_LIMIT_S = 60.0
"""A driver sends a message every 2 s; after so long a silence it is hung, and hung counts as dead."""
SILENCE_SLICES = 20
"""Silence is counted in slices, so time in which the daemon itself was suspended counts as one slice at most."""
FINISH_GRACE_S = 40.0
CLOSE_WITHIN_S = 5.0
"""The longest wait for a write in progress after the driver's death, before the pipe is closed all the same."""
DRIVER_COMMAND = (sys.executable, "-P", "-m", "actors.driver")

T = TypeVar("T")


class DriverSilentError(Exception):
    """The driver was silent, or did not read, for longer than the limit."""


class DriverProcess:
    """One driver: `spawn`, iterate over `messages` until its pipe closes, then wait for `exited`."""

    def __init__(
        self,
        environment: dict[str, str],
        log: Path,
        silence_limit_s: float = SILENCE_LIMIT_S,
        command: Sequence[str] = DRIVER_COMMAND,
    ) -> None:
        self._environment, self.log, self._silence_limit_s = environment, log, silence_limit_s
        self._command = command
        self._does_not_read = False
        self.finish_forced = False
        """The driver was killed because it did not finish when asked."""
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.StreamReader | None = None
        self._pipe: io.FileIO | None = None
        self._writing = asyncio.Lock()
        self._waiting = 0
        """The number of messages that wait for room in the pipe, or are being written by a thread."""

    @property
    def pid(self) -> int:
        assert self._process is not None
        return self._process.pid

    @property
    def lives(self) -> bool:
        """Return whether the process was started and has not ended."""
        return self._process is not None and self._process.returncode is None

    async def spawn(self) -> None:
        """Start the process. Raises OSError when that fails."""
        driver_reads, to_driver = os.pipe()
        # A FileIO, not its number: a late write must find it closed, not another file with the same number.
        self._pipe = io.FileIO(to_driver, "wb")
        daemon_reads, driver_writes = os.pipe()
        try:
            with self.log.open("ab") as log:
                self._process = await asyncio.create_subprocess_exec(
                    *self._command, "--read-fd", str(driver_reads), "--write-fd", str(driver_writes),
                    stdin=asyncio.subprocess.DEVNULL, stdout=log, stderr=log,
                    env=self._environment, start_new_session=True, pass_fds=(driver_reads, driver_writes),
                )  # fmt: skip
        except OSError:
            os.close(daemon_reads)
            self._close()
            raise
        finally:
            # The child has its own copies; these would keep the pipes open after its death.
            os.close(driver_reads)
            os.close(driver_writes)
        self._reader = asyncio.StreamReader(limit=codec.MAX_LINE_BYTES + 1)
        protocol = asyncio.StreamReaderProtocol(self._reader)
        await asyncio.get_running_loop().connect_read_pipe(lambda: protocol, os.fdopen(daemon_reads, "rb", 0))

    async def send(self, *messages: Message) -> None:
        """Send messages, none of another caller between them; an ended driver is ignored: `messages` reports its end.

        A driver that does not read for `silence_limit_s` is hung and is killed.
        """
        lines = b"".join(map(codec.encode, messages))
        try:
            if self._pipe is not None and self._has_room(self._pipe, lines):
                _write_all(self._pipe, lines)
            else:
                await self._write_when_there_is_room(lines)
        except (BrokenPipeError, ValueError):  # ValueError: the pipe was closed on this side
            return
        except TimeoutError:
            self._does_not_read = True
            await self.kill()

    def _has_room(self, pipe: io.FileIO, lines: bytes) -> bool:
        """Return whether lines can be written without waiting: no other one waits, and the pipe takes PIPE_BUF bytes.

        So it is with the acknowledgements of a driver that reads: none of them needs a thread.
        """
        if self._waiting or len(lines) > select.PIPE_BUF:
            return False
        look = select.poll()
        look.register(pipe, select.POLLOUT)
        return any(events & select.POLLOUT for _, events in look.poll(0))

    async def _write_when_there_is_room(self, lines: bytes) -> None:
        self._waiting += 1
        try:
            await within(self._silence_limit_s, self._write(lines))
        finally:
            self._waiting -= 1

    async def _write(self, lines: bytes) -> None:
        async with self._writing:
            if self._pipe is not None:
                # In a thread: a `begin` can be larger than the pipe's buffer, and a stopped driver does not read.
                await asyncio.to_thread(_write_all, self._pipe, lines)

    async def messages(self) -> AsyncIterator[tuple[Message, int | None]]:
        """Yield the driver's messages, until it closes its pipe.

        Raises DriverSilentError after `silence_limit_s` without a message or without reading, and codec.LinkError for
        a line that is not a message.
        """
        assert self._reader is not None
        while True:
            try:
                line = await within(self._silence_limit_s, self._reader.readline())
            except TimeoutError as error:
                raise DriverSilentError(f"{self._silence_limit_s:.0f} s without a message") from error
            except ValueError as error:
                raise codec.LinkError(f"a line over {codec.MAX_LINE_BYTES} bytes") from error
            if not line.endswith(b"\n"):
                if self._does_not_read:
                    raise DriverSilentError(f"{self._silence_limit_s:.0f} s without reading")
                return
            yield codec.decode(line)

    async def finish(self, reason: str) -> None:
        """Ask the driver to checkpoint and end; kill it after FINISH_GRACE_S."""
        await self.send(Finish(reason))
        try:
            await asyncio.wait_for(self.exited(), FINISH_GRACE_S)
        except TimeoutError:
            self.finish_forced = True
        await self.kill()

    async def kill(self) -> None:
        """Kill the driver's process group."""
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()
        if self._process is not None:
            await asyncio.to_thread(end_group, self._process.pid, 0.0)
        # A write in progress must not find its pipe closed; it ends by itself, since its reader is dead.
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._writing.acquire(), CLOSE_WITHIN_S)
            self._writing.release()
        self._close()

    async def exited(self) -> int:
        assert self._process is not None
        return await self._process.wait()

    def _close(self) -> None:
        if self._pipe is not None:
            self._pipe.close()
            self._pipe = None


async def within(limit_s: float, work: Coroutine[Any, Any, T]) -> T:
    """Return the result of `work`. Raises TimeoutError after `limit_s` seconds in which this process was awake.

    After a closed lid or SIGSTOP, the driver must get time to speak before it counts as silent.
    """
    task = asyncio.ensure_future(work)
    try:
        for _ in range(SILENCE_SLICES):
            if (await asyncio.wait({task}, timeout=limit_s / SILENCE_SLICES))[0]:
                return task.result()
    finally:
        task.cancel()
    raise TimeoutError(f"{limit_s:g} s")


def _write_all(pipe: io.FileIO, line: bytes) -> None:
    """Write the whole line. Raises BrokenPipeError if the reader has ended, ValueError if the pipe was closed."""
    view = memoryview(line)
    while view:
        view = view[pipe.write(view) :]
