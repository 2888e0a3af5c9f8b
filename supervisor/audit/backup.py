"""A copy of the store in one file, made while the daemon works, and checked before it has its name.

Standard library only.
"""

from __future__ import annotations

import os
from pathlib import Path

from supervisor.audit.rotation import sync_folder
from supervisor.clock import Clock
from supervisor.errors import NotFound, StoreError, UsageError
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store.database import Store, read_only


def back_up(store: Store, path: Path) -> int:
    """Copies the whole store to the new file `path`, 0600; its size in bytes.

    Raises UsageError when something of that name is there, StoreError when the copy cannot be made or is not sound.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        # The name is taken first: whatever is there already stays.
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise UsageError(f"{path} is there already", remedy="give the name of a new file") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}", remedy="give another place for it") from error
    try:
        partial.touch(0o600)
        store.back_up(partial)
        _check(partial)
        _sync(partial)
        partial.replace(path)
        sync_folder(path.parent)
    except (StoreError, OSError) as error:
        partial.unlink(missing_ok=True)
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"{path} could not be written: {error.strerror}") from error
        raise
    return path.stat().st_size


def back_up_without_daemon(home: Home, path: Path) -> int:
    """The same for a home in which no daemon lives; none can start meanwhile. Raises AlreadyRunning, NotFound."""
    if not home.store.exists():
        raise NotFound("this home has no store yet")
    lock = take_lock(home)
    try:
        store = Store(home.store, Clock())
        try:
            return back_up(store, path)
        finally:
            store.close()
    finally:
        os.close(lock)


def _check(path: Path) -> None:
    with read_only(path) as connection:
        found = connection.execute("PRAGMA quick_check(1)").fetchone()[0]
    if found != "ok":
        raise StoreError(f"the copy is not sound: {found}")


def _sync(path: Path) -> None:
    fd = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
