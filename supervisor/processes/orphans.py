"""Processes of ours that somebody dead (a daemon, a driver, a trial) left behind: found by a mark, and ended.

The caller holds the home's lock, so nothing that bears the mark and does not descend from it can be wanted.
"""

from __future__ import annotations

import os

import psutil

MARK = "SWEEP_OWNER"
"""Every child of a daemon, and theirs, has this in its environment, set to the home's key."""


def find(home_key: str, *, orphans_only: bool = False) -> list[psutil.Process]:
    """The marked processes of this user, but for this process and its ancestors.

    `orphans_only` leaves out what descends from this process: what is at work, and what its parent will end.
    """
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid in kept or process.environ().get(MARK) != home_key:
                continue
            if not (orphans_only and os.getpid() in [parent.pid for parent in process.parents()]):
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's, a zombie, or gone since: none of them is ours to end.
            continue
    return found


def end(home_key: str, grace_s: float = 2.0, *, orphans_only: bool = False) -> list[str]:
    """Ends them, TERM then KILL; returns what they were ("pid name")."""
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
