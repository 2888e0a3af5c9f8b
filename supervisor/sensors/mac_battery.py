"""Battery charge, drain and temperature of a Mac, from `ioreg -arn AppleSmartBattery` (a property list)."""

from __future__ import annotations

import plistlib
import subprocess
from collections.abc import Callable
from typing import Any
from xml.parsers.expat import ExpatError

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

COMMAND = ("ioreg", "-arn", "AppleSmartBattery")
MAX_BYTES = 4 * 2**20
EVERY_S = 30.0
PLAUSIBLE_CELSIUS = (1.0, 95.0)


def _ioreg() -> bytes:
    """Raises OSError and subprocess.SubprocessError."""
    return subprocess.run(COMMAND, capture_output=True, check=True, timeout=1.5).stdout[:MAX_BYTES]


class MacBatteryProvider:
    """Asks twice a minute: a battery moves slowly, and each question is a process."""

    name = "mac-battery"

    def __init__(self, clock: TimeSource, ask: Callable[[], bytes] = _ioreg) -> None:
        self._clock, self._ask = clock, ask
        self._asked: Now | None = None
        self._entry: dict[str, Any] | None = None
        self._why = "no battery here"

    def probe(self) -> Availability:
        self._refresh(Now.of(self._clock))
        if self._entry is None:
            return Availability(False, self._why)
        return Availability(True, "AppleSmartBattery")

    def read(self) -> list[Reading]:
        now = Now.of(self._clock)
        if self._asked is None or now.mono_s - self._asked.mono_s >= EVERY_S:
            self._refresh(now)
        sampler = Sampler(self.name, now)
        if self._entry is None:
            why = self._why
            return [sampler.absent("battery:mac/charge", Kind.BATTERY, "battery", "percent", Quality.ERROR, why)]
        return _battery_readings(self._entry, sampler)

    def close(self) -> None:
        """Nothing is held open."""

    def _refresh(self, now: Now) -> None:
        self._asked = now
        try:
            entries = plistlib.loads(self._ask())
        except (OSError, subprocess.SubprocessError, plistlib.InvalidFileException, ExpatError, ValueError) as error:
            self._entry, self._why = None, f"ioreg: {error}"
            return
        found = entries[0] if isinstance(entries, list) and entries else None
        self._entry, self._why = (found if isinstance(found, dict) else None), "no battery here"


def _battery_readings(entry: dict[str, Any], sampler: Sampler) -> list[Reading]:
    charge, most = _whole(entry, "CurrentCapacity"), _whole(entry, "MaxCapacity")
    if charge is None or not most:
        return [
            sampler.absent("battery:mac/charge", Kind.BATTERY, "battery", "percent", Quality.ERROR, "no capacity given")
        ]
    plugged = entry.get("ExternalConnected") is True
    # Negative while plugged in means that the adapter gives less than the work takes.
    amperage = _signed(_whole(entry, "InstantAmperage"))
    drained = amperage < 0 if amperage is not None else not plugged
    readings = [
        sampler.ok("battery:mac/charge", Kind.BATTERY, "battery", min(100.0, 100 * charge / most), "percent"),
        sampler.ok(
            "battery:mac/discharging",
            Kind.BATTERY,
            "battery",
            1.0 if drained else 0.0,
            "flag",
            detail="although plugged in" if drained and plugged else None,
        ),
    ]
    hundredths = _whole(entry, "Temperature")
    if hundredths is not None:
        celsius = hundredths / 100
        low, high = PLAUSIBLE_CELSIUS
        sensor_id, kind = "battery:mac/temperature", Kind.TEMPERATURE
        # The unit differs between models, so what is no battery's temperature is none at all.
        readings.append(
            sampler.ok(sensor_id, kind, "battery", celsius, "celsius", limits=default_limits.BATTERY)
            if low <= celsius <= high
            else sampler.absent(
                sensor_id,
                kind,
                "battery",
                "celsius",
                Quality.IMPLAUSIBLE,
                f"{celsius:g} is outside {low:g} to {high:g}",
            )
        )
    return readings


def _whole(entry: dict[str, Any], key: str) -> int | None:
    value = entry.get(key)
    return value if isinstance(value, int) and not isinstance(value, bool) else None


def _signed(value: int | None) -> int | None:
    """ioreg prints negative currents as unsigned 64-bit numbers."""
    return value - 2**64 if value is not None and value >= 2**63 else value
