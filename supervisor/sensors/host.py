"""CPU use, memory and swap of this machine, on Linux and macOS, within whatever container we are in."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Protocol

from supervisor.clock import Now, TimeSource
from supervisor.sensors.cgroup import MemoryGroup, memory_groups
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading


@dataclass(frozen=True)
class Amount:
    """A stock of bytes."""

    total_bytes: int
    available_bytes: int


class HostFigures(Protocol):
    """Where the raw figures come from; tests hand in their own."""

    def cpu_percent(self) -> float:
        """All cores' use since the call before, 0 to 100; what the first call returns means nothing."""
        ...

    def memory(self) -> Amount: ...

    def swap(self) -> Amount: ...


class PsutilFigures:
    """psutil's figures. Imported on first use: the cold command line never pays for it."""

    def cpu_percent(self) -> float:
        import psutil

        return float(psutil.cpu_percent(interval=None))

    def memory(self) -> Amount:
        import psutil

        figures = psutil.virtual_memory()
        return Amount(int(figures.total), int(figures.available))

    def swap(self) -> Amount:
        import psutil

        figures = psutil.swap_memory()
        return Amount(int(figures.total), int(figures.total - figures.used))


class HostProvider:
    """Utilisation (percent), memory (percent used, bytes available) and swap (percent and bytes used)."""

    name = "host"

    def __init__(
        self,
        clock: TimeSource,
        figures: HostFigures | None = None,
        groups: Callable[[], list[MemoryGroup]] = memory_groups,
    ) -> None:
        self._clock, self._groups = clock, groups
        self._figures: HostFigures = PsutilFigures() if figures is None else figures
        self._primed = False

    def probe(self) -> Availability:
        try:
            total = self._figures.memory().total_bytes
        except Exception as error:  # noqa: BLE001 - a provider must not take the watchdog with it
            return Availability(False, f"psutil cannot read this host: {error}", "reinstall psutil")
        self._prime()
        return Availability(True, f"{total / 2**30:.1f} GiB of memory")

    def _prime(self) -> None:
        if not self._primed:
            self._figures.cpu_percent()
            self._primed = True

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        return [
            reading
            for part, fallback in (
                (self._cpu, ("host:cpu", Kind.UTILISATION, "cpu", "percent")),
                (self._memory, ("host:memory.used", Kind.MEMORY, "host", "percent")),
                (self._swap, ("host:swap.used", Kind.SWAP, "host", "percent")),
            )
            for reading in self._guarded(sampler, part, fallback)
        ]

    def _guarded(
        self,
        sampler: Sampler,
        part: Callable[[Sampler], list[Reading]],
        fallback: tuple[str, Kind, str, str],
    ) -> list[Reading]:
        try:
            return part(sampler)
        except Exception as error:  # noqa: BLE001 - psutil raises its own, OSError, ValueError: none may stop the rest
            sensor_id, kind, component, unit = fallback
            return [sampler.absent(sensor_id, kind, component, unit, Quality.ERROR, f"{type(error).__name__}: {error}")]

    def _cpu(self, sampler: Sampler) -> list[Reading]:
        if not self._primed:
            self._prime()
            return []
        percent = self._figures.cpu_percent()
        return [sampler.ok("host:cpu", Kind.UTILISATION, "cpu", percent, "percent")]

    def _memory(self, sampler: Sampler) -> list[Reading]:
        host = self._figures.memory()
        limits = [(host.total_bytes, host.available_bytes, "the host")]
        # A group's limit above the host's memory limits nothing.
        limits += [
            (group.limit_bytes, group.available_bytes, f"control group {group.folder}")
            for group in self._groups()
            if group.limit_bytes < host.total_bytes
        ]
        total, available, whose = max(limits, key=lambda limit: 1 - limit[1] / limit[0])
        least = min(limit[1] for limit in limits)
        detail = f"of {total} bytes, by {whose}"
        percent = 100 * (1 - available / total)
        return [
            sampler.ok("host:memory.used", Kind.MEMORY, "host", percent, "percent", detail=detail),
            sampler.ok("host:memory.available", Kind.MEMORY, "host", float(least), "bytes", detail=detail),
        ]

    def _swap(self, sampler: Sampler) -> list[Reading]:
        swap = self._figures.swap()
        used = swap.total_bytes - swap.available_bytes
        if swap.total_bytes <= 0:
            return [sampler.absent("host:swap.used", Kind.SWAP, "host", "percent", Quality.UNSUPPORTED, "no swap here")]
        detail = f"of {swap.total_bytes} bytes"
        return [
            sampler.ok("host:swap.used", Kind.SWAP, "host", 100 * used / swap.total_bytes, "percent", detail=detail),
            sampler.ok("host:swap.used_bytes", Kind.SWAP, "host", float(used), "bytes", detail=detail),
        ]

    def close(self) -> None:
        """Nothing is held open."""
