"""Measures how much memory the trials of this node hold: all of them, and the largest."""

from __future__ import annotations

from collections.abc import Callable, Mapping

import psutil

from supervisor.clock import TimeSource
from supervisor.sensors.provider import Provider, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading

TOTAL, LARGEST = "trial:memory.total", "trial:memory.largest"

Workers = Callable[[], Mapping[int, str]]
"""Returns the pids of the workers that are alive, each with its trial (EXPERIMENT/NUMBER). May raise OSError."""


def resident_bytes(pid: int) -> int | None:
    """Return the resident bytes (RSS) of a process, None if it has ended; shared pages count in each process."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _sensor(sensor_id: str) -> Sensor:
    return Sensor(sensor_id, Kind.MEMORY, "trial", "bytes")


class TrialMemoryProvider(Provider):
    """Reads the bytes of all trials' workers on this node, and of the largest."""

    name = "trial-memory"

    def __init__(
        self, workers: Workers, clock: TimeSource, resident: Callable[[int], int | None] = resident_bytes
    ) -> None:
        self._workers, self._clock, self._resident = workers, clock, resident

    def probe(self) -> Availability:
        return Availability(True, "workers write heartbeat files")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        try:
            sizes = [(self._resident(pid), trial) for pid, trial in self._workers().items()]
        except OSError as error:
            return [sampler.reading(_sensor(TOTAL), failed(error))]
        known = [(float(size), trial) for size, trial in sizes if size is not None]
        if not known:
            return []
        (largest, trial), total = max(known), sum(size for size, _ in known)
        return [
            sampler.reading(_sensor(TOTAL), total, f"{len(known)} workers"),
            sampler.reading(_sensor(LARGEST), largest, trial),
        ]
