"""Keeps the machine awake during a run, by a child process: caffeinate on macOS, systemd-inhibit on Linux.

Neither prevents the sleep of a closed lid. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path

from supervisor.sensors.reading import Availability

SETTLE_S = 0.5
"""A child that may not take the lock (no logind, no permission) ends sooner than this."""
REMEDY = "turn sleep off in the system's settings"


def command(
    pid: int, platform: str = sys.platform, which: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """Return the command that holds the lock; None where there is no such program.

    It ends with process `pid` or with its standard input. -i idle, -m disk, -s system (on mains power only);
    caffeinate(8), systemd-inhibit(1).
    """
    if platform == "darwin" and (found := which("caffeinate")):
        return [found, "-ims", "-w", str(pid)]
    if platform == "linux" and (found := which("systemd-inhibit")) and (cat := which("cat")):
        return [
            found, "--what=sleep:idle", "--mode=block", "--who=sweep-supervisor", "--why=a search is running", cat,
        ]  # fmt: skip
    return None


class WakeLock:
    """Takes and releases the lock. A refusal is an answer, not an error."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def take(self) -> Availability:
        wanted = command(os.getpid())
        if wanted is None:
            return Availability(False, "neither caffeinate nor systemd-inhibit is installed", REMEDY)
        try:
            process = await asyncio.create_subprocess_exec(
                *wanted, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Availability(False, f"{wanted[0]}: {error.strerror}", REMEDY)
        self._process = process
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), SETTLE_S)
        if process.returncode is None:
            return Availability(True, f"held by {Path(wanted[0]).name}")
        assert process.stderr is not None
        problem = (await process.stderr.read(400)).decode(errors="replace").strip() or f"status {process.returncode}"
        return Availability(False, f"{wanted[0]}: {problem}", REMEDY)

    async def release(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
