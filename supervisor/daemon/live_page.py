"""Opens and closes the live page of a run, and remembers the wish over restarts in state/page.json."""

from __future__ import annotations

import asyncio
import json
import logging
import secrets
from dataclasses import asdict, dataclass, replace
from typing import Any

from supervisor.clock import Clock
from supervisor.control.handshake import ANY_PORT, NO_PAGE
from supervisor.errors import Conflict, DiskFull
from supervisor.filesystem import write_atomically
from supervisor.home import Home
from supervisor.page.access import Access
from supervisor.page.figures import Figures, Live
from supervisor.page.reader import StoreReader
from supervisor.page.server import PageServer, listen
from supervisor.store.run_writer import RunWriter

log = logging.getLogger("supervisor")

TOKEN_BYTES = 32


@dataclass(frozen=True)
class Wish:
    """Holds what state/page.json holds: the token, the last port, and the run whose page is asked for."""

    token: str
    port: int = 0
    """0 before the first page of this home."""
    run: str | None = None


class LivePage:
    """Is made once per daemon. `address` is the page's whole address with its token; None while it is closed."""

    def __init__(self, home: Home, writer: RunWriter, clock: Clock) -> None:
        self._path, self._key, self._writer, self._clock = home.page, home.key, writer, clock
        self._reader = StoreReader(home.store, writer.run_id)
        self._server: PageServer | None = None
        self._figures: Figures | None = None
        self._switching = asyncio.Lock()

    @property
    def address(self) -> str | None:
        return None if self._server is None else self._server.whole_address

    async def begin(self, live: Live, asked: str | None) -> None:
        """Open the page if this start asks for it, or an earlier one of this run did. A failure is an event only."""
        self._figures = Figures(self._reader, self._writer.run_id, live)
        wish = self._wish()
        if asked is None and (wish is None or wish.run != self._writer.run_id):
            return
        try:
            await self.switch(asked or ANY_PORT)
        except (Conflict, DiskFull) as error:
            log.warning("%s", error.message)

    async def switch(self, asked: str) -> str | None:
        """Open the page, on a port where `asked` names one, or close it (NO_PAGE); return its whole address.

        Raises Conflict when it cannot be opened.
        """
        async with self._switching:
            try:
                await self._switch(asked, self._wish() or Wish(secrets.token_hex(TOKEN_BYTES)))
            except OSError as error:
                reason = f"{error.strerror or error}"
                self._writer.record("page.failed", error=reason)
                raise Conflict(f"the live page cannot be opened: {reason}") from error
        return self.address

    async def _switch(self, asked: str, wish: Wish) -> None:
        # The wish is kept before anything acts on it: a daemon that dies here leaves it to the next one.
        if asked == NO_PAGE:
            self._keep(replace(wish, run=None))
            await self._close_server("a person asked for it")
        else:
            figures = self._known()
            self._keep(replace(wish, run=self._writer.run_id))
            await self._open(wish, figures, wish.port if asked == ANY_PORT else int(asked))

    async def _open(self, wish: Wish, figures: Figures, port: int) -> None:
        if self._server is not None:
            if port in (0, self._server.port):
                return
            await self._close_server("another port is asked for")
        try:
            listening = listen(port)
        except OSError as taken:
            # A page elsewhere is better than none, and `status` has its address.
            log.warning("port %d is not free for the live page (%s); another one is taken", port, taken.strerror)
            listening = listen(0)
        # By this name redaction knows the cookie's value where an error of the HTTP library quotes a header.
        access = Access(wish.token, f"sweep_token_{self._key}")
        server = PageServer(access, figures, self._clock, listening)
        await server.open()
        self._server = server
        self._keep(replace(wish, port=server.port, run=self._writer.run_id))
        taken_port = port if port not in (0, server.port) else None
        self._writer.record("page.opened", address=server.address, not_free=taken_port)

    async def metrics(self) -> str:
        """Return the run's figures for Prometheus, open page or not. Raises Conflict before `begin`, StoreError."""
        return await self._known().metrics()

    def _known(self) -> Figures:
        if self._figures is None:
            raise Conflict("the daemon is still starting", remedy="try again in a second")
        return self._figures

    async def close(self) -> None:
        """End the page with the daemon; the next one opens it again."""
        if self._server is not None:
            await self._server.close()
            self._server = None
        self._reader.close()

    async def _close_server(self, reason: str) -> None:
        if self._server is not None:
            await self._server.close()
            self._server = None
            self._writer.record("page.closed", reason=reason)

    def _keep(self, wish: Wish) -> None:
        write_atomically(self._path, json.dumps(asdict(wish)).encode())

    def _wish(self) -> Wish | None:
        """Return the wish as it was kept; None without a file, or for one that is not ours."""
        try:
            found: Any = json.loads(self._path.read_bytes())
            wish = Wish(str(found["token"]), int(found["port"]), found["run"])
        except FileNotFoundError:
            return None
        except (OSError, ValueError, TypeError, KeyError):
            log.warning("%s cannot be read and is written anew", self._path)
            return None
        return wish if len(wish.token) == 2 * TOKEN_BYTES and 0 <= wish.port < 65536 else None
