"""Reads CPU use, memory and swap of this machine or container, on Linux and macOS."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import psutil

from supervisor.clock import TimeSource
from supervisor.sensors.cgroup import MemoryGroup, memory_groups
from supervisor.sensors.provider import Absence, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

CPU = Sensor("host:cpu", Kind.UTILISATION, "cpu", "percent")
MEMORY_USED = Sensor("host:memory.used", Kind.MEMORY, "host", "percent")
MEMORY_AVAILABLE = Sensor("host:memory.available", Kind.MEMORY, "host", "bytes")
SWAP_USED = Sensor("host:swap.used", Kind.SWAP, "host", "percent")
SWAP_USED_BYTES = Sensor("host:swap.used_bytes", Kind.SWAP, "host", "bytes")


@dataclass(frozen=True)
class Amount:
    """A stock of bytes."""

    total_bytes: int
    available_bytes: int


class HostFigures:
    """Reads the raw figures from psutil; tests have their own."""

    def cpu_percent(self) -> float:
        """Return the use of all cores since the last call, 0 to 100; the first result has no meaning."""
        return float(psutil.cpu_percent(interval=None))

    def memory(self) -> Amount:
        figures = psutil.virtual_memory()
        return Amount(int(figures.total), int(figures.available))

    def swap(self) -> Amount:
        figures = psutil.swap_memory()
        return Amount(int(figures.total), int(figures.total - figures.used))


class HostProvider(Provider):
    """Reads utilisation (percent), memory (percent used, bytes available) and swap (percent and bytes used)."""

    name = "host"

    def __init__(
        self,
        clock: TimeSource,
        figures: HostFigures | None = None,
        groups: Callable[[], list[MemoryGroup]] = memory_groups,
    ) -> None:
        self._clock, self._groups = clock, groups
        self._figures = figures or HostFigures()
        self._primed = False

    def probe(self) -> Availability:
        try:
            total = self._figures.memory().total_bytes
        except Exception as error:  # noqa: BLE001 - a provider must not end the watchdog
            return Availability(False, f"psutil cannot read this machine: {error}", "reinstall psutil")
        self._prime()
        return Availability(True, f"{total / 2**30:.1f} GiB of memory")

    def _prime(self) -> None:
        if not self._primed:
            self._figures.cpu_percent()
            self._primed = True

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        readings: list[Reading] = []
        for part, sensor in ((self._cpu, CPU), (self._memory, MEMORY_USED), (self._swap, SWAP_USED)):
            try:
                readings += part(sampler)
            except Exception as error:  # noqa: BLE001 - psutil's own, OSError, ValueError: the other parts go on
                readings.append(sampler.reading(sensor, failed(f"{type(error).__name__}: {error}")))
        return readings

    def _cpu(self, sampler: Sampler) -> list[Reading]:
        if not self._primed:
            self._prime()
            return []
        return [sampler.reading(CPU, self._figures.cpu_percent())]

    def _memory(self, sampler: Sampler) -> list[Reading]:
        host = self._figures.memory()
        limits = [(host.total_bytes, host.available_bytes, "the host")]
        # A group's limit above the host's memory has no effect.
        limits += [
            (group.limit_bytes, group.available_bytes, f"control group {group.folder}")
            for group in self._groups()
            if group.limit_bytes < host.total_bytes
        ]
        total, available, owner = max(limits, key=lambda limit: 1 - limit[1] / limit[0])
        least = min(limit[1] for limit in limits)
        detail = f"of {total} bytes, by {owner}"
        return [
            sampler.reading(MEMORY_USED, 100 * (1 - available / total), detail),
            sampler.reading(MEMORY_AVAILABLE, float(least), detail),
        ]

    def _swap(self, sampler: Sampler) -> list[Reading]:
        swap = self._figures.swap()
        used = swap.total_bytes - swap.available_bytes
        if swap.total_bytes <= 0:
            return [sampler.reading(SWAP_USED, Absence(Quality.UNSUPPORTED, "this machine has no swap"))]
        detail = f"of {swap.total_bytes} bytes"
        return [
            sampler.reading(SWAP_USED, 100 * used / swap.total_bytes, detail),
            sampler.reading(SWAP_USED_BYTES, float(used), detail),
        ]
