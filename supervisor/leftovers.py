"""Processes of ours that a dead daemon left behind: found by a mark in their environment, and ended.

The caller holds the home's lock, so nothing that bears the mark and is not its own child can be wanted.
"""

from __future__ import annotations

import os

import psutil

MARK = "SWEEP_OWNER"
"""Every child of a daemon, and theirs, has this in its environment, set to the home's key."""


def find(home_key: str) -> list[psutil.Process]:
    """The marked processes of this user, but for this process and its ancestors."""
    kept = {os.getpid(), *(parent.pid for parent in psutil.Process().parents())}
    found = []
    for process in psutil.process_iter():
        try:
            if process.pid not in kept and process.environ().get(MARK) == home_key:
                found.append(process)
        except (psutil.Error, OSError):
            # Another user's, a zombie, or gone since: none of them is ours to end.
            continue
    return found


def end(home_key: str, grace_s: float = 2.0) -> list[str]:
    """Ends them, TERM then KILL; returns what they were ("pid name")."""
    found = find(home_key)
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
