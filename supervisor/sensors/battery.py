"""Battery charge, whether it is being drained, and its temperature, on Linux.

Format: Linux Documentation/ABI/testing/sysfs-class-power: percent, tenths of a degree Celsius.
"""

from __future__ import annotations

from pathlib import Path

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Availability, Kind, Quality, Reading

MAX_SUPPLIES = 32
PLAUSIBLE_CELSIUS = (1.0, 95.0)


class BatteryProvider:
    """The system's own batteries; those of mice and headsets (scope Device) say nothing of this machine."""

    name = "battery"

    def __init__(self, clock: TimeSource, root: Path = Path("/sys/class/power_supply")) -> None:
        self._clock, self._root = clock, root

    def probe(self) -> Availability:
        found = self._batteries()
        if not found:
            return Availability(False, "no battery here")
        return Availability(True, ", ".join(battery.name for battery in found))

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
        return [reading for battery in self._batteries() for reading in _one(sampler, battery)]

    def close(self) -> None:
        """Nothing is held open."""

    def _batteries(self) -> list[Path]:
        try:
            supplies = sorted(self._root.iterdir())[:MAX_SUPPLIES]
        except OSError:
            return []
        return [s for s in supplies if _text(s / "type") == "Battery" and _text(s / "scope") != "Device"]


def _one(sampler: Sampler, battery: Path) -> list[Reading]:
    prefix = f"battery:{battery.name}"
    charge, status, tenths = (_text(battery / name) for name in ("capacity", "status", "temp"))
    if charge is None or not charge.isdigit():
        absent = sampler.absent(
            f"{prefix}/charge", Kind.BATTERY, "battery", "percent", Quality.ERROR, "cannot read its charge"
        )
        return [absent]
    readings = [
        sampler.ok(f"{prefix}/charge", Kind.BATTERY, "battery", float(charge), "percent", detail=status),
        sampler.ok(f"{prefix}/discharging", Kind.BATTERY, "battery", 1.0 if status == "Discharging" else 0.0, "flag"),
    ]
    if tenths is not None and tenths.lstrip("-").isdigit():
        celsius = int(tenths) / 10
        low, high = PLAUSIBLE_CELSIUS
        sensor_id, kind = f"{prefix}/temperature", Kind.TEMPERATURE
        if low <= celsius <= high:
            readings.append(sampler.ok(sensor_id, kind, "battery", celsius, "celsius", limits=default_limits.BATTERY))
        else:
            why = f"{celsius:g} is outside {low:g} to {high:g}"
            readings.append(sampler.absent(sensor_id, kind, "battery", "celsius", Quality.IMPLAUSIBLE, why))
    return readings


def _text(file: Path) -> str | None:
    try:
        return file.read_text(errors="replace").strip()
    except OSError:
        return None
