"""Who really holds a home's lock: its file says who took it, but a child that was forked keeps it after its parent.

A child that was started by exec(2) does not (O_CLOEXEC), so this is what a library of a user's, or a debugger, left
behind. Standard library only.
"""

from __future__ import annotations

import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.home import Home

PROC = Path("/proc")
MAX_COMMAND_SIGNS = 120
CONFIRM_S = 0.3
_EXCLUSIVE = re.compile(r"^lock:.*\bFLOCK\b.*\bWRITE\b", re.MULTILINE)
"""What proc(5) says in fdinfo of a descriptor whose open file has an exclusive flock."""


@dataclass(frozen=True)
class Orphan:
    """A process that holds the lock, and is not the daemon that took it."""

    pid: int
    command: str
    taken_by: int | None
    """The daemon's pid, as the lock's file has it."""

    def sentence(self) -> str:
        taken_by = "a daemon" if self.taken_by is None else f"daemon {self.taken_by}"
        return f"process {self.pid} ({self.command}) holds the lock of this home; {taken_by}, which took it, is dead"

    def cure(self) -> str:
        return f"end it with `kill {self.pid}`, then start again"


def orphan(home: Home, proc: Path = PROC, sleep: Callable[[float], None] = time.sleep) -> Orphan | None:
    """None when the daemon that took the lock still holds it, when nobody does, or where no /proc tells."""
    if _look(home, proc) is None:
        return None
    # A daemon that took it a moment ago has not written its pid yet.
    sleep(CONFIRM_S)
    return _look(home, proc)


def _look(home: Home, proc: Path) -> Orphan | None:
    taken_by = _taken_by(home)
    holders = _holders(home, proc)
    if not holders or taken_by in holders:
        return None
    return Orphan(holders[0], _command(proc / str(holders[0])), taken_by)


def _taken_by(home: Home) -> int | None:
    try:
        found = re.match(r"pid (\d+)", home.lock.read_text(errors="replace")[:200])
    except OSError:
        return None
    return int(found[1]) if found else None


def _holders(home: Home, proc: Path) -> list[int]:
    """Processes of this user with an exclusive flock on the file, smallest pid first."""
    try:
        lock = home.lock.stat()
        pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())
    except OSError:
        return []
    return [pid for pid in pids if _holds(proc / str(pid), (lock.st_dev, lock.st_ino))]


def _holds(process: Path, lock: tuple[int, int]) -> bool:
    try:
        for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 - only the names
            if _is(process / "fd" / descriptor, lock) and _EXCLUSIVE.search(
                (process / "fdinfo" / descriptor).read_text()
            ):
                return True
    except OSError:
        pass  # another user's, or it has ended meanwhile: then it holds nothing of ours
    return False


def _is(descriptor: Path, lock: tuple[int, int]) -> bool:
    try:
        found = descriptor.stat()
    except OSError:
        return False
    return (found.st_dev, found.st_ino) == lock


def _command(process: Path) -> str:
    try:
        raw = (process / "cmdline").read_bytes()
    except OSError:
        return "gone by now"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:MAX_COMMAND_SIGNS] or "of unknown name"
