"""Lets the trials of a node plan their memory one after the other: each subtracts what the others are still to take.

A trial's claim is the peak that the memory model predicts for it, in its heartbeat. What it holds already is missing
from the free memory; the rest of its claim is not, until it trains.
"""

from __future__ import annotations

import fcntl
import logging
import os
import time
import zlib
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from actors.trial.heartbeat import Heartbeat, WorkerMemory, heartbeats
from supervisor.processes.identity import started_at
from supervisor.sensors.trial_memory import resident_bytes

if TYPE_CHECKING:
    from training.memory import MemoryEstimate

LOCK_FILE = ".memory.lock"
LOCK_WITHIN_S, POLL_S = 10.0, 0.02
"""Planning takes milliseconds; a trial that was stopped in the middle of it must not hold up the others."""

MACHINE = "machine"
LOG = logging.getLogger("trainable")


def pool_of(device: str) -> int:
    """Return the number of the memory that a device takes from: the machine's, or that of the visible CUDA GPUs."""
    name = f"cuda {os.environ.get('CUDA_VISIBLE_DEVICES', '')}" if device == "cuda" else MACHINE
    # Not 0, which is no claim.
    return zlib.crc32(name.encode()) | 1


class MemoryClaims:
    """The claims of a node as one trial sees them; `heartbeat` is the trial's own."""

    def __init__(self, heartbeat: Heartbeat, resident: Callable[[int], int | None] = resident_bytes) -> None:
        self._heartbeat, self._resident = heartbeat, resident

    def claim(self, device: str, plan: Callable[[int], MemoryEstimate]) -> MemoryEstimate:
        """Return `plan(bytes that the others are still to take)` and claim its total. Raises the errors of `plan`."""
        pool = pool_of(device)
        with locked(self._heartbeat.folder / LOCK_FILE):
            self._heartbeat.claim(pool, 0)
            estimate = plan(self._outstanding(pool))
            self._heartbeat.claim(pool, estimate.total_bytes)
        return estimate

    def _outstanding(self, pool: int) -> int:
        return sum(
            max(0, progress.memory.claim_bytes - self._held(worker.pid, progress.memory, pool))
            for _, worker, progress in heartbeats(self._heartbeat.folder)
            if worker.pid != self._heartbeat.pid
            and progress.memory.claim_pool == pool
            and worker.started is not None
            and started_at(worker.pid) == worker.started
        )

    def _held(self, pid: int, memory: WorkerMemory, pool: int) -> int:
        if pool != pool_of("cpu"):
            return memory.device_bytes
        return (self._resident(pid) or 0) + (memory.device_bytes if memory.device_shared else 0)


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold the lock of a node's plans; after LOCK_WITHIN_S go on without it, as if all began alone."""
    with path.open("ab") as file:
        until = time.monotonic() + LOCK_WITHIN_S
        while not _taken(file.fileno()):
            if time.monotonic() > until:
                LOG.warning("%s is held for more than %.0f s: the memory is planned without it", path, LOCK_WITHIN_S)
                break
            time.sleep(POLL_S)
        yield


def _taken(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
