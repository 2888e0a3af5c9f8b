"""The machine's clocks without the event loop that supervisor.clock needs: for child processes and short verbs."""

from __future__ import annotations

import time


class SystemTime:
    def mono_s(self) -> float:
        return time.monotonic()

    def wall_s(self) -> float:
        return time.time()
