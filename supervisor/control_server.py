"""The daemon's end of the control socket: serves the API on it, and binds it again when it is swept away."""

from __future__ import annotations

import logging
import os
import socket

from aiohttp import web

from supervisor import control_socket
from supervisor.api import Verbs, make_app
from supervisor.clock import Clock
from supervisor.errors import SweepError
from supervisor.home import Home

log = logging.getLogger("supervisor")

SOCKET_CHECK_PERIOD_S = 10.0


class ControlServer:
    """`open()`, keep `guard()` going, `close()`."""

    def __init__(self, home: Home, clock: Clock, verbs: Verbs) -> None:
        self._home, self._clock, self._verbs = home, clock, verbs
        self._runner: web.AppRunner | None = None
        self._listening: tuple[socket.socket, int] | None = None

    async def open(self) -> None:
        """Raises UnsafeFolder, or OSError for a socket that cannot be bound."""
        if self._runner is None:
            # No access log: the audit log tells who did what.
            self._runner = web.AppRunner(make_app(self._verbs), access_log=None, shutdown_timeout=2.0)
            await self._runner.setup()
        made = control_socket.bind(self._home.socket)
        await web.SockSite(self._runner, made).start()
        bound = control_socket.inode(self._home.socket)
        assert bound is not None
        self._listening = (made, bound)

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
            except (OSError, SweepError):
                log.exception("the control socket cannot be looked after; the next try is soon")

    def _ours(self) -> bool:
        return self._listening is not None and control_socket.inode(self._home.socket) == self._listening[1]

    async def close(self) -> None:
        if self._runner is not None:
            if self._ours():
                self._home.socket.unlink()
            await self._runner.cleanup()
