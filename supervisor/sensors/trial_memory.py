"""How much memory the trials of this node hold: each worker leaves a note with its trial, named by its pid."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from supervisor.clock import Now, TimeSource
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

MAX_WORKERS = 512
MAX_NOTE_SIGNS = 200
_PID = re.compile("[1-9][0-9]{0,8}")
TOTAL, LARGEST = "trial:memory.total", "trial:memory.largest"

Resident = Callable[[int, float], int | None]
"""(pid, wall time of its note) -> bytes resident; None when that process is gone and another may bear its pid."""


@dataclass(frozen=True)
class _Worker:
    pid: int
    trial: str
    resident_bytes: int


def note_trial(folder: Path, pid: int, experiment: str, number: int) -> None:
    """A worker says which trial it works on; a later note of the same worker takes the earlier's place."""
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    fresh = folder / f".{pid}.new"
    fresh.write_text(f"{experiment}/{number}")
    fresh.replace(folder / str(pid))


def drop_note(folder: Path, pid: int) -> None:
    """The worker holds no trial any more."""
    (folder / str(pid)).unlink(missing_ok=True)


def resident_bytes(pid: int, noted_wall_s: float) -> int | None:
    """Bytes resident (RSS) of the process that left a note at `noted_wall_s`; shared pages count in each."""
    import psutil

    try:
        process = psutil.Process(pid)
        # A second's grace: the clock that dates files is coarser than the one that dates processes.
        return int(process.memory_info().rss) if process.create_time() <= noted_wall_s + 1.0 else None
    except psutil.Error:
        return None


def _said(note: Path) -> str:
    with note.open(encoding="utf-8", errors="replace") as file:
        return file.read(MAX_NOTE_SIGNS)


class TrialMemoryProvider:
    """Bytes of all trials' workers on this node, and of the largest, which the detail names."""

    name = "trial-memory"

    def __init__(self, folder: Path, clock: TimeSource, resident: Resident = resident_bytes) -> None:
        self._folder, self._clock, self._resident = folder, clock, resident

    def probe(self) -> Availability:
        return Availability(True, "workers note their trials")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        try:
            workers = self._workers()
        except OSError as error:
            return [sampler.absent(TOTAL, Kind.MEMORY, "trial", "bytes", Quality.ERROR, str(error))]
        if not workers:
            return []
        largest = max(workers, key=lambda worker: (worker.resident_bytes, worker.trial))
        total = float(sum(worker.resident_bytes for worker in workers))
        return [
            sampler.ok(TOTAL, Kind.MEMORY, "trial", total, "bytes", detail=f"{len(workers)} workers"),
            sampler.ok(LARGEST, Kind.MEMORY, "trial", float(largest.resident_bytes), "bytes", detail=largest.trial),
        ]

    def close(self) -> None:
        """Nothing is held open."""

    def _workers(self) -> list[_Worker]:
        if not self._folder.is_dir():
            return []
        found = []
        for note in sorted(self._folder.iterdir())[:MAX_WORKERS]:
            if not _PID.fullmatch(note.name):
                continue
            try:
                noted_s, trial = note.stat().st_mtime, _said(note)
            except OSError:
                continue  # its worker has just dropped it, or it is no worker's
            resident = self._resident(int(note.name), noted_s)
            if resident is None:
                note.unlink(missing_ok=True)
            else:
                found.append(_Worker(int(note.name), trial, resident))
        return found
