"""Watches the main loop from a thread: if it blocks, all stacks are written and the daemon aborts.

A daemon that hangs is worse than one that died: nothing restarts it. After the abort the service manager or a person
starts it again, and it recovers. Standard library only.
"""

from __future__ import annotations

import asyncio
import faulthandler
import os
import sys
import threading
import time
from collections.abc import Callable

TICK_S = 2.0
STALL_LIMIT_S = 60.0


class Stall:
    """Decides whether the loop blocks, from a look about every TICK_S. Pure; times are monotonic seconds."""

    def __init__(self, now_s: float, limit_s: float = STALL_LIMIT_S) -> None:
        self._limit_s = limit_s
        self._seen_ticks, self._seen_s, self._looked_s = 0, now_s, now_s

    def look(self, now_s: float, ticks: int) -> bool:
        """Return whether no tick came for `limit_s` in which this thread could look."""
        if now_s - self._looked_s > self._limit_s / 2:
            # The whole process stood still (SIGSTOP, a sleeping machine): the loop gets its full time again.
            self._seen_s = now_s
        self._looked_s = now_s
        if ticks != self._seen_ticks:
            self._seen_ticks, self._seen_s = ticks, now_s
        return now_s - self._seen_s > self._limit_s


def dump_and_abort() -> None:
    """Write the stack of every thread to standard error (logs/daemon.log, or the journal), then abort."""
    print("the main loop blocks; the stacks of all threads follow, then the daemon aborts", file=sys.stderr)
    faulthandler.dump_traceback(all_threads=True)
    os.abort()


class LoopWatchdog:
    """Runs beside the work. `ping` is called while the loop ticks, for the service manager's own watchdog."""

    def __init__(self, ping: Callable[[], None], limit_s: float = STALL_LIMIT_S) -> None:
        self._ping, self._limit_s = ping, limit_s
        self._period_s = min(TICK_S, limit_s / 4)
        self._ticks = 0
        self._over = threading.Event()

    async def run(self) -> None:
        """Tick until cancelled."""
        thread = threading.Thread(target=self._watch, name="loop-watchdog", daemon=True)
        thread.start()
        try:
            while True:
                self._ticks += 1
                self._ping()
                await asyncio.sleep(self._period_s)
        finally:
            self._over.set()

    def _watch(self) -> None:
        stall = Stall(time.monotonic(), self._limit_s)
        while not self._over.wait(self._period_s):
            if stall.look(time.monotonic(), self._ticks):
                dump_and_abort()
