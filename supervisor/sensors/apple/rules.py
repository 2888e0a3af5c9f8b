"""Separates Apple's real temperatures from constants. Pure; the same rules for every chip, without a table of keys.

TCMb and TCMz are the die's average and maximum, computed by the firmware (OSHI pull request 3535). Power-gated clusters
show constants: values below 15 were never real (OSHI issue 3531), and exactly 40.000 means "gated" on M3 Max, M4 Pro
and M4 Max, for clusters and for TCMb and TCMz (Stats issue 2387). An average over keys hides a hot one: 83.1 for a die
at 112.1.
"""

from __future__ import annotations

import math
import re
import struct
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from supervisor.sensors import default_limits
from supervisor.sensors.provider import Absence, failed
from supervisor.sensors.reading import Limits, Quality

PARKED_CELSIUS = 40.0
GENUINE_CELSIUS = (15.0, 125.0)


@dataclass(frozen=True)
class Group:
    """SMC keys whose hottest live value is one sensor; another source gets another sensor id."""

    sensor_id: str
    keys: re.Pattern[str]
    component: str
    limits: Limits


# No Tf key: Tf?6 keys are constants of 50 to 66 (iSMC), and TCMz covers M3's.
GROUPS = (
    Group("smc:TCMb", re.compile(r"TCMb"), "cpu", default_limits.APPLE_DIE_AVERAGE),
    Group("smc:TCMz", re.compile(r"TCMz"), "cpu", default_limits.APPLE_DIE_MAXIMUM),
    Group("smc:performance", re.compile(r"Tp.."), "cpu", default_limits.APPLE_DIE_MAXIMUM),
    Group("smc:efficiency", re.compile(r"Te.."), "cpu", default_limits.APPLE_DIE_MAXIMUM),
    Group("smc:gpu", re.compile(r"Tg.."), "gpu", default_limits.APPLE_GPU_MAXIMUM),
    Group("smc:battery", re.compile(r"TB[0-9]T"), "battery", default_limits.BATTERY),
)


def decode(kind: str, raw: bytes) -> float | None:
    """Return the number in an SMC key's bytes; None if it is incomplete or of another type."""
    formats = {"flt ": "<f", "ui8 ": ">B", "ui16": ">H", "ui32": ">I", "fpe2": ">H", "sp78": ">h", "ioft": "<q"}
    scale = {"fpe2": 4.0, "sp78": 256.0, "ioft": 65536.0}.get(kind, 1.0)
    layout = formats.get(kind)
    if layout is None or len(raw) < struct.calcsize(layout):
        return None
    return float(struct.unpack_from(layout, raw)[0]) / scale


def group_keys(keys: Iterable[str]) -> dict[str, list[str]]:
    """Return the keys of each group that has any, by its sensor id."""
    known = list(keys)
    found = {group.sensor_id: [key for key in known if group.keys.fullmatch(key)] for group in GROUPS}
    return {sensor_id: members for sensor_id, members in found.items() if members}


def hottest(values: Mapping[str, float | None]) -> float | Absence:
    """Return the hottest live value of a group; it is parked if all values are constants of gated clusters."""
    numbers = [value for value in values.values() if value is not None and math.isfinite(value)]
    if not numbers:
        return failed("none of its keys can be read")
    low, high = GENUINE_CELSIUS
    # Exactly: a real die at 40 degrees does not read 40.000.
    live = [value for value in numbers if low <= value <= high and value != PARKED_CELSIUS]
    if live:
        return max(live)
    if any(value > high for value in numbers):
        return Absence(Quality.IMPLAUSIBLE, f"{max(numbers):g} is outside {low:g} to {high:g}")
    return Absence(Quality.PARKED, "power-gated: " + ", ".join(sorted({f"{value:g}" for value in numbers})[:4]))


def hid_die(temperatures: Iterable[tuple[str, float]]) -> float | Absence | None:
    """Return the hottest die diode of the IOHID services; None if this chip has none."""
    return _hid(temperatures, ("PMU tdie", "pACC ", "eACC ", "SOC MTR", "PMGR SOC Die"))


def hid_gpu(temperatures: Iterable[tuple[str, float]]) -> float | Absence | None:
    return _hid([(name, c) for name, c in temperatures if re.match(r"GPU MTR|PMU TP\d+g$", name)], ("",))


def hid_battery(temperatures: Iterable[tuple[str, float]]) -> float | Absence | None:
    return _hid(temperatures, ("gas gauge battery",))


def hid_rejected(name: str) -> str | None:
    """Return the reason why a service is never read, or None."""
    if name == "PMU tcal":
        return "a calibration constant, 51.9"
    if name.endswith("TR0Z"):
        return "a constant, 51.85"
    if name == "noname":
        return "no sensor, always 0"
    if name.startswith("PMU tdev"):
        return "raw fixed-point values and -21.5 among its readings"
    return None


def _hid(temperatures: Iterable[tuple[str, float]], prefixes: tuple[str, ...]) -> float | Absence | None:
    values = {
        f"{name}#{ordinal}": celsius
        for ordinal, (name, celsius) in enumerate(temperatures)
        if hid_rejected(name) is None and name.startswith(prefixes)
    }
    return hottest(values) if values else None
