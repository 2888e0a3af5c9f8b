"""Reads the store for the live page and at a run's end in a thread, on a connection that can only read.

The daemon's loop must not wait for a query over many trials. The second connection never writes and never checkpoints,
so it is not one of the two that the fault of SQLite's WAL needs (store.database); each read is short, since a long one
would keep the WAL from being reused.
"""

from __future__ import annotations

import asyncio
import contextlib
import sqlite3
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

from supervisor.errors import StoreError
from supervisor.store.database import read_only
from supervisor.store.page_queries import last_seq
from supervisor.store.status_cache import StatusView

T = TypeVar("T")

READ_WITHIN_S = 20.0
MAX_WAITING = 32
"""The reads that wait for the thread; more are refused."""


class StoreReader:
    """Owns the thread and its connection, opened at the first read: a page that stays unopened costs nothing."""

    def __init__(self, path: Path, run_id: str) -> None:
        self._path, self._run_id = path, run_id
        self._thread = ThreadPoolExecutor(1, thread_name_prefix="page")
        self._open = contextlib.ExitStack()
        self._connection: sqlite3.Connection | None = None
        self._view: StatusView | None = None
        self._last: tuple[int, dict[str, Any]] | None = None
        """The number of the newest event, and the view of the run after it."""
        self._waiting = 0
        self._closed = False

    async def read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        """Return the answer of `query`, which is called in the thread.

        Raises StoreError when too many reads wait, this one takes longer than READ_WITHIN_S, or after `close`; and the
        query's own errors.
        """
        self._check_open()
        if self._waiting >= MAX_WAITING:
            raise StoreError(f"{MAX_WAITING} reads of the store wait already", remedy="try again in a few seconds")
        self._waiting += 1
        try:
            loop = asyncio.get_running_loop()
            async with asyncio.timeout(READ_WITHIN_S):
                return await loop.run_in_executor(self._thread, self._read, query)
        except TimeoutError:
            self._interrupt()
            raise StoreError(
                f"{self._path} could not be read within {READ_WITHIN_S:.0f} s", remedy="is the disk slow or gone?"
            ) from None
        finally:
            self._waiting -= 1

    async def view(self) -> dict[str, Any]:
        """Return the run as StatusView shows it, not to be changed. Raises as `read` does."""
        return await self.read(self._now)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the daemon is ending and reads the store no more", remedy="ask the next daemon")

    def _read(self, query: Callable[[sqlite3.Connection], T]) -> T:
        self._check_open()
        try:
            return query(self._opened())
        except sqlite3.DatabaseError as error:
            raise StoreError(f"{self._path} cannot be read: {error}") from error

    def _opened(self) -> sqlite3.Connection:
        if self._connection is None:
            self._connection = self._open.enter_context(read_only(self._path))
        return self._connection

    def _now(self, connection: sqlite3.Connection) -> dict[str, Any]:
        if self._view is None:
            self._view = StatusView(connection, self._run_id)
        # Each change has its event.
        seq = last_seq(connection)
        if self._last is None or self._last[0] != seq:
            # A view whose reading was interrupted has missed what it read: the next one begins anew.
            view, self._view = self._view, None
            self._last = seq, view.now()
            self._view = view
        return self._last[1]

    def _interrupt(self) -> None:
        """End the read at work: the one call of a connection that another thread may make."""
        if self._connection is not None:
            self._connection.interrupt()

    def close(self) -> None:
        """End the read at work, then the connection and the thread; do not wait for them."""
        self._closed = True
        self._interrupt()
        self._thread.submit(self._open.close)
        self._thread.shutdown(wait=False)
