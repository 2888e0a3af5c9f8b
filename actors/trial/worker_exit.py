"""The causes of a worker's death. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path

WORKER_DIED, OOM_KILLED, HUNG = "worker_died", "oom_killed", "hung"
"""Causes of a lost attempt: not known; the kernel killed it when memory ran out; we ended it for its silence."""

DEATHS = frozenset({WORKER_DIED, OOM_KILLED, HUNG})
"""The causes that count towards a plan's `max_failures`: not pauses, shutdowns and a driver's own death."""

CLAIM_WITHIN_S = 60.0
"""An older kill that explains no worker's death was of another process."""

MAX_UNCLAIMED = 64
MAX_COUNTERS = 512


@dataclass(frozen=True)
class Death:
    """The death of an attempt's worker. `text` is for people; a hung one has the seconds and `dump`, a path."""

    cause: str = WORKER_DIED
    text: str | None = None
    node: str = ""
    pid: int | None = None
    silent_s: float | None = None
    median_s: float | None = None
    dump: str | None = None


@dataclass(frozen=True)
class MemoryKills:
    """The kernel's out-of-memory kills that do not explain a worker's death yet.

    `counts` has the last value of each of the kernel's counters; `unclaimed` a counter and the monotonic second of each
    kill.
    """

    counts: Mapping[Path, int] = field(default_factory=dict)
    unclaimed: tuple[tuple[Path, float], ...] = ()

    def seen(self, counts: Mapping[Path, int], now_mono_s: float) -> MemoryKills:
        """Return the kills after counters were read again; a counter's first value is only its start."""
        recent = [kill for kill in self.unclaimed if now_mono_s - kill[1] <= CLAIM_WITHIN_S]
        fresh = [
            (counter, now_mono_s)
            for counter, count in counts.items()
            for _ in range(min(MAX_UNCLAIMED, count - self.counts.get(counter, count)))
        ]
        known = [*({**self.counts, **counts}).items()][-MAX_COUNTERS:]
        return MemoryKills(dict(known), tuple([*recent, *fresh][-MAX_UNCLAIMED:]))

    def claimed(self, counter: Path) -> tuple[MemoryKills, bool]:
        """Explain a death by the oldest kill of its counter; return the kills left, and whether there was one."""
        found = next((kill for kill in self.unclaimed if kill[0] == counter), None)
        left = list(self.unclaimed)
        if found is not None:
            left.remove(found)
        return MemoryKills(self.counts, tuple(left)), found is not None
