"""A trial's process: it writes its stacks on a signal, and is the first that the kernel ends when memory runs out.

Also the watchdog's side: it asks for the stacks and ends such a process.
"""

from __future__ import annotations

import contextlib
import faulthandler
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import psutil

from actors.trial.heartbeat import STACKS_SUFFIX
from supervisor.processes.identity import started_at

DUMP_SIGNAL = signal.SIGUSR1
MAX_DUMP_BYTES = 256 * 1024
DUMP_WITHIN_S, QUIET_S = 5.0, 0.5
"""A dump is complete when the file has not grown for QUIET_S; a process that waits in the kernel writes none."""

TERM_GRACE_S = 5.0
KILL_WITHIN_S = 10.0
POLL_S = 0.05

OOM_SCORE_ADJ = 500
"""Counts as half a machine's memory more: the kernel ends a trial before the daemon or Ray."""

_DUMPS: dict[Path, BinaryIO] = {}


def dump_on_signal(folder: Path) -> None:
    """Make DUMP_SIGNAL write every thread's Python stack, by C code without Python's locks."""
    path = stacks_file(folder, os.getpid())
    if path not in _DUMPS:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # It stays open: a hung process cannot open a file. Appending, so that the file may be truncated.
        _DUMPS[path] = path.open("ab", buffering=0)
    # For each trial: the code of the last one may have set another handler.
    faulthandler.register(DUMP_SIGNAL, file=_DUMPS[path], all_threads=True, chain=False)


def stacks_file(folder: Path, pid: int) -> Path:
    """Return the path of a worker's stacks."""
    return folder / f"{pid}{STACKS_SUFFIX}"


def prefer_for_oom(proc: Path = Path("/proc")) -> None:
    """Make the kernel end this process first when memory runs out. On Linux only."""
    file = proc / "self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError):
        # Raising the score needs no privilege; lowering it, where Ray has raised it further, would.
        if int(file.read_text()) < OOM_SCORE_ADJ:
            file.write_text(str(OOM_SCORE_ADJ))


def stacks_of(folder: Path, pid: int, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Return a worker's stacks, which it writes now; None when it cannot within DUMP_WITHIN_S."""
    path = stacks_file(folder, pid)
    if not path.is_file():
        # Without a handler the signal would end it.
        return None
    os.truncate(path, 0)
    os.kill(pid, DUMP_SIGNAL)
    size = quiet_s = waited_s = 0.0
    while waited_s < DUMP_WITHIN_S and (not size or quiet_s < QUIET_S):
        sleep(POLL_S)
        waited_s, before, size = waited_s + POLL_S, size, path.stat().st_size
        quiet_s = quiet_s + POLL_S if size == before else 0.0
    with path.open("rb") as file:
        return file.read(MAX_DUMP_BYTES).decode(errors="replace") or None


def end_process(pid: int, started: str, sleep: Callable[[float], None] = time.sleep) -> bool:
    """End a process and its children by TERM, later by KILL; return whether it is gone.

    It is not while it waits for a disk or a device. `started` is from processes.identity.
    """
    children = _children(pid)
    _signal(pid, started, signal.SIGTERM)
    gone = _is_gone_within(pid, started, TERM_GRACE_S, sleep)
    if not gone:
        _signal(pid, started, signal.SIGKILL)
        gone = _is_gone_within(pid, started, KILL_WITHIN_S, sleep)
    for child in children:
        # psutil compares creation times: a pid that is used again is left alone.
        with contextlib.suppress(psutil.Error):
            child.kill()
    return gone


def _children(pid: int) -> list[psutil.Process]:
    try:
        return psutil.Process(pid).children(recursive=True)
    except psutil.Error:
        return []


def _signal(pid: int, started: str, number: signal.Signals) -> None:
    if started_at(pid) == started:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


def _is_gone_within(pid: int, started: str, within_s: float, sleep: Callable[[float], None]) -> bool:
    waited_s = 0.0
    while started_at(pid) == started:
        if waited_s >= within_s:
            return False
        sleep(POLL_S)
        waited_s += POLL_S
    return True
