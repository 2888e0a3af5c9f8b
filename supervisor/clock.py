"""One clock for reading time and for waiting; tests put their own in its place. Standard library only."""

from __future__ import annotations

import asyncio
import sys
import time
from dataclasses import dataclass
from pathlib import Path


class Clock:
    """The machine's. Intervals are measured with `mono_s` only; `wall_s` is for people."""

    def wall_s(self) -> float:
        """Seconds since the epoch."""
        return time.time()

    def mono_s(self) -> float:
        """Seconds of a clock that nobody sets."""
        return time.monotonic()

    def boot_s(self) -> float | None:
        """Seconds of a clock that nobody sets and that goes on while the machine sleeps; None where there is none.

        CLOCK_BOOTTIME on Linux; on macOS CLOCK_MONOTONIC does so, and Python's time.monotonic does not.
        """
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)
        return None if clock is None else time.clock_gettime(clock)

    async def sleep(self, seconds: float) -> None:
        await asyncio.sleep(seconds)


@dataclass
class FakeClock:
    """Time that passes only when somebody sets `now_s` or sleeps: hours of heat in milliseconds, the same each time."""

    now_s: float = 100.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 1.7e9 + self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def boot_id() -> str | None:
    """What tells this boot from the next, None where the platform has no such id."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
