"""Linux temperatures from /sys/class/hwmon, by our own reader.

Not psutil's: it groups by chip name (two sockets merge), drops every sensor when one read says EAGAIN, copies
missing thresholds from each other and passes placeholders through (its issues 2439, 2477 and 2959).
File format: Linux Documentation/hwmon/sysfs-interface.rst; millidegrees Celsius.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

MAX_CHIPS = 64
MAX_CHANNELS = 32
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

ThresholdsOf = Callable[[float | None, float | None], Limits]
"""(the device's max, its crit), each plausible or None -> limits."""


@dataclass(frozen=True)
class _Allowed:
    """A channel that we trust: drivers and labels as shell patterns, and what it measures."""

    drivers: tuple[str, ...]
    labels: tuple[str, ...]
    component: str
    limits: ThresholdsOf
    plausible_celsius: tuple[float, float] = (1.0, 125.0)


# An allow-list, since boards' own chips read 121 and 127.5 from inputs that nobody wired (SYSTIN, AUXTIN),
# acpitz a constant, and a 1-wire bus takes a second per reading and is disturbed by it.
ALLOWED = (
    _Allowed(("coretemp",), ("Package id *",), "cpu", lambda _, crit: default_limits.intel_cpu(crit)),
    _Allowed(("k10temp", "zenpower"), ("Tctl", "Tdie", "Tccd*"), "cpu", lambda _max, _crit: default_limits.AMD_CPU),
    _Allowed(("cpu_thermal", "scpi_sensors"), ("*",), "cpu", lambda _max, _crit: default_limits.SMALL_BOARD_CPU),
    _Allowed(("nvme",), ("Composite",), "ssd", default_limits.nvme, (1.0, 95.0)),
    _Allowed(("amdgpu",), ("edge", "junction"), "gpu", lambda _, crit: default_limits.gpu_memory(crit)),
    _Allowed(("amdgpu", "xe", "i915"), ("mem", "vram"), "vram", lambda _, crit: default_limits.gpu_memory(crit)),
    _Allowed(("xe", "i915"), ("pkg",), "gpu", lambda _, crit: default_limits.nvidia_core(crit)),
    _Allowed(("nouveau",), ("*",), "gpu", lambda _, crit: default_limits.nvidia_core(crit)),
)


@dataclass(frozen=True)
class _Channel:
    sensor_id: str
    input: Path
    allowed: _Allowed
    limits: Limits


@dataclass(frozen=True)
class Ignored:
    """A channel that is not read, and why."""

    chip: str
    label: str
    why: str


class HwmonProvider:
    """Every allow-listed temperature below `root`. `extra_drivers` (shell patterns) opts others in."""

    name = "hwmon"

    def __init__(
        self, clock: TimeSource, root: Path = Path("/sys/class/hwmon"), extra_drivers: Sequence[str] = ()
    ) -> None:
        self._clock, self._root = clock, root
        self._extra = _Allowed(tuple(extra_drivers), ("*",), "host", lambda _max, _crit: Limits())
        self._channels: list[_Channel] | None = None
        self.ignored: list[Ignored] = []

    def probe(self) -> Availability:
        if not self._root.is_dir():
            return Availability(
                False,
                f"no {self._root} here",
                "expected inside virtual machines and on macOS; on bare metal load the chip's driver",
            )
        self._scan()
        if not self._channels:
            seen = ", ".join(sorted({ignored.chip for ignored in self.ignored})) or "none"
            return Availability(
                False,
                f"no trusted temperature among the chips {seen}",
                "load coretemp or k10temp (`modprobe`), or opt a chip in by name",
            )
        return Availability(True, f"{len(self._channels)} temperatures")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        if self._channels is None:
            self._scan()
        return [self._one(sampler, channel) for channel in self._channels or ()]

    def close(self) -> None:
        """Nothing is held open."""

    def _one(self, sampler: Sampler, channel: _Channel) -> Reading:
        component, (low, high) = channel.allowed.component, channel.allowed.plausible_celsius

        def absent(quality: Quality, why: str) -> Reading:
            return sampler.absent(
                channel.sensor_id, Kind.TEMPERATURE, component, "celsius", quality, why, limits=channel.limits
            )

        try:
            celsius = _celsius(channel.input)
        except (OSError, ValueError) as error:
            name = errno.errorcode.get(error.errno or 0, "") if isinstance(error, OSError) else ""
            return absent(Quality.ERROR, name or str(error))
        if not low <= celsius <= high:
            return absent(Quality.IMPLAUSIBLE, f"{celsius:g} is outside {low:g} to {high:g}")
        return sampler.ok(channel.sensor_id, Kind.TEMPERATURE, component, celsius, "celsius", limits=channel.limits)

    def _scan(self) -> None:
        channels: dict[str, _Channel] = {}
        self.ignored = []
        for chip in _chips(self._root):
            driver = _text(chip / "name") or "unnamed"
            labelled = [(file, _text(Path(str(file).removesuffix("input") + "label")) or "") for file in _inputs(chip)]
            labels = {label for _, label in labelled}
            for file, label in labelled:
                allowed = self._allowed(driver, label)
                if allowed is None:
                    self.ignored.append(Ignored(driver, label, "not on the allow-list"))
                    continue
                if label == "Tctl" and "Tdie" in labels:
                    self.ignored.append(Ignored(driver, label, "Tctl is for fans where Tdie is given"))
                    continue
                sensor_id = _unique(f"hwmon:{_address(chip)}/{driver}/{label or file.name}", channels)
                channels[sensor_id] = _Channel(sensor_id, file, allowed, _limits(file, allowed))
        self._channels = list(channels.values())

    def _allowed(self, driver: str, label: str) -> _Allowed | None:
        return next(
            (
                allowed
                for allowed in (*ALLOWED, self._extra)
                if any(fnmatchcase(driver, pattern) for pattern in allowed.drivers)
                and any(fnmatchcase(label, pattern) for pattern in allowed.labels)
            ),
            None,
        )


def _chips(root: Path) -> list[Path]:
    """By the device behind each, since hwmonN is renumbered at every boot."""
    try:
        found = sorted(root.iterdir(), key=lambda chip: (str((chip / "device").resolve()), chip.name))
    except OSError:
        return []
    return found[:MAX_CHIPS]


def _inputs(chip: Path) -> Iterator[Path]:
    yield from sorted(chip.glob("temp*_input"), key=lambda file: (len(file.name), file.name))[:MAX_CHANNELS]


def _address(chip: Path) -> str:
    """What names the device across boots: its PCI address, else the last part of its path."""
    device = chip / "device"
    if not device.exists():
        return "virtual"
    path = str(device.resolve())
    addresses = PCI_ADDRESS.findall(path)
    return addresses[-1] if addresses else path.rsplit("/", 1)[-1]


def _unique(sensor_id: str, taken: dict[str, _Channel]) -> str:
    candidates = (sensor_id if n == 1 else f"{sensor_id}#{n}" for n in range(1, MAX_CHIPS * MAX_CHANNELS))
    return next(candidate for candidate in candidates if candidate not in taken)


def _limits(file: Path, allowed: _Allowed) -> Limits:
    stem = str(file).removesuffix("input")
    present = _celsius_or_none(file)
    maximum, crit = (
        default_limits.plausible_limit(_celsius_or_none(Path(stem + end)), above=present) for end in ("max", "crit")
    )
    return allowed.limits(maximum, crit)


def _celsius(file: Path) -> float:
    """Raises OSError (EAGAIN where a sleeping chip would have made us wait) or ValueError."""
    descriptor = os.open(file, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
    try:
        return int(os.read(descriptor, 64)) / 1000
    finally:
        os.close(descriptor)


def _celsius_or_none(file: Path) -> float | None:
    try:
        return _celsius(file)
    except (OSError, ValueError):
        return None


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()[:64]
    except OSError:
        return None
