"""The daemon's end of the control socket: serves the API to its own user, within bounds; binds a swept one again."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import socket
from collections.abc import Callable

from aiohttp import web

from supervisor import API_VERSION
from supervisor.clock import Clock
from supervisor.control import unix_socket
from supervisor.control.api import Verbs, make_app
from supervisor.control.client import API_HEADER, SOCKET_BACK_S
from supervisor.errors import NotPermitted, SweepError
from supervisor.home import Home

log = logging.getLogger("supervisor")

SOCKET_CHECK_PERIOD_S = SOCKET_BACK_S
MAX_CONNECTIONS = 64
SILENT_FOR_S = 10.0
"""How long a connection may take for a request's headers; commands of ours send theirs at once."""
MAX_HEADER_BYTES = 4096
REFUSAL_PERIOD_S = 60.0
"""Refused users are told at most so often: whoever knocks all day must not fill the log."""


class ControlServer:
    """`open()`, keep `guard()` going, `close()`."""

    def __init__(
        self, home: Home, clock: Clock, verbs: Verbs, refused: Callable[[int], None], rebound: Callable[[], None]
    ) -> None:
        """`refused` hears the id of another user who asked, `rebound` that the socket had to be bound again."""
        self._home, self._clock, self._verbs, self._refused, self._rebound = home, clock, verbs, refused, rebound
        self._runner: web.AppRunner | None = None
        self._listening: tuple[socket.socket, int] | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._refusals: set[asyncio.Task[None]] = set()
        self._told_mono_s: float | None = None

    async def open(self) -> None:
        """Raises UnsafeFolder, or OSError for a socket that cannot be bound."""
        if self._runner is None:
            # No access log: the audit log tells who did what.
            self._runner = web.AppRunner(
                make_app(self._verbs), access_log=None, shutdown_timeout=2.0, lingering_time=2.0,
                keepalive_timeout=SILENT_FOR_S, max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES,
                # Nobody needs it, and 32 KiB that unfold into 32 MiB cost everybody else a tenth of a second.
                auto_decompress=False,
            )  # fmt: skip
            await self._runner.setup()
        made = unix_socket.bind(self._home.socket)
        self._stop_accepting()
        bound = unix_socket.inode(self._home.socket)
        assert bound is not None
        self._listening = (made, bound)
        self._accepting = asyncio.create_task(self._accept(made))

    async def _accept(self, listening: socket.socket) -> None:
        """Hands each connection on that may speak. Not aiohttp's own site: it asks neither who it is nor how many."""
        loop = asyncio.get_running_loop()
        assert self._runner is not None
        assert self._runner.server is not None
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("no connection can be taken: %s", error)  # such as too many open files
                await asyncio.sleep(1.0)
                continue
            uid = unix_socket.peer_uid(connection)
            if not unix_socket.may_command(uid):
                self._refuse(connection, uid or 0)
            elif len(self._runner.server.connections) >= MAX_CONNECTIONS:
                log.warning("more than %d connections at once: one was closed", MAX_CONNECTIONS)
                connection.close()
            else:
                await loop.connect_accepted_socket(self._runner.server, connection)

    def _refuse(self, connection: socket.socket, uid: int) -> None:
        now_s = self._clock.mono_s()
        if self._told_mono_s is None or now_s - self._told_mono_s >= REFUSAL_PERIOD_S:
            self._told_mono_s = now_s
            self._refused(uid)
        if len(self._refusals) >= MAX_CONNECTIONS:
            connection.close()
            return
        task = asyncio.create_task(_say_no(connection, uid))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    async def guard(self) -> None:
        """A sweeper of /tmp may take the socket away from under us; then it is bound again."""
        while True:
            await self._clock.sleep(SOCKET_CHECK_PERIOD_S)
            try:
                if self._ours():
                    os.utime(self._home.socket)
                else:
                    log.warning("the control socket was taken away; it is bound again")
                    self._home.prepare()
                    await self.open()
                    self._rebound()
            except (OSError, SweepError):
                log.exception("the control socket cannot be looked after; the next try is soon")

    def _ours(self) -> bool:
        return self._listening is not None and unix_socket.inode(self._home.socket) == self._listening[1]

    def _stop_accepting(self) -> None:
        if self._accepting is not None:
            self._accepting.cancel()
        if self._listening is not None:
            self._listening[0].close()
            self._listening = None

    async def close(self) -> None:
        if self._runner is not None:
            if self._ours():
                self._home.socket.unlink()
            self._stop_accepting()
            await self._runner.cleanup()


async def _say_no(connection: socket.socket, uid: int) -> None:
    """One answer, whatever the question, which is read first: a close with something unread takes the answer along."""
    raw = json.dumps(
        {"error": f"user id {uid} may not command this daemon", "exit_code": NotPermitted.exit_code}
    ).encode()
    head = (
        f"HTTP/1.1 403 Forbidden\r\n{API_HEADER}: {API_VERSION}\r\nContent-Length: {len(raw)}\r\n"
        "Connection: close\r\n\r\n"
    ).encode()
    loop = asyncio.get_running_loop()
    with connection, contextlib.suppress(OSError, TimeoutError):
        connection.setblocking(False)
        async with asyncio.timeout(1.0):
            await loop.sock_recv(connection, 65536)
            await loop.sock_sendall(connection, head + raw)
