"""Runs a Python module as a child process: JSON in, JSON out, within a deadline.

The child lives in its own session. It ends with all processes that it started: after its answer, at the deadline, and
when the waiting task is cancelled. It may be started before its request is known, to import its modules meanwhile; then
the end of its input, at its parent's death, ends it too.
"""

from __future__ import annotations

import asyncio
import json
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.errors import WorkerFailed
from supervisor.processes.guardian import end_group, status_text

MAX_ANSWER_BYTES = 4 * 1024 * 1024
LAST_WORDS_BYTES = 2_000
PIECE_DEPTH = 5
"""So deep a request is encoded piece by piece; of a report's snapshot that is to the single trial."""
_STDERR = 2


def json_pieces(value: object, depth: int = PIECE_DEPTH) -> Iterator[str]:
    """Yield the text of json.dumps in pieces: one call of it holds the interpreter's lock to its end, in any thread.

    Objects with other keys than texts are one piece, since their keys are changed.
    """
    if depth and isinstance(value, dict) and value and all(isinstance(key, str) for key in value):
        for place, (key, item) in enumerate(value.items()):
            yield f"{', ' if place else '{'}{json.dumps(key)}: "
            yield from json_pieces(item, depth - 1)
        yield "}"
    elif depth and isinstance(value, list | tuple) and value:
        for place, item in enumerate(value):
            yield ", " if place else "["
            yield from json_pieces(item, depth - 1)
        yield "]"
    else:
        yield json.dumps(value)


async def _encoded(value: object) -> bytes:
    """Return `value` as JSON, made in a thread: the snapshot of a long run is tens of megabytes."""
    return await asyncio.to_thread(lambda: "".join(json_pieces(value)).encode())


def python_module(name: str, *arguments: str) -> tuple[str, ...]:
    """Return the command that runs a module of this installation."""
    # -P: a file in the working folder must not hide a module.
    return (sys.executable, "-P", "-m", name, *arguments)


@dataclass(frozen=True)
class JsonWorker:
    """Describes a child process: its command, its environment and its limits."""

    command: tuple[str, ...]
    environment: Mapping[str, str]
    deadline_s: float
    max_answer_bytes: int = MAX_ANSWER_BYTES

    async def ask(self, request: object) -> Any:
        """Return the child's answer to `request`. Raises WorkerFailed."""
        return await (await self.start()).ask(request)

    async def run(self, request: object) -> bytes:
        """Return the child's standard output; its exit status must be 0. Raises WorkerFailed."""
        return await (await self.start()).run(request)

    async def start(self) -> WaitingWorker:
        """Start the child before its request: the caller asks it, or ends it. Raises WorkerFailed."""
        talk, loop = _Conversation(self.max_answer_bytes), asyncio.get_running_loop()
        try:
            transport, _ = await loop.subprocess_exec(
                lambda: talk, *self.command, env=dict(self.environment), start_new_session=True
            )
        except OSError as error:
            raise WorkerFailed(f"cannot start: {error}") from error
        return WaitingWorker(self, talk, transport)


class WaitingWorker:
    """A child process that waits for its request. It answers one."""

    def __init__(self, worker: JsonWorker, talk: _Conversation, transport: asyncio.SubprocessTransport) -> None:
        self._worker, self._talk, self._transport = worker, talk, transport

    @property
    def pid(self) -> int:
        return self._transport.get_pid()

    @property
    def lives(self) -> bool:
        """Return whether the child has not ended."""
        return not self._talk.exited.done()

    async def send_ahead(self, value: object) -> None:
        """Send a line of JSON before the request, for a child that works ahead with it."""
        self._talk.send(await _encoded(value) + b"\n")

    async def ask(self, request: object) -> Any:
        """Return the child's answer to `request`. Raises WorkerFailed."""
        output = await self.run(request)
        try:
            return json.loads(output)
        except ValueError as error:
            raise WorkerFailed(f"answered with something other than JSON ({len(output)} bytes)") from error

    async def run(self, request: object) -> bytes:
        """Return the child's standard output; its exit status must be 0. Raises WorkerFailed."""
        talk, worker = self._talk, self._worker
        try:
            talk.send(await _encoded(request), last=True)
            async with asyncio.timeout(worker.deadline_s):
                await talk.closed
        except TimeoutError as error:
            raise WorkerFailed(f"took longer than {worker.deadline_s:g} s") from error
        finally:
            # Also on cancellation: no child may outlive the task that waits for it.
            await self.end()
        if len(talk.output) > worker.max_answer_bytes:
            raise WorkerFailed(f"wrote more than {worker.max_answer_bytes} bytes")
        if status := self._transport.get_returncode():
            last_words = talk.last_words.decode(errors="replace").strip()
            raise WorkerFailed(f"ended with {status_text(status)}", last_words=last_words)
        return bytes(talk.output)

    async def end(self) -> None:
        """End the child and all processes that it started; it may have ended."""
        if self.lives:
            end_group(self._transport.get_pid(), 0.0)
        await self._talk.exited
        self._transport.close()


class _Conversation(asyncio.SubprocessProtocol):
    """Sends the request and collects the output, within its limit."""

    def __init__(self, max_bytes: int) -> None:
        self._max_bytes, self._pid = max_bytes, 0
        self._input: asyncio.WriteTransport | None = None
        self.output, self.last_words = bytearray(), b""
        self.exited: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The child has ended."""
        self.closed: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        """The child has ended, and its whole output was read."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, asyncio.SubprocessTransport)
        self._pid = transport.get_pid()
        pipe = transport.get_pipe_transport(0)
        assert isinstance(pipe, asyncio.WriteTransport)
        self._input = pipe

    def send(self, data: bytes, *, last: bool = False) -> None:
        """Write to the child's input, and close it after the `last` data; a child that has ended gets nothing."""
        if self._input is not None and not self._input.is_closing():
            self._input.write(data)
            if last:
                self._input.close()

    def pipe_data_received(self, fd: int, data: bytes) -> None:
        if fd == _STDERR:
            self.last_words = (self.last_words + data)[-LAST_WORDS_BYTES:]
        elif len(self.output) <= self._max_bytes:
            self.output += data
            if len(self.output) > self._max_bytes:
                end_group(self._pid, 0.0)

    def process_exited(self) -> None:
        # Processes that the child left behind would keep its pipes open.
        end_group(self._pid, 0.0)
        _settle(self.exited)

    def connection_lost(self, exc: Exception | None) -> None:
        _settle(self.closed)


def _settle(future: asyncio.Future[None]) -> None:
    # A task that was cancelled while it waited has cancelled the future.
    if not future.done():
        future.set_result(None)
