"""Reads time and waits; a test puts its own clock in its place. Standard library only."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


class TimeSource(Protocol):
    """Reads both clocks. Intervals are measured with `mono_s` only; `wall_s` is for people."""

    def mono_s(self) -> float: ...

    def wall_s(self) -> float: ...


@dataclass(frozen=True)
class Now:
    """One instant on both clocks."""

    mono_s: float
    """CLOCK_MONOTONIC, for intervals."""
    wall_s: float
    """Seconds since the epoch, for people."""

    @classmethod
    def of(cls, clock: TimeSource) -> Now:
        return cls(mono_s=clock.mono_s(), wall_s=clock.wall_s())


class Clock:
    """Reads the machine's clocks."""

    def wall_s(self) -> float:
        """Return the seconds since the epoch."""
        return time.time()

    def mono_s(self) -> float:
        """Return the seconds of a clock that cannot be set."""
        return time.monotonic()

    def boot_s(self) -> float | None:
        """Return the seconds of a clock that goes on while the machine sleeps; it cannot be set.

        CLOCK_BOOTTIME on Linux; on macOS CLOCK_MONOTONIC does so, and Python's time.monotonic does not. None elsewhere.
        """
        clock = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC if sys.platform == "darwin" else None)
        return None if clock is None else time.clock_gettime(clock)

    async def sleep(self, seconds: float) -> None:
        import asyncio  # slow to import; sensor processes and short commands only read the time

        await asyncio.sleep(seconds)


@dataclass
class FakeClock:
    """Keeps a time that passes only in `sleep` or by setting `now_s`: hours of heat in milliseconds."""

    now_s: float = 100.0

    def mono_s(self) -> float:
        return self.now_s

    def wall_s(self) -> float:
        return 1.7e9 + self.now_s

    def sleep(self, seconds: float) -> None:
        self.now_s += seconds


def boot_id() -> str | None:
    """Return the id of this boot; None where the platform has none."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return None
