"""Finds and ends orphans: processes that a dead daemon, driver or trial of this home left behind.

The caller holds the home's lock; a process with the home's key that is not its descendant is therefore an orphan.
"""

from __future__ import annotations

import os

import psutil

from supervisor.processes.environment import OWNER, SERVES


def find(home_key: str, *, orphans_only: bool = False) -> list[psutil.Process]:
    """Return this user's processes with the home's key, except this process and its ancestors.

    `orphans_only` leaves out the descendants of this process, which are at work, and those that serve one of them.
    """
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in kept or (environment := process.environ()).get(OWNER) != home_key:
                continue
            if not (orphans_only and (SERVES in environment or _descends_from_us(process))):
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's process, a zombie, or one that has ended meanwhile.
            continue
    return found


def _descends_from_us(process: psutil.Process) -> bool:
    return os.getpid() in [parent.pid for parent in process.parents()]


def end(home_key: str, grace_s: float = 2.0, *, orphans_only: bool = False) -> list[str]:
    """End the processes that `find` returns, by TERM, then KILL; return a "pid name" of each."""
    found = find(home_key, orphans_only=orphans_only)
    names = []
    for process in found:
        try:
            names.append(f"{process.pid} {process.name()}")
            process.terminate()
        except psutil.Error:
            continue
    _, alive = psutil.wait_procs(found, timeout=grace_s)
    for process in alive:
        try:
            process.kill()
        except psutil.Error:
            continue
    psutil.wait_procs(alive, timeout=grace_s)
    return names
