"""The handshake between a starting daemon and the `start` that waits for it. Standard library only."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any

from supervisor.errors import SweepError


class Readiness:
    """Tells the waiting `start`, once, over the pipe it gave: the facts, or why there are none."""

    def __init__(self, fd: int | None) -> None:
        self._fd = fd

    def tell(self, facts: dict[str, Any]) -> None:
        if self._fd is None:
            return
        with contextlib.suppress(BrokenPipeError):
            os.write(self._fd, json.dumps(facts).encode() + b"\n")
        os.close(self._fd)
        self._fd = None

    def fail(self, error: SweepError) -> int:
        """Tells what went wrong; the exit code to end with."""
        kind = type(error).__name__
        self.tell({"error": error.message, "remedy": error.remedy, "exit_code": error.exit_code, "kind": kind})
        return error.exit_code
