"""Wait for a condition, however slow the machine is: no deadline of seconds decides a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

import psutil

NET_S = 600.0
"""The longest wait for anything: a safety net, far above what a busy machine needs."""

Found = TypeVar("Found")


def until(what: str, look: Callable[[], Found], seen: Callable[[], object] = str, period_s: float = 0.05) -> Found:
    """Call `look` until its result is true, and return it. A failure names `what`, and shows `seen()`."""
    deadline = time.monotonic() + NET_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {NET_S:g} s: {what}; {seen()}"
        time.sleep(period_s)
    return found


def until_ended(pid: int) -> None:
    """Wait until process `pid` has ended; a zombie has."""

    def has_ended() -> bool:
        try:
            return psutil.Process(pid).status() == psutil.STATUS_ZOMBIE
        except psutil.NoSuchProcess:
            return True

    until(f"process {pid} has ended", has_ended, period_s=0.01)
