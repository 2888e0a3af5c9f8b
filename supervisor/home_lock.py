"""One daemon a home: an flock that the kernel drops with its holder. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import os
import time

from supervisor.errors import AlreadyRunning, HomeHeld, UnsafeFolder
from supervisor.home import Home
from supervisor.lock_holder import orphan

DISK_TROUBLE = (errno.EIO, errno.EROFS, errno.ENOSPC)


def take_lock(home: Home, purpose: str = "") -> int:
    """Raises AlreadyRunning, HomeHeld, or UnsafeFolder where no lock can be had. The file is never unlinked.

    What it holds ("pid 7", then `purpose`) is for messages only: a pid in it may be anybody's by now.

    flock, not lockf: a POSIX lock is lost as soon as any code closes another descriptor of the file. O_CLOEXEC, so
    that no child keeps it.
    """
    try:
        fd = os.open(home.lock, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600)
    except OSError as error:
        remedy = "look at the disk (`dmesg`)" if error.errno in DISK_TROUBLE else f"remove {home.lock}"
        raise UnsafeFolder(f"{home.lock} cannot be opened: {error.strerror}", remedy=remedy) from error
    owner = os.fstat(fd).st_uid
    if owner != os.geteuid():
        os.close(fd)
        raise UnsafeFolder(f"{home.lock} belongs to user id {owner}", remedy="use a SWEEP_HOME of your own")
    try:
        _lock(fd)
    except OSError as error:
        if error.errno not in (errno.EWOULDBLOCK, errno.EAGAIN):
            os.close(fd)
            raise UnsafeFolder(
                f"{home.lock} cannot be locked: {error.strerror}", remedy="put SWEEP_HOME on a local disk"
            ) from error
        os.close(fd)
        check_no_orphan(home)
        raise AlreadyRunning(f"this home is held by {holder(home) or 'an unknown process'}") from error
    os.ftruncate(fd, 0)
    os.pwrite(fd, f"pid {os.getpid()}{purpose and ', '}{purpose}\n".encode(), 0)
    return fd


def check_no_orphan(home: Home) -> None:
    """Raises HomeHeld when what holds the lock is no daemon, but something that a dead one left behind."""
    left = orphan(home)
    if left is not None:
        raise HomeHeld(left.sentence(), remedy=left.cure())


def holder(home: Home) -> str | None:
    """What the holder wrote into the lock, such as "pid 7"; for messages only. None when it says nothing."""
    try:
        return home.lock.read_text(errors="replace")[:200].strip() or None
    except OSError:
        return None


def _lock(fd: int) -> None:
    """Tries for a second: `is_held` of a waiting client holds the lock for a few microseconds. Raises OSError."""
    for _ in range(20):
        try:
            return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)
    return fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)


def is_held(home: Home) -> bool:
    """Whether a daemon lives in this home. Takes nothing; a home that was never used has none."""
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
