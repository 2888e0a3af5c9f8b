"""Reads Linux temperatures from /sys/class/hwmon.

psutil's reader is not used: it groups by chip name (two sockets merge), drops every sensor when one read fails with
EAGAIN, replaces missing thresholds by each other and passes placeholders on (its issues 2439, 2477 and 2959).
File format: Linux Documentation/hwmon/sysfs-interface.rst; millidegrees Celsius.
"""

from __future__ import annotations

import errno
import os
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path

from supervisor.clock import TimeSource
from supervisor.sensors import default_limits, sysfs
from supervisor.sensors.provider import NO_LIMITS, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Limits, Reading

MAX_CHIPS = 64
MAX_CHANNELS = 32
PCI_ADDRESS = re.compile(r"[0-9a-f]{4}:[0-9a-f]{2}:[0-9a-f]{2}\.[0-7]")

LimitsOf = Callable[[float | None, float | None], Limits]
"""Maps the device's max and crit, each plausible or None, to limits."""


@dataclass(frozen=True)
class _Allowed:
    """Trusted channels: drivers and labels as shell patterns, and the component that they measure."""

    drivers: tuple[str, ...]
    labels: tuple[str, ...]
    component: str
    limits: LimitsOf
    plausible_celsius: tuple[float, float] = (1.0, 125.0)


# An allow-list: chips of mainboards show 121 and 127.5 for unconnected inputs (SYSTIN, AUXTIN), acpitz shows a
# constant, and each reading of a 1-wire bus takes a second and disturbs it.
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
    sensor: Sensor
    input: Path


@dataclass(frozen=True)
class Ignored:
    """A channel that is not read, and the reason."""

    chip: str
    label: str
    why: str


class HwmonProvider(Provider):
    """Reads every temperature of the allow-list below `root`; `extra_drivers` (shell patterns) adds drivers."""

    name = "hwmon"

    def __init__(
        self, clock: TimeSource, root: Path = Path("/sys/class/hwmon"), extra_drivers: Sequence[str] = ()
    ) -> None:
        self._clock, self._root = clock, root
        self._extra = _Allowed(tuple(extra_drivers), ("*",), "host", lambda _max, _crit: NO_LIMITS)
        self._channels: list[_Channel] | None = None
        self.ignored: list[Ignored] = []

    def probe(self) -> Availability:
        if not self._root.is_dir():
            cure = "expected inside virtual machines and on macOS; on bare metal load the chip's driver"
            return Availability(False, f"{self._root} does not exist", cure)
        self._scan()
        if not self._channels:
            seen = ", ".join(sorted({ignored.chip for ignored in self.ignored})) or "none"
            cure = "load coretemp or k10temp (`modprobe`), or allow a chip by name"
            return Availability(False, f"no trusted temperature among the chips {seen}", cure)
        return Availability(True, f"{len(self._channels)} temperatures")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        if self._channels is None:
            self._scan()
        return [self._one(sampler, channel) for channel in self._channels or ()]

    def _one(self, sampler: Sampler, channel: _Channel) -> Reading:
        try:
            return sampler.reading(channel.sensor, _celsius(channel.input))
        except ValueError as error:
            return sampler.reading(channel.sensor, failed(error))
        except OSError as error:
            return sampler.reading(channel.sensor, failed(errno.errorcode.get(error.errno or 0) or error))

    def _scan(self) -> None:
        channels: dict[str, _Channel] = {}
        self.ignored = []
        for chip in _chips(self._root):
            driver = sysfs.text(chip / "name") or "unnamed"
            labels = {file: sysfs.text(Path(str(file).removesuffix("input") + "label")) or "" for file in _inputs(chip)}
            for file, label in labels.items():
                allowed = self._allowed(driver, label)
                if allowed is None:
                    self.ignored.append(Ignored(driver, label, "not on the allow-list"))
                elif label == "Tctl" and "Tdie" in labels.values():
                    self.ignored.append(Ignored(driver, label, "Tctl is for fan control; Tdie is the temperature"))
                else:
                    sensor_id = _unique(f"hwmon:{_address(chip)}/{driver}/{label or file.name}", channels)
                    channels[sensor_id] = _Channel(_sensor(sensor_id, file, allowed), file)
        self._channels = list(channels.values())

    def _allowed(self, driver: str, label: str) -> _Allowed | None:
        def fits(allowed: _Allowed) -> bool:
            return any(fnmatchcase(driver, pattern) for pattern in allowed.drivers) and any(
                fnmatchcase(label, pattern) for pattern in allowed.labels
            )

        return next(filter(fits, (*ALLOWED, self._extra)), None)


def _chips(root: Path) -> list[Path]:
    """Return the chips, ordered by their devices: hwmonN has another number at every boot."""
    try:
        found = sorted(root.iterdir(), key=lambda chip: (str((chip / "device").resolve()), chip.name))
    except OSError:
        return []
    return found[:MAX_CHIPS]


def _inputs(chip: Path) -> list[Path]:
    return sorted(chip.glob("temp*_input"), key=lambda file: (len(file.name), file.name))[:MAX_CHANNELS]


def _address(chip: Path) -> str:
    """Return a name of the device that survives a reboot: its PCI address, else the end of its path."""
    device = chip / "device"
    if not device.exists():
        return "virtual"
    path = str(device.resolve())
    addresses = PCI_ADDRESS.findall(path)
    return addresses[-1] if addresses else path.rsplit("/", 1)[-1]


def _unique(sensor_id: str, taken: dict[str, _Channel]) -> str:
    candidates = (sensor_id if n == 1 else f"{sensor_id}#{n}" for n in range(1, MAX_CHIPS * MAX_CHANNELS))
    return next(candidate for candidate in candidates if candidate not in taken)


def _sensor(sensor_id: str, file: Path, allowed: _Allowed) -> Sensor:
    stem = str(file).removesuffix("input")
    present = _celsius_or_none(file)
    maximum, crit = (
        default_limits.plausible_limit(_celsius_or_none(Path(stem + end)), above=present) for end in ("max", "crit")
    )
    limits = allowed.limits(maximum, crit)
    return Sensor(sensor_id, Kind.TEMPERATURE, allowed.component, "celsius", limits, allowed.plausible_celsius)


def _celsius(file: Path) -> float:
    """Return the temperature in the file. Raises OSError (EAGAIN instead of a wait for a sleeping chip), ValueError."""
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
