"""Measures how much memory the trials of this node hold: all of them, and the largest.

Resident bytes show nothing of an accelerator, so workers report what its allocator holds. Where that is the machine's
own memory (Apple silicon) it counts with the resident bytes; a GPU's own memory is a reading of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass

import psutil

from supervisor.clock import TimeSource
from supervisor.sensors.provider import Provider, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading

TOTAL, LARGEST, DEVICE = "trial:memory.total", "trial:memory.largest", "trial:memory.device"


@dataclass(frozen=True)
class TrialWorker:
    """A worker's trial (EXPERIMENT/NUMBER), and what it holds on its accelerator.

    `device_shared` says that these bytes are the machine's own memory.
    """

    trial: str
    device_bytes: int = 0
    device_shared: bool = False

    @property
    def beside_resident_bytes(self) -> int:
        """The bytes of the machine's memory that its resident bytes do not show."""
        return self.device_bytes if self.device_shared else 0


Workers = Callable[[], Mapping[int, TrialWorker]]
"""Returns the pids of the workers that are alive, each with its trial. May raise OSError."""


def resident_bytes(pid: int) -> int | None:
    """Return the resident bytes (RSS) of a process, None if it has ended; shared pages count in each process."""
    try:
        return int(psutil.Process(pid).memory_info().rss)
    except psutil.Error:
        return None


def _sensor(sensor_id: str) -> Sensor:
    return Sensor(sensor_id, Kind.MEMORY, "trial", "bytes")


class TrialMemoryProvider(Provider):
    """Reads the bytes of all trials' workers on this node, of the largest, and on GPUs with memory of their own."""

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
            workers = self._workers()
            sizes = [(self._resident(pid), worker) for pid, worker in workers.items()]
        except OSError as error:
            return [sampler.reading(_sensor(TOTAL), failed(error))]
        known = [(float(size + worker.beside_resident_bytes), worker) for size, worker in sizes if size is not None]
        if not known:
            return []
        (largest, worker), total = max(known, key=lambda one: one[0]), sum(size for size, _ in known)
        own = [worker.device_bytes for _, worker in known if worker.device_bytes and not worker.device_shared]
        return [
            sampler.reading(_sensor(TOTAL), total, f"{len(known)} workers"),
            sampler.reading(_sensor(LARGEST), largest, worker.trial),
            *([sampler.reading(_sensor(DEVICE), float(sum(own)), f"{len(own)} workers")] if own else []),
        ]
