"""A worker's heartbeat: a small file, written by mmap, that the node's watchdog reads without asking the worker.

Layout, little endian: magic `SWPB` (4), layout version (u32), phase (u32, as in Phase), whether the trainable waits at
its gate before each batch (u32, 1 or 0), whether its accelerator's memory is the machine's (u32, 1 or 0), the pool of
its claim (u32, of memory_claims.pool_of, 0 for none), zeros; at byte 32 the time of the last beat (f64, seconds of
CLOCK_MONOTONIC), the bytes that it holds on its accelerator and those that it claims (f64 each), zeros; from 64 the
seconds of the last 32 batches, from 320 those of the last 8 tails (f64 each, 0 for none yet); from 384 to the end the
worker and its attempt, as JSON. Each field is aligned and written by itself: the time before the phase, so that a
reader who takes the phase first never sees a new phase with an old time.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from enum import IntEnum
from pathlib import Path

from actors.trial.device_memory import DeviceMemory, device_memory
from supervisor.domain.scope import trial_scope
from supervisor.processes.identity import started_at
from supervisor.sensors.trial_memory import TrialWorker
from supervisor.typed_json import from_json

MAGIC, VERSION = b"SWPB", 1
_HEADER = struct.Struct("<4sI")
_PHASE, _IN_BATCHES, _SHARED, _POOL = 2, 3, 4, 5
_SINCE, _DEVICE_BYTES, _CLAIM_BYTES = 4, 5, 6
MEASURE_EVERY_S = 1.0
"""Asking torch's allocator takes some tens of microseconds: too long for every batch of a small model."""

BATCHES, _BATCHES_AT = 32, 8
TAILS, _TAILS_AT = 8, 40
_TEXT_AT = 384
MAX_FILE_BYTES = 16 * 1024
MAX_WORKERS = 512
SUFFIX, STACKS_SUFFIX = ".heartbeat", ".stacks"

Attempt = tuple[str, int, int]
"""Experiment, number, attempt."""


class Phase(IntEnum):
    """The work of a worker at a moment. Only in the last two may a long silence be a hang."""

    IDLE = 0
    """Between two steps, held by the scheduler, or without a trial."""
    WAITING = 1
    """At a closed gate, in a THROTTLE rest, or waiting for space on the disk."""
    PREPARING = 2
    """Building, loading or saving: it does not repeat, so there is no usual time to compare with."""
    WORKING = 3


@dataclass(frozen=True)
class WorkerMemory:
    """A worker's memory beside its resident bytes: on its accelerator, and the peak that it claims (memory_claims)."""

    device_bytes: int = 0
    device_shared: bool = False
    claim_bytes: int = 0
    claim_pool: int = 0


@dataclass(frozen=True)
class Progress:
    """A worker's progress: its last batches, and the last steps' tails (the time after the last batch).

    A step without batches is all tail. `in_batches` says that the trainable waits at its gate before every batch,
    those of validation too.
    """

    phase: Phase
    since_mono_s: float
    in_batches: bool = False
    batches_s: tuple[float, ...] = ()
    tails_s: tuple[float, ...] = ()
    memory: WorkerMemory = WorkerMemory()


@dataclass(frozen=True)
class Worker:
    """A worker process and its attempt. `started` tells the process from a later one with its pid (identity.py)."""

    experiment: str
    number: int
    attempt: int
    folder: str
    pid: int
    started: str | None

    @property
    def key(self) -> Attempt:
        return self.experiment, self.number, self.attempt


