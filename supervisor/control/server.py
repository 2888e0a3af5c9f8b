"""Serves the control socket to the daemon's user, within bounds; binds it again when it was removed."""

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
"""The time that a connection has to send a request's headers; our commands send theirs at once."""
MAX_HEADER_BYTES = 4096
REFUSAL_PERIOD_S = 60.0
"""The shortest time between two records of refused users, so that they cannot fill the log."""


class ControlServer:
    """Owns the control socket: call `open()`, keep `guard()` running, then `close()`."""

    def __init__(
        self, home: Home, clock: Clock, verbs: Verbs, refused: Callable[[int], None], rebound: Callable[[], None]
    ) -> None:
        """Take two callbacks: `refused` gets another user's id, `rebound` follows a new bind of the socket."""
        self._home, self._clock, self._verbs, self._refused, self._rebound = home, clock, verbs, refused, rebound
        self._runner: web.AppRunner | None = None
        self._listening: tuple[socket.socket, int] | None = None
        self._accepting: asyncio.Task[None] | None = None
        self._refusals: set[asyncio.Task[None]] = set()
        self._recorded_mono_s: float | None = None

    async def open(self) -> None:
        """Bind the socket and accept connections. Raises UnsafeFolder, or OSError when it cannot be bound."""
        if self._runner is None:
            # No access log: the audit log records who did what.
            self._runner = web.AppRunner(
                make_app(self._verbs), access_log=None, shutdown_timeout=2.0, lingering_time=2.0,
                keepalive_timeout=SILENT_FOR_S, max_line_size=MAX_HEADER_BYTES, max_field_size=MAX_HEADER_BYTES,
                # No client needs it, and unpacking 32 KiB into 32 MiB would delay other requests by 0.1 s.
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
        """Pass each connection of a permitted user to the API; aiohttp's own site checks neither user nor number."""
        loop = asyncio.get_running_loop()
        assert self._runner is not None
        assert self._runner.server is not None
        while True:
            try:
                connection, _ = await loop.sock_accept(listening)
            except OSError as error:
                log.warning("a connection could not be accepted: %s", error)  # such as too many open files
                await asyncio.sleep(1.0)
                continue
            uid = unix_socket.peer_uid(connection)
            if uid not in (None, os.geteuid(), 0):  # None has passed the socket's mode
                self._refuse(connection, uid or 0)
            elif len(self._runner.server.connections) >= MAX_CONNECTIONS:
                log.warning("more than %d connections at once: one was closed", MAX_CONNECTIONS)
                connection.close()
            else:
                await loop.connect_accepted_socket(self._runner.server, connection)

    def _refuse(self, connection: socket.socket, uid: int) -> None:
        now_s = self._clock.mono_s()
        if self._recorded_mono_s is None or now_s - self._recorded_mono_s >= REFUSAL_PERIOD_S:
            self._recorded_mono_s = now_s
            self._refused(uid)
        if len(self._refusals) >= MAX_CONNECTIONS:
            connection.close()
            return
        task = asyncio.create_task(_answer_no(connection, uid))
        self._refusals.add(task)
        task.add_done_callback(self._refusals.discard)

    async def guard(self) -> None:
        """Bind the socket again when a cleaner of /tmp has removed it."""
        while True:
            await self._clock.sleep(SOCKET_CHECK_PERIOD_S)
            try:
                if self._ours():
                    os.utime(self._home.socket)
                else:
                    log.warning("the control socket was removed; it is bound again")
                    self._home.prepare()
                    await self.open()
                    self._rebound()
            except (OSError, SweepError):
                log.exception("the control socket could not be checked; the next try is soon")

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


async def _answer_no(connection: socket.socket, uid: int) -> None:
    """Refuse any request. It is read first: a close with unread bytes would reset the connection."""
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
