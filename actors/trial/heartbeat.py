"""A worker's note of its progress, which the node's watchdog reads without asking it: a small file, by mmap.

Layout, little endian: magic `SWPB` (4), layout version (u32), phase (u32, as in hang_detection.Phase), whether the
trainable works in batches (u32, 1 or 0), zeros; at byte 32 the time of the last beat (f64, seconds of CLOCK_MONOTONIC);
from 64 the seconds of the last 32 batches, from 320 those of the last 8 tails (f64 each, 0 for none yet); from 384 to
the end whose it is, as JSON. Each field is aligned and written by itself: the time before the phase, so that a reader
who takes the phase first never sees a new phase with an old time.
"""

from __future__ import annotations

import json
import mmap
import struct
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

from actors.trial.gate import flag_path
from actors.watchdog.hang_detection import Phase, Progress
from supervisor.domain.codec import check_fields

MAGIC, VERSION = b"SWPB", 1
_HEADER = struct.Struct("<4sI")
_PHASE, _IN_BATCHES = 2, 3
_SINCE = 4
BATCHES, _BATCHES_AT = 32, 8
TAILS, _TAILS_AT = 8, 40
_TEXT_AT = 384
MAX_FILE_BYTES = 16 * 1024
SUFFIX, STACKS_SUFFIX = ".beat", ".stacks"


@dataclass(frozen=True)
class Whose:
    """The attempt that a worker is at. `started` tells the process from a later one of its pid (process_identity)."""

    experiment: str
    number: int
    attempt: int
    folder: str
    pid: int
    started: str | None


def beats_folder(prefix: str, node: str) -> Path:
    """Where the workers of a node note their progress."""
    return Path(f"{flag_path(prefix, node)}.beats")


class Beat:
    """A worker's side, for one attempt; a later one of the same worker takes the file's place. Not for two threads."""

    def __init__(
        self, folder: Path, whose: Whose, *, in_batches: bool, mono_s: Callable[[], float] = time.monotonic
    ) -> None:
        self._mono_s = mono_s
        text = json.dumps(asdict(whose)).encode()
        size = -(-(_TEXT_AT + len(text)) // 8) * 8
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        self._path = folder / f"{whose.pid}{SUFFIX}"
        fresh = folder / f".{whose.pid}.new"
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
        """From now on the worker is at this."""
        self._doubles[_SINCE] = self._mono_s()
        self._words[_PHASE] = phase

    def begin_step(self) -> None:
        self._waits = 0
        self.phase(Phase.WORKING)

    def batch(self, now_mono_s: float) -> None:
        """The worker is at its gate, between two batches of a step."""
        if self._waits:
            # What comes before a step's first wait is no batch.
            worked_s = now_mono_s - self._doubles[_SINCE]
            self._doubles[_BATCHES_AT + (self._waits - 1) % BATCHES] = worked_s
        self._waits += 1
        self._doubles[_SINCE] = now_mono_s

    def end_step(self) -> None:
        tail_s = self._mono_s() - self._doubles[_SINCE]
        self._doubles[_TAILS_AT + self._steps % TAILS] = tail_s
        self._steps += 1
        # A worker waits at its gate before it begins the next step, too.
        self._waits = 0
        self.phase(Phase.IDLE)

    def drop(self) -> None:
        """The worker holds no trial any more."""
        self._path.unlink(missing_ok=True)


def read_beat(path: Path) -> tuple[Whose, Progress] | None:
    """A worker's note; None for a file that is none. Raises OSError."""
    with path.open("rb") as file:
        body = file.read(MAX_FILE_BYTES)
    if len(body) < _TEXT_AT or len(body) % 8 or _HEADER.unpack_from(body) != (MAGIC, VERSION):
        return None
    words, doubles = memoryview(body).cast("I"), memoryview(body).cast("d")
    try:
        whose, phase = Whose(**json.loads(body[_TEXT_AT:])), Phase(words[_PHASE])
        check_fields(whose)
    except (ValueError, TypeError, RecursionError):
        return None
    return whose, Progress(
        phase,
        doubles[_SINCE],
        bool(words[_IN_BATCHES]),
        tuple(value for value in doubles[_BATCHES_AT : _BATCHES_AT + BATCHES].tolist() if value > 0),
        tuple(value for value in doubles[_TAILS_AT : _TAILS_AT + TAILS].tolist() if value > 0),
    )
