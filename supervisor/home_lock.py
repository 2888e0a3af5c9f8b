"""Lets one daemon use a home: an flock that the kernel drops with its holder. Standard library only.

A child that was forked keeps the lock after its parent's death; one that was started by exec(2) does not (O_CLOEXEC).
So a lock can be held by a process that a user's library, or a debugger, left behind: an orphan.
"""

from __future__ import annotations

import errno
import fcntl
import os
import re
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.errors import AlreadyRunning, HomeHeld, UnsafeFolder
from supervisor.home import Home

DISK_ERRORS = (errno.EIO, errno.EROFS, errno.ENOSPC)
LOCK_TRIES = 20
LOCK_POLL_S = 0.05
PROC = Path("/proc")
MAX_COMMAND_CHARACTERS = 120
CONFIRM_S = 0.3
_EXCLUSIVE = re.compile(r"^lock:.*\bFLOCK\b.*\bWRITE\b", re.MULTILINE)
"""The line in proc(5)'s fdinfo of a descriptor whose open file has an exclusive flock."""


def take_lock(home: Home, purpose: str = "") -> int:
    """Take the home's lock; return its descriptor. The file is never unlinked.

    Its text ("pid 7", then `purpose`) is for messages only: the pid may be another process's by now. Raises
    AlreadyRunning, HomeHeld, or UnsafeFolder where no lock can be had.

    flock, not lockf: a POSIX lock is lost as soon as any code closes another descriptor of the file.
    """
    fd = _open(home)
    try:
        _lock(fd)
    except OSError as error:
        os.close(fd)
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            raise UnsafeFolder(
                f"{home.lock} cannot be locked: {error.strerror}", remedy="put SWEEP_HOME on a local disk"
            ) from error
        check_no_orphan(home)
        raise AlreadyRunning(f"the home {home.root} is held by {holder(home) or 'an unknown process'}") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()}{purpose and ', '}{purpose}\n".encode(), 0)
    return fd


def _open(home: Home) -> int:
    """Open the lock's file. Raises UnsafeFolder when it cannot be opened or is another user's."""
    try:
        fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        remedy = "look at the disk (`dmesg`)" if error.errno in DISK_ERRORS else f"remove {home.lock}"
        raise UnsafeFolder(f"{home.lock} cannot be opened: {error.strerror}", remedy=remedy) from error
    owner = os.fstat(fd).st_uid
    if owner != os.geteuid():
        os.close(fd)
        raise UnsafeFolder(f"{home.lock} belongs to user id {owner}", remedy="use a SWEEP_HOME of your own")
    return fd


def _lock(fd: int) -> None:
    """Try for a second: `is_held` of a waiting client holds the lock for a few microseconds. Raises OSError."""
    for _ in range(LOCK_TRIES):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(LOCK_POLL_S)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(home: Home) -> bool:
    """Return whether a daemon holds this home; takes no lock. A home that was never used has no daemon."""
    try:
        fd = os.open(home.lock, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return False
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(fd)
    return False


def holder(home: Home) -> str | None:
    """Return the text of the lock's file, such as "pid 7", for messages; None when it is empty or cannot be read."""
    try:
        return home.lock.read_text(errors="replace")[:200].strip() or None
    except OSError:
        return None


def check_no_orphan(home: Home) -> None:
    """Raise HomeHeld when an orphan holds the lock."""
    left = orphan(home)
    if left is not None:
        raise HomeHeld(left.sentence(), remedy=left.cure())


@dataclass(frozen=True)
class Orphan:
    """Describes a process that holds the lock and is not the daemon that took it."""

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
    """Return the orphan that holds the lock; None when its daemon or no process does, or without a /proc."""
    if _find_orphan(home, proc) is None:
        return None
    # A daemon that took it a moment ago has not written its pid yet.
    sleep(CONFIRM_S)
    return _find_orphan(home, proc)


def _find_orphan(home: Home, proc: Path) -> Orphan | None:
    found = re.match(r"pid (\d+)", holder(home) or "")
    taken_by = int(found[1]) if found else None
    holders = _holders(home, proc)
    if not holders or taken_by in holders:
        return None
    return Orphan(holders[0], _command(proc / str(holders[0])), taken_by)


def _holders(home: Home, proc: Path) -> list[int]:
    """Return this user's processes with an exclusive flock on the file, smallest pid first."""
    try:
        lock = home.lock.stat()
        pids = sorted(int(entry.name) for entry in proc.iterdir() if entry.name.isdecimal())
    except OSError:
        return []
    return [pid for pid in pids if _holds(proc / str(pid), lock)]


def _holds(process: Path, lock: os.stat_result) -> bool:
    try:
        for descriptor in os.listdir(process / "fd"):  # noqa: PTH208 - only the names
            if _same(process / "fd" / descriptor, lock) and _EXCLUSIVE.search(
                (process / "fdinfo" / descriptor).read_text()
            ):
                return True
    except OSError:
        pass  # another user's process, or one that has ended meanwhile: it holds no lock of ours
    return False


def _same(descriptor: Path, lock: os.stat_result) -> bool:
    try:
        return os.path.samestat(descriptor.stat(), lock)
    except OSError:
        return False


def _command(process: Path) -> str:
    try:
        raw = (process / "cmdline").read_bytes()
    except OSError:
        return "ended meanwhile"
    return raw.replace(b"\0", b" ").decode(errors="replace").strip()[:MAX_COMMAND_CHARACTERS] or "name unknown"
