"""Keeps the machine awake while a run is at work: caffeinate on macOS, systemd-inhibit on Linux. A child's work.

Neither overrides a closed lid. Standard library only.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import sys
from collections.abc import Callable

from supervisor.sensors.reading import Availability

SETTLE_S = 0.5
"""A refusal (no logind, no permission) ends the child sooner than this."""


def command(
    pid: int, platform: str = sys.platform, which: Callable[[str], str | None] = shutil.which
) -> list[str] | None:
    """What holds the lock until `pid` or the child's standard input ends; None where there is no such program.

    -i idle, -m disk, -s system (on mains power only); caffeinate(8), systemd-inhibit(1).
    """
    if platform == "darwin" and (found := which("caffeinate")):
        return [found, "-ims", "-w", str(pid)]
    if platform == "linux" and (found := which("systemd-inhibit")) and (cat := which("cat")):
        return [
            found, "--what=sleep:idle", "--mode=block", "--who=sweep-supervisor", "--why=a search is running", cat,
        ]  # fmt: skip
    return None


class WakeLock:
    """`take` it, `release` it. A machine that cannot be kept awake is told, not refused."""

    def __init__(self) -> None:
        self._process: asyncio.subprocess.Process | None = None

    async def take(self) -> Availability:
        wanted = command(os.getpid())
        if wanted is None:
            return Availability(False, "there is neither caffeinate nor systemd-inhibit here", "turn sleep off by hand")
        try:
            process = await asyncio.create_subprocess_exec(
                *wanted, stdin=asyncio.subprocess.PIPE, stdout=asyncio.subprocess.DEVNULL,
                stderr=asyncio.subprocess.PIPE, start_new_session=True,
            )  # fmt: skip
        except OSError as error:
            return Availability(False, f"{wanted[0]}: {error.strerror}", "turn sleep off by hand")
        self._process = process
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(process.wait(), SETTLE_S)
        if process.returncode is None:
            return Availability(True, f"held by {os.path.basename(wanted[0])}")  # noqa: PTH119 - a name for people
        assert process.stderr is not None
        said = (await process.stderr.read(400)).decode(errors="replace").strip() or f"status {process.returncode}"
        return Availability(False, f"{wanted[0]}: {said}", "turn sleep off by hand")

    async def release(self) -> None:
        if self._process is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._process.kill()
            await self._process.wait()
