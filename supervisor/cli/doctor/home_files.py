"""Checks the folders and files of a home for `doctor`: owner, mode, disk, store. Makes and changes nothing."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import stat
import time
from collections.abc import Callable
from pathlib import Path

from supervisor.audit.maintenance import SOUND, check_pages
from supervisor.errors import SweepError, UnsafeFile, UsageError
from supervisor.filesystem import free_bytes
from supervisor.formatting import human
from supervisor.governor.policy import Policy
from supervisor.home import SOCKET_PATH_MAX_BYTES, Home
from supervisor.home_lock import is_held
from supervisor.preflight import machine
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes.notify_file import read_settings
from supervisor.store.database import read_only

RAY_BYTES = 128 * 1024 * 1024
"""A Ray session writes logs and sockets into its folder, some megabytes a day."""
STORE_WITHIN_S = 20.0
"""The longest check of the store: its every page is read."""
PRIVATE = stat.S_IRWXG | stat.S_IRWXO
REPAIR = "`supervisorctl repair` shows the steps; `supervisord start` rebuilds the store from the logs"


def check_folders(home: Home) -> list[Check]:
    """Check each folder of the home: a real one of this user, private where secrets or sockets are in it."""
    if not home.root.exists():
        return [ok("home", f"{home.root} is not there yet; `supervisord start` makes it")]
    runtime = home.runtime()
    private = (home.state, home.runs, runtime.parent, runtime)
    folders = {"home": home.root, "state": home.state, "runs": home.runs, "logs": home.logs, "data": home.data}
    checks = [check_folder(name, folder, private=folder in private) for name, folder in folders.items()]
    checks += [check_folder("runtime folder", folder, private=True) for folder in private[2:]]
    return [check for found in checks for check in found]


def check_folder(name: str, folder: Path, *, private: bool) -> list[Check]:
    """Check one folder; one that is not there yet is no check."""
    try:
        found = folder.lstat()
    except FileNotFoundError:
        return []
    except OSError as error:
        cure = f"give its parent to this user: `ls -ld {folder.parent}`"
        return [Check(name, Level.ERROR, f"{folder} cannot be looked at: {error.strerror}", cure)]
    if private and stat.S_ISLNK(found.st_mode):
        detail = f"expected a folder at {folder}, found a link"
        return [Check(name, Level.ERROR, detail, f"look at it (`ls -ld {folder}`), and remove it")]
    if not folder.is_dir():
        detail = f"expected a folder at {folder}, found a file"
        return [Check(name, Level.ERROR, detail, f"move it away: `mv {folder} {folder}.old`")]
    if (owner := folder.stat().st_uid) != os.geteuid():
        detail = f"{folder} belongs to user id {owner}, not to this user"
        cure = f"set SWEEP_HOME to a folder of your own; or `sudo chown $(id -u) {folder}`"
        return [Check(name, Level.ERROR, detail, cure)]
    return [machine.check_folder(name, folder), *_mode(name, folder, found) * private]


def check_files(home: Home) -> list[Check]:
    """Check that the files with secrets, and the store, are this user's and private."""
    checks: list[Check] = []
    secret = (home.ray_token, home.notify, home.page)
    for path in (home.store, home.lock, *secret):
        with contextlib.suppress(OSError):
            found = path.lstat()
            if found.st_uid != os.geteuid():
                detail = f"{path} belongs to user id {found.st_uid}, not to this user"
                checks.append(Check(path.name, Level.ERROR, detail, f"give it back: `sudo chown $(id -u) {path}`"))
            elif path in secret:
                checks += _mode(path.name, path, found)
    return [*checks, *_check_addresses(home)]


def _check_addresses(home: Home) -> list[Check]:
    """Check that the file of addresses for messages can be read; a wrong line stops all messages."""
    try:
        read_settings(home.notify)
    except UsageError as error:
        cure = f"{error.remedy}; then `supervisorctl notify test`"
        return [Check("messages", Level.WARNING, f"no message is sent: {error.message}", cure)]
    except UnsafeFile:
        pass  # owner and mode are named above
    return []


def _mode(name: str, path: Path, found: os.stat_result) -> list[Check]:
    if not stat.S_IMODE(found.st_mode) & PRIVATE:
        return []
    mode = "700" if stat.S_ISDIR(found.st_mode) else "600"
    detail = f"others may use {path} (mode {stat.S_IMODE(found.st_mode):o})"
    return [Check(name, Level.WARNING, detail, f"make it private: `chmod {mode} {path}`")]


def check_space(home: Home) -> list[Check]:
    """Check the space for runs and for Ray's session, and the disk's kind."""
    policy = Policy()
    checks = [machine.check_file_system(home), machine.check_disk(home.runs, policy.disk_hold_bytes,
              policy.disk_pause_bytes)]  # fmt: skip
    place = next(folder for folder in (home.runtime(), *home.runtime().parents) if folder.is_dir())
    free = free_bytes(place)
    if free >= RAY_BYTES:
        return [*checks, ok("Ray's disk", f"{human(free)} free in {place}")]
    detail = f"{human(free)} free in {place}, where Ray's session lies; work pauses there below 32 MiB"
    return [*checks, Check("Ray's disk", Level.ERROR, detail, f"free {human(RAY_BYTES)} of that disk")]


def check_socket_path(home: Home) -> list[Check]:
    """Check the length of the socket's path, which the system limits."""
    length = len(os.fsencode(home.socket)) + len(".4194304")
    if length <= SOCKET_PATH_MAX_BYTES:
        return []
    return [Check("socket", Level.ERROR, f"{home.socket} is too long for a socket", "report it as a bug")]


def check_store(home: Home, monotonic: Callable[[], float] = time.monotonic) -> list[Check]:
    """Check every page of the store, while no daemon has it open."""
    if is_held(home):
        return [ok("store", f"{home.store} is the running daemon's; `supervisorctl audit` checks a copy of it")]
    try:
        if not home.store.exists():
            return [ok("store", "there is none yet")]
        with read_only(home.store) as connection:
            return [_pages(connection, home.store, monotonic)]
    except SweepError as error:
        return [Check("store", Level.ERROR, error.message, error.remedy or REPAIR)]
    except OSError as error:
        return [Check("store", Level.ERROR, f"{home.store}: {error.strerror}", REPAIR)]


def _pages(connection: sqlite3.Connection, path: Path, monotonic: Callable[[], float]) -> Check:
    end_s, size = monotonic() + STORE_WITHIN_S, human(path.stat().st_size)
    found = check_pages(connection, lambda: monotonic() > end_s)
    if found is None:
        return ok("store", f"{size}; sound as far as {STORE_WITHIN_S:.0f} s of checking went")
    if found != SOUND:
        return Check("store", Level.ERROR, f"{path} is damaged: {found}", REPAIR)
    return ok("store", f"{size}, sound")
