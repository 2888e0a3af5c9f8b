"""Wait for what a test needs, however slow the machine is: no deadline of seconds decides a verdict."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

NET_S = 600.0
"""The longest wait for anything: a safety net, far above what a busy machine needs."""

Found = TypeVar("Found")


def until(what: str, look: Callable[[], Found], seen: Callable[[], object] = str, period_s: float = 0.05) -> Found:
    """Call `look` until it returns something true, and return that. A failure names `what`, and what was `seen`."""
    deadline = time.monotonic() + NET_S
    while not (found := look()):
        assert time.monotonic() < deadline, f"not within {NET_S:g} s: {what}; {seen()}"
        time.sleep(period_s)
    return found
