"""Why a trial's worker is gone. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

WORKER_DIED, OOM_KILLED, HUNG = "worker_died", "oom_killed", "hung"
"""Causes of a lost attempt: no more is known, the kernel killed it for want of memory, we for its silence."""

DEATHS = frozenset({WORKER_DIED, OOM_KILLED, HUNG})
"""What counts towards a plan's `max_failures`. Pauses, shutdowns and a driver's own death are not the trial's doing."""

CLAIM_WITHIN_S = 60.0
"""A kill that no worker's death was laid to for so long was somebody else's."""

MAX_UNCLAIMED = 64


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

    A control group and the machine both count the same kill, so what rose most counts.
    """

    counts: Mapping[str, int] = field(default_factory=dict)
    unclaimed_mono_s: tuple[float, ...] = ()

    def seen(self, counts: Mapping[str, int], now_mono_s: float) -> MemoryKills:
        """The counters were read again; the first time only shows where they stand."""
        rises = [count - self.counts[name] for name, count in counts.items() if name in self.counts]
        fresh = [now_mono_s] * max(0, max(rises, default=0))
        recent = [at for at in self.unclaimed_mono_s if now_mono_s - at <= CLAIM_WITHIN_S]
        return MemoryKills(dict(counts), tuple([*recent, *fresh][-MAX_UNCLAIMED:]))

    def claimed(self) -> tuple[MemoryKills, bool]:
        """Lay a death to the oldest kill; False where there was none."""
        return MemoryKills(self.counts, self.unclaimed_mono_s[1:]), bool(self.unclaimed_mono_s)
