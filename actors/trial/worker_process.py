"""What a trial's process arranges for its own end: stacks on a signal, and to be the kernel's first choice.

And the other end of it: how the node's watchdog has the stacks written, and ends such a process.
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
"""A dump is whole when the file has not grown for QUIET_S; a process in the kernel's hands never writes one."""

TERM_GRACE_S = 5.0
KILL_WITHIN_S = 10.0
POLL_S = 0.05

OOM_SCORE_ADJ = 500
"""Half a machine's memory on top of what it holds: of equals, the kernel takes a trial before the daemon or Ray."""

_DUMPS: dict[Path, BinaryIO] = {}


def dump_on_signal(folder: Path) -> None:
    """From now on DUMP_SIGNAL has every thread's Python stack written, by C code: no lock of Python's is needed."""
    path = stacks_file(folder, os.getpid())
    if path not in _DUMPS:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Stays open for good: in a hung process nothing can be opened any more. Appending, so it may be cut.
        _DUMPS[path] = path.open("ab", buffering=0)
    # Again for each trial, since the last one's code may have taken the signal.
    faulthandler.register(DUMP_SIGNAL, file=_DUMPS[path], all_threads=True, chain=False)


def stacks_file(folder: Path, pid: int) -> Path:
    """Where a worker's stacks are written."""
    return folder / f"{pid}{STACKS_SUFFIX}"


def prefer_for_oom(proc: Path = Path("/proc")) -> None:
    """When memory runs out, the kernel shall take this process first. Linux; elsewhere nothing is done."""
    file = proc / "self/oom_score_adj"
    with contextlib.suppress(OSError, ValueError):
        # Raising needs no right; lowering, where Ray has raised it further, would.
        if int(file.read_text()) < OOM_SCORE_ADJ:
            file.write_text(str(OOM_SCORE_ADJ))


def stacks_of(folder: Path, pid: int, sleep: Callable[[float], None] = time.sleep) -> str | None:
    """Have a worker write its stacks; None when it cannot within DUMP_WITHIN_S."""
    path = stacks_file(folder, pid)
    if not path.is_file():
        # It has not said what to do at the signal, which would then end it.
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
    """TERM, after a grace KILL, for a process and its children; whether it is gone.

    It is not when it is in an uninterruptible wait, for a disk or a device. `started` is process_identity's.
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
