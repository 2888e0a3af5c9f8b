"""Hands messages to all streams of the live page. Each has a bounded queue; one that is too slow is let go."""

from __future__ import annotations

import asyncio
from typing import Any

import orjson

MAX_STREAMS = 16
MAX_WAITING = 32
"""The messages that wait for one browser: at one in two seconds, those of a minute."""
BACK_AFTER_MS = 3000
"""The time after which a browser whose stream has ended comes back."""


def message(name: str, content: Any) -> bytes:
    """Return a server-sent event (HTML standard, section 9.2); its data are JSON on one line.

    A number that JSON does not have, such as an infinite loss, becomes null.
    """
    return b"event: " + name.encode() + b"\ndata: " + orjson.dumps(content) + b"\n\n"


class Stream:
    """Holds the messages that wait for one browser, until `end`."""

    def __init__(self) -> None:
        self._waiting: asyncio.Queue[bytes] = asyncio.Queue(MAX_WAITING)
        self._ended = asyncio.Event()
        self.farewell = ""
        """Why the stream has ended."""

    def end(self, why: str) -> None:
        """End the stream: what still waits in it is dropped."""
        self.farewell = why
        self._ended.set()

    def put(self, piece: bytes) -> bool:
        """Add a message; return False where too many wait already."""
        try:
            self._waiting.put_nowait(piece)
        except asyncio.QueueFull:
            return False
        return True

    async def get(self, within_s: float) -> bytes | None:
        """Return the next message, b"" without one for `within_s`, None once the stream has ended."""
        if self._ended.is_set():
            return None
        getting, ended = asyncio.ensure_future(self._waiting.get()), asyncio.ensure_future(self._ended.wait())
        try:
            await asyncio.wait({getting, ended}, timeout=within_s, return_when=asyncio.FIRST_COMPLETED)
            if getting.done():
                return getting.result()
            return None if self._ended.is_set() else b""
        finally:
            getting.cancel()
            ended.cancel()


class Audience:
    """Knows the open streams; `joined` is set when one was added, so that it need not wait for the next period."""

    def __init__(self) -> None:
        self._streams: set[Stream] = set()
        self._closed = False
        self.joined = asyncio.Event()

    def __len__(self) -> int:
        return len(self._streams)

    def add(self) -> Stream | None:
        """Return a new stream; None where there are MAX_STREAMS already, or the page is closed."""
        if self._closed or len(self._streams) >= MAX_STREAMS:
            return None
        made = Stream()
        self._streams.add(made)
        self.joined.set()
        return made

    def remove(self, stream: Stream) -> None:
        self._streams.discard(stream)

    def publish(self, name: str, content: Any) -> None:
        """Hand a message to every stream; end those that have not taken the last MAX_WAITING."""
        piece = message(name, content)
        for stream in [stream for stream in self._streams if not stream.put(piece)]:
            self.remove(stream)
            stream.end("this page was too slow")

    def close(self) -> None:
        """End every stream, and admit no other."""
        self._closed = True
        for stream in self._streams:
            stream.end("the daemon has ended")
        self._streams.clear()
