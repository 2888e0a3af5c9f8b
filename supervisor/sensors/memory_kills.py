"""Out-of-memory kills in this process's own control group, as they happen."""

from __future__ import annotations

from collections.abc import Callable

from supervisor.clock import Now, TimeSource
from supervisor.sensors.cgroup import memory_event_counts
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Reading


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
