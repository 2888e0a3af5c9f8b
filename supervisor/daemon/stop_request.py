"""Carries the request to stop the run to everything that waits."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Coroutine
from typing import Any, TypeVar

T = TypeVar("T")


class StopRequest:
    """Is made once per daemon; `reason` is empty until the run is asked to stop."""

    def __init__(self) -> None:
        self._asked = asyncio.Event()
        self.reason = ""

    def asked(self) -> bool:
        """Return whether the run is asked to stop."""
        return self._asked.is_set()

    def ask(self, reason: str) -> None:
        """Ask the run to stop."""
        self.reason = reason
        self._asked.set()

    async def wait(self) -> None:
        """Wait until the run is asked to stop."""
        await self._asked.wait()

    async def within(self, seconds: float | None) -> bool:
        """Wait at most `seconds` (None: without limit); return whether the run is asked to stop."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._asked.wait(), seconds)
        return self.asked()

    async def unless_asked(self, work: Coroutine[Any, Any, T]) -> asyncio.Task[T] | None:
        """Return the task of `work` once it has ended; None if the run is asked to stop before: it is cancelled."""
        task, asked = asyncio.ensure_future(work), asyncio.ensure_future(self.wait())
        try:
            await asyncio.wait({task, asked}, return_when=asyncio.FIRST_COMPLETED)
            return task if task.done() else None
        finally:
            task.cancel()
            asked.cancel()
            await asyncio.gather(task, asked, return_exceptions=True)
