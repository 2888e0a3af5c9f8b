"""Out-of-memory kills in this process's own control group, as they happen."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from pathlib import Path

from supervisor.reading import Availability, Kind, Reading
from supervisor.sensors.cgroup import memory_event_counts
from supervisor.sensors.instant import Now, TimeSource
from supervisor.sensors.provider import Sampler


def kill_counts(proc: Path = Path("/proc"), root: Path = Path("/sys/fs/cgroup")) -> dict[str, int]:
    """Out-of-memory kills so far, in this process's control group and on the whole machine, as far as they are told."""
    counts: dict[str, int | None] = {"group": memory_event_counts(proc, root).get("oom_kill")}
    with contextlib.suppress(OSError):
        lines = (proc / "vmstat").read_text().splitlines()
        counts["machine"] = next((int(line.split()[1]) for line in lines if line.startswith("oom_kill ")), None)
    return {name: count for name, count in counts.items() if count is not None}


class MemoryKillsProvider:
    """How many processes the kernel killed for want of memory since the last reading."""

    name = "memory-kills"

    def __init__(self, clock: TimeSource, counts: Callable[[], dict[str, int]] = memory_event_counts) -> None:
        self._clock, self._counts = clock, counts
        self._last: int | None = None

    def probe(self) -> Availability:
        if "oom_kill" not in self._counts():
            return Availability(False, "no control group that counts out-of-memory kills", "expected outside Linux")
        return Availability(True, "counts out-of-memory kills")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        count = self._counts().get("oom_kill")
        if count is None:
            return []
        killed = max(0, count - (count if self._last is None else self._last))
        self._last = count
        detail = f"{killed} processes killed for want of memory"
        return [sampler.ok("cgroup:oom_kill", Kind.EVENT, "memory", float(killed), "count", detail=detail)]

    def close(self) -> None:
        """Nothing is held open."""
