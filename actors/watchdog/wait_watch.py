"""Sees which trials of a node wait at a closed gate, by their heartbeats: only then has a pause taken effect."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from pathlib import Path

from actors.trial.heartbeat import Attempt, Phase, Progress, Worker, heartbeats

PERIOD_S = 0.2


def waiting(
    before: Mapping[Attempt, float], found: Iterable[tuple[Worker, Progress]], closed: Callable[[int], bool]
) -> dict[Attempt, float]:
    """Return the attempts that wait at a closed gate, each with the time since when.

    `closed` says whether the flag forbids a trial's work. An attempt that waited `before` does so until its heartbeat
    moves, even if the flag is open by then. A THROTTLE rest alone does not count.
    """
    return {
        worker.key: progress.since_mono_s
        for worker, progress in found
        if progress.phase is Phase.WAITING
        and (closed(worker.number) or before.get(worker.key) == progress.since_mono_s)
    }


class WaitWatch:
    """Keeps the waiting attempts of one node. `look` is for one thread, `attempts` for any."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._waiting: dict[Attempt, float] = {}

    @property
    def attempts(self) -> list[Attempt]:
        return list(self._waiting)

    def look(self, closed: Callable[[int], bool]) -> bool:
        """Read the heartbeats; return whether other attempts wait than before."""
        before = self._waiting
        found = ((worker, progress) for _, worker, progress in heartbeats(self._folder))
        self._waiting = waiting(before, found, closed)
        return self._waiting.keys() != before.keys()
