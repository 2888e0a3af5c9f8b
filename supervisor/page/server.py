"""Serves the live page of one run on 127.0.0.1: binds its port, feeds its streams, ends both."""

from __future__ import annotations

import asyncio
import logging
import socket
from typing import Any

from aiohttp import web

from supervisor.clock import Clock
from supervisor.errors import SweepError
from supervisor.page.access import Access
from supervisor.page.application import make_application, read_files
from supervisor.page.audience import Audience
from supervisor.page.figures import Figures
from supervisor.page.places import SILENT_FOR_S, Places

log = logging.getLogger("supervisor")

ADDRESS = "127.0.0.1"
BACKLOG = 64
MAX_CONNECTIONS = 96
"""A browser opens six to one host; a page keeps one of them for its stream."""
REFRESH_S = 2.0
REST = 5.0
"""The least time between two refreshes, in times of the last one."""
RETRY_S = 10.0
"""The wait after a read of the store that failed."""
SILENCE_CHECK_S = 5.0
MAX_HEADER_BYTES = 8190
"""Bounds one line: browsers send all cookies of this host, those of other programs too."""


def listen(port: int) -> socket.socket:
    """Return a socket that listens on loopback at `port`; 0 takes any free one. Raises OSError."""
    made = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    try:
        # A port of a connection that has just ended is free; one that another program listens on is not.
        made.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        made.bind((ADDRESS, port))
        made.listen(BACKLOG)
        made.setblocking(False)
    except OSError:
        made.close()
        raise
    return made


class PageServer:
    """Serves until `close`."""

    def __init__(self, access: Access, figures: Figures, clock: Clock, listening: socket.socket) -> None:
        self._access, self._figures, self._clock = access, figures, clock
        self._listening, self._audience = listening, Audience()
        self._runner: web.AppRunner | None = None
        self._tasks: list[asyncio.Task[None]] = []
        self._places = Places(MAX_CONNECTIONS)
        self.port: int = listening.getsockname()[1]

    @property
    def address(self) -> str:
        """The page's address, without its token."""
        return f"http://{ADDRESS}:{self.port}/"

    @property
    def streams(self) -> int:
        """The number of open streams."""
        return len(self._audience)

    @property
    def whole_address(self) -> str:
        return f"{self.address}?token={self._access.token}"

    async def open(self) -> None:
        """Serve the page, and feed its streams."""
        content = await asyncio.to_thread(read_files)
        app = make_application(self._access, self._figures, self._audience, content, self._places.admit)
        self._runner = web.AppRunner(
            app, access_log=None, shutdown_timeout=2.0, lingering_time=2.0, keepalive_timeout=SILENT_FOR_S,
            max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES, auto_decompress=False,
        )  # fmt: skip
        await self._runner.setup()
        self._tasks = [asyncio.create_task(task()) for task in (self._accept, self._feed, self._end_silent)]

    @property
    def connections(self) -> int:
        """The number of open connections."""
        return 0 if self._runner is None or self._runner.server is None else len(self._runner.server.connections)

    async def _accept(self) -> None:
        """Pass each connection to the page's application, MAX_CONNECTIONS at once: aiohttp's own site has no bound."""
        loop = asyncio.get_running_loop()
        assert self._runner is not None
        assert self._runner.server is not None
        while True:
            try:
                connection, _ = await loop.sock_accept(self._listening)
            except OSError as error:
                log.warning("a connection to the live page could not be accepted: %s", error)
                await self._clock.sleep(1.0)
                continue
            self._places.keep(self._runner.server.connections)
            has_place, oldest = self._places.make_room()
            if oldest is not None:
                _end(oldest)
                # An aborted connection leaves in the loop's next turn, before the new one comes.
                await asyncio.sleep(0)
            if not has_place:
                connection.close()
                continue
            try:
                _, protocol = await loop.connect_accepted_socket(self._runner.server, connection)
            except OSError:
                connection.close()  # a browser that has gone meanwhile: macOS refuses options for its connection
            else:
                self._places.enter(protocol, self._clock.mono_s())

    async def _end_silent(self) -> None:
        """End the connections that have sent no request that is answered within SILENT_FOR_S."""
        while True:
            await self._clock.sleep(SILENCE_CHECK_S)
            for one in self._places.silent(self._clock.mono_s()):
                _end(one)

    async def _feed(self) -> None:
        """Publish status and new events every REFRESH_S, and at once to a page just opened."""
        seq = 0
        while True:
            begun_s = self._clock.mono_s()
            self._audience.joined.clear()
            try:
                if len(self._audience):
                    self._audience.publish("status", await self._figures.status())
                    if events := await self._figures.events(seq):
                        seq = events[-1]["seq"]
                        self._audience.publish("events", events)
                # A run of very many trials must not keep a core busy for its page.
                wait_s = max(REFRESH_S, REST * (self._clock.mono_s() - begun_s))
            except SweepError as error:
                log.warning("the live page waits: %s", error.message)
                wait_s = RETRY_S
            except Exception:
                # A bug here must not look like a page that is up to date for ever.
                log.exception("the live page meets an error; it tries again")
                wait_s = RETRY_S
            await self._until_joined(wait_s)

    async def _until_joined(self, seconds: float) -> None:
        """Wait for `seconds`, or until a page is opened; without any page, for one."""
        joined = asyncio.ensure_future(self._audience.joined.wait())
        waits = {joined, asyncio.ensure_future(self._clock.sleep(seconds))} if len(self._audience) else {joined}
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in waits:
                each.cancel()

    async def close(self) -> None:
        """End the streams, then the server."""
        self._audience.close()
        for task in self._tasks:
            task.cancel()
        # Before the socket is closed: another one may get its number, and must not be taken for it.
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._runner is not None:
            await self._runner.cleanup()
        self._listening.close()


def _end(connection: Any) -> None:
    """End a connection of aiohttp at once; None, or one that has ended, is none."""
    if connection is not None and connection.transport is not None:
        connection.transport.abort()