class Heartbeat:
    """Writes the heartbeat of one attempt; a later one of the same worker replaces it. Not for two threads."""

    def __init__(
        self,
        folder: Path,
        worker: Worker,
        *,
        in_batches: bool,
        mono_s: Callable[[], float] = time.monotonic,
        memory: Callable[[], DeviceMemory] = device_memory,
    ) -> None:
        self.folder, self.pid = folder, worker.pid
        self._mono_s, self._memory = mono_s, memory
        text = json.dumps(asdict(worker)).encode()
        size = -(-(_TEXT_AT + len(text)) // 8) * 8
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{worker.pid}{SUFFIX}"
        fresh = folder / f".{worker.pid}.new"
        fresh.write_bytes((b"\0" * _TEXT_AT + text).ljust(size))
        with fresh.open("r+b") as file:
            self._map = mmap.mmap(file.fileno(), size)
        _HEADER.pack_into(self._map, 0, MAGIC, VERSION)
        self._words, self._doubles = memoryview(self._map).cast("I"), memoryview(self._map).cast("d")
        self._words[_IN_BATCHES] = int(in_batches)
        self._waits = self._steps = 0
        self.phase(Phase.PREPARING)
        fresh.replace(self._path)

    def phase(self, phase: Phase) -> None:
        """Begin a phase now."""
        now_mono_s = self._mono_s()
        self._measure(now_mono_s)
        self._doubles[_SINCE] = now_mono_s
        self._words[_PHASE] = phase

    def claim(self, pool: int, claim_bytes: int) -> None:
        """Say which memory the trial takes from, and the peak that is predicted for it; 0 for none any more."""
        self._words[_POOL], self._doubles[_CLAIM_BYTES] = pool, float(claim_bytes)

    def _measure(self, now_mono_s: float) -> None:
        self._measured_mono_s, found = now_mono_s, self._memory()
        self._words[_SHARED], self._doubles[_DEVICE_BYTES] = int(found.shared), float(found.held_bytes)

    def begin_step(self) -> None:
        self._waits = 0
        self.phase(Phase.WORKING)

    def batch(self, now_mono_s: float) -> None:
        """Record that the worker is at its gate, between two batches of a step."""
        if self._waits:
            # The time before a step's first wait is no batch.
            worked_s = now_mono_s - self._doubles[_SINCE]
            self._doubles[_BATCHES_AT + (self._waits - 1) % BATCHES] = worked_s
        self._waits += 1
        self._doubles[_SINCE] = now_mono_s
        if now_mono_s - self._measured_mono_s >= MEASURE_EVERY_S:
            self._measure(now_mono_s)

    def end_step(self) -> None:
        tail_s = self._mono_s() - self._doubles[_SINCE]
        self._doubles[_TAILS_AT + self._steps % TAILS] = tail_s
        self._steps += 1
        # A worker also waits at its gate before it begins the next step.
        self._waits = 0
        self.phase(Phase.IDLE)

    def drop(self) -> None:
        """Delete the file: the worker has no trial any more."""
        self._path.unlink(missing_ok=True)


def read_heartbeat(path: Path) -> tuple[Worker, Progress] | None:
    """Read a heartbeat; None for a file that is not one. Raises OSError."""
    with path.open("rb") as file:
        body = file.read(MAX_FILE_BYTES)
    if len(body) < _TEXT_AT or len(body) % 8 or _HEADER.unpack_from(body) != (MAGIC, VERSION):
        return None
    words, doubles = memoryview(body).cast("I"), memoryview(body).cast("d")
    try:
        worker, phase = from_json(Worker, json.loads(body[_TEXT_AT:])), Phase(words[_PHASE])
    except (ValueError, TypeError, RecursionError):
        return None
    return worker, Progress(
        phase,
        doubles[_SINCE],
        bool(words[_IN_BATCHES]),
        tuple(value for value in doubles[_BATCHES_AT : _BATCHES_AT + BATCHES].tolist() if value > 0),
        tuple(value for value in doubles[_TAILS_AT : _TAILS_AT + TAILS].tolist() if value > 0),
        WorkerMemory(_whole(doubles[_DEVICE_BYTES]), words[_SHARED] == 1, _whole(doubles[_CLAIM_BYTES]), words[_POOL]),
    )


def _whole(value: float) -> int:
    """Return a count of bytes; 0 for a value that cannot be one, as a broken file may have."""
    return int(value) if 0.0 <= value < 2.0**60 else 0


def heartbeats(folder: Path) -> Iterator[tuple[Path, Worker, Progress]]:
    """Yield each heartbeat of a node with its path; files that are none are left out."""
    paths = sorted(folder.glob(f"*{SUFFIX}"))[:MAX_WORKERS] if folder.is_dir() else []
    for path in paths:
        try:
            found = read_heartbeat(path)
        except OSError:
            continue  # its worker has just deleted it
        if found is not None:
            yield path, *found


def trials_of_workers(folder: Path) -> dict[int, TrialWorker]:
    """Return the pid of each live worker of a node with its trial's scope and its accelerator's memory."""
    return {
        worker.pid: TrialWorker(
            trial_scope(worker.experiment, worker.number), progress.memory.device_bytes, progress.memory.device_shared
        )
        for _, worker, progress in heartbeats(folder)
        if worker.started is not None and started_at(worker.pid) == worker.started
    }
