"""Why a trial's worker is gone. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

WORKER_DIED, OOM_KILLED, HUNG = "worker_died", "oom_killed", "hung"
"""Causes of a lost attempt: no more is known, the kernel killed it for want of memory, we for its silence."""

DEATHS = frozenset({WORKER_DIED, OOM_KILLED, HUNG})
"""What counts towards a plan's `max_failures`. Pauses, shutdowns and a driver's own death are not the trial's doing."""

CLAIM_WITHIN_S = 60.0
"""A kill that no worker's death was laid to for so long was somebody else's."""

MAX_UNCLAIMED = 64
MAX_COUNTERS = 512


@dataclass(frozen=True)
class Death:
    """How an attempt's worker died. `text` is for people; the seconds and `dump`, a path, are of a hung one."""

    cause: str = WORKER_DIED
    text: str | None = None
    node: str = ""
    pid: int | None = None
    silent_s: float | None = None
    median_s: float | None = None
    dump: str | None = None

    def to_json(self) -> dict[str, Any]:
        return asdict(self)

    @classmethod
    def from_json(cls, body: Mapping[str, Any]) -> Death:
        return cls(**body)


@dataclass(frozen=True)
class MemoryKills:
    """The kernel's out-of-memory kills, as its counters tell them, that no worker's death was laid to yet.

    `counts` is what each counter said last; `unclaimed` has a counter and the monotonic second for each kill.
    """

    counts: Mapping[Path, int] = field(default_factory=dict)
    unclaimed: tuple[tuple[Path, float], ...] = ()

    def seen(self, counts: Mapping[Path, int], now_mono_s: float) -> MemoryKills:
        """Some counters were read again; a counter's first reading only shows where it stands."""
        recent = [kill for kill in self.unclaimed if now_mono_s - kill[1] <= CLAIM_WITHIN_S]
        fresh = [
            (counter, now_mono_s)
            for counter, count in counts.items()
            for _ in range(min(MAX_UNCLAIMED, count - self.counts.get(counter, count)))
        ]
        known = [*({**self.counts, **counts}).items()][-MAX_COUNTERS:]
        return MemoryKills(dict(known), tuple([*recent, *fresh][-MAX_UNCLAIMED:]))

    def claimed(self, counter: Path) -> tuple[MemoryKills, bool]:
        """Lay a death to the oldest kill of its counter; False where there was none."""
        found = next((kill for kill in self.unclaimed if kill[0] == counter), None)
        left = list(self.unclaimed)
        if found is not None:
            left.remove(found)
        return MemoryKills(self.counts, tuple(left)), found is not None
