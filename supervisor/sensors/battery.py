"""Reads batteries: charge, whether it is drained, temperature; from sysfs on Linux, from ioreg on macOS.

Formats: Linux Documentation/ABI/testing/sysfs-class-power (percent, tenths of a degree Celsius); a property list from
`ioreg -arn AppleSmartBattery`.
"""

from __future__ import annotations

import plistlib
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.parsers.expat import ExpatError

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits, sysfs
from supervisor.sensors.provider import Absence, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Reading

MAX_SUPPLIES = 32
PLAUSIBLE_CELSIUS = (1.0, 95.0)
COMMAND = ("ioreg", "-arn", "AppleSmartBattery")
MAX_BYTES = 4 * 2**20
EVERY_S = 30.0
NO_BATTERY = "this machine has no battery"


def _charge(sampler: Sampler, battery: str, percent: float | Absence, detail: str | None = None) -> Reading:
    return sampler.reading(Sensor(f"battery:{battery}/charge", Kind.BATTERY, "battery", "percent"), percent, detail)


def _discharging(sampler: Sampler, battery: str, drained: bool, detail: str | None = None) -> Reading:
    sensor = Sensor(f"battery:{battery}/discharging", Kind.BATTERY, "battery", "flag")
    return sampler.reading(sensor, float(drained), detail)


def _temperature(sampler: Sampler, battery: str, celsius: float) -> Reading:
    sensor = Sensor(
        f"battery:{battery}/temperature", Kind.TEMPERATURE, "battery", "celsius", default_limits.BATTERY,
        PLAUSIBLE_CELSIUS,
    )  # fmt: skip
    return sampler.reading(sensor, celsius)


class BatteryProvider(Provider):
    """Reads the system's batteries on Linux; those of mice and headsets (scope Device) are left out."""

    name = "battery"

    def __init__(self, clock: TimeSource, root: Path = Path("/sys/class/power_supply")) -> None:
        self._clock, self._root = clock, root

    def probe(self) -> Availability:
        found = self._batteries()
        if not found:
            return Availability(False, NO_BATTERY)
        return Availability(True, ", ".join(battery.name for battery in found))

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        return [reading for battery in self._batteries() for reading in _linux_readings(sampler, battery)]

    def _batteries(self) -> list[Path]:
        try:
            supplies = sorted(self._root.iterdir())[:MAX_SUPPLIES]
        except OSError:
            return []
        return [supply for supply in supplies if _is_battery_of_system(supply)]


def _is_battery_of_system(supply: Path) -> bool:
    """Return whether a supply is a battery of the machine itself; an empty bay of one says that it is not present."""
    kind, scope, present = (sysfs.text(supply / name) for name in ("type", "scope", "present"))
    return kind == "Battery" and scope != "Device" and present != "0"


def _linux_readings(sampler: Sampler, folder: Path) -> list[Reading]:
    charge, status = sysfs.whole(folder / "capacity"), sysfs.text(folder / "status")
    tenths = sysfs.whole(folder / "temp")
    if charge is None or charge < 0:
        return [_charge(sampler, folder.name, failed("its charge cannot be read"))]
    readings = [
        _charge(sampler, folder.name, float(charge), status),
        _discharging(sampler, folder.name, status == "Discharging"),
    ]
    return readings if tenths is None else [*readings, _temperature(sampler, folder.name, tenths / 10)]


def _ioreg() -> bytes:
    """Return the output of ioreg. Raises OSError and subprocess.SubprocessError."""
    return subprocess.run(COMMAND, capture_output=True, check=True, timeout=1.5).stdout[:MAX_BYTES]


class MacBatteryProvider(Provider):
    """Reads the battery of a Mac. Twice a minute only: each time takes a process."""

    name = "mac-battery"

    def __init__(self, clock: TimeSource, ask: Callable[[], bytes] = _ioreg) -> None:
        self._clock, self._ask = clock, ask
        self._asked: Now | None = None
        self._entry: dict[str, Any] | None = None
        self._problem = NO_BATTERY

    def probe(self) -> Availability:
        self._refresh(Now.of(self._clock))
        if self._entry is None:
            return Availability(False, self._problem)
        return Availability(True, "AppleSmartBattery")

    def read(self) -> list[Reading]:
        now = Now.of(self._clock)
        if self._asked is None or now.mono_s - self._asked.mono_s >= EVERY_S:
            self._refresh(now)
        sampler = Sampler(self.name, now)
        if self._entry is None:
            return [_charge(sampler, "mac", failed(self._problem))]
        return _mac_readings(sampler, self._entry)

    def _refresh(self, now: Now) -> None:
        self._asked = now
        try:
            entries = plistlib.loads(self._ask())
        except (OSError, subprocess.SubprocessError, plistlib.InvalidFileException, ExpatError, ValueError) as error:
            self._entry, self._problem = None, f"ioreg: {error}"
            return
        found = entries[0] if isinstance(entries, list) and entries else None
        self._entry, self._problem = (found if isinstance(found, dict) else None), NO_BATTERY


def _mac_readings(sampler: Sampler, entry: dict[str, Any]) -> list[Reading]:
    charge, full = _whole(entry, "CurrentCapacity"), _whole(entry, "MaxCapacity")
    if charge is None or not full:
        return [_charge(sampler, "mac", failed("ioreg shows no capacity"))]
    plugged = entry.get("ExternalConnected") is True
    # A negative current while plugged in: the adapter supplies less than the work takes.
    amperage = _whole(entry, "InstantAmperage")
    # ioreg prints negative currents as unsigned 64-bit numbers.
    drained = amperage < 0 or amperage >= 2**63 if amperage is not None else not plugged
    readings = [
        _charge(sampler, "mac", min(100.0, 100 * charge / full)),
        _discharging(sampler, "mac", drained, "although plugged in" if drained and plugged else None),
    ]
    # Hundredths of a degree; on models with another unit the value is implausible.
    hundredths = _whole(entry, "Temperature")
    return readings if hundredths is None else [*readings, _temperature(sampler, "mac", hundredths / 100)]


def _whole(entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None
