"""Chooses temperature limits: the device's own where plausible, else a default with its reason.

All in degrees Celsius. A device's own limit is used between 40 and 130 only: drivers report 0, -273.15, 65261.85 and
other placeholders (lm-sensors issue 574, psutil issue 2959). Apple and AMD publish no limits. The defaults lie above
the temperatures of healthy machines under load: 85 and 90 for all would stop an M4 Max for ever, about 19 of whose
sensors show 86 to 98 while its thermal pressure is nominal.
"""

from __future__ import annotations

from supervisor.sensors.reading import Limits

PLAUSIBLE_LIMIT_CELSIUS = (40.0, 130.0)

APPLE_DIE_AVERAGE = Limits(soft=92.0, pause=99.0, critical=105.0)  # SMC TCMb; 90 to 98 is normal under load
APPLE_DIE_MAXIMUM = Limits(soft=103.0, pause=108.0, critical=114.0)  # SMC TCMz; 112 seen on a hot M4
APPLE_GPU_MAXIMUM = Limits(soft=97.0, pause=103.0, critical=108.0)  # max of Tg*; 87 to 97 in a GPU stress
APPLE_HID_DIE = Limits(soft=80.0, pause=88.0, critical=95.0)  # die diodes read 20 to 30 below the SMC's maximum
AMD_CPU = Limits(soft=93.0, pause=96.0, critical=100.0)  # 95 is Zen 4's by design; 90 on Zen 3
INTEL_CPU = Limits(soft=92.0, pause=96.0, critical=99.0)  # the usual crit of 100, less 8, 4 and 1
SMALL_BOARD_CPU = Limits(soft=75.0, pause=80.0, critical=85.0)  # a Raspberry Pi slows at 80 and 85
GPU_CORE = Limits(soft=83.0, pause=87.0, critical=92.0)
GPU_MEMORY = Limits(soft=93.0, pause=99.0, critical=103.0)  # amdgpu's usual crit of 105, less 12, 6 and 2
NVME = Limits(soft=72.0, pause=80.0, critical=85.0)
BATTERY = Limits(soft=40.0, pause=45.0, critical=50.0)  # BOINC on Android suspends at 40
MARGIN = Limits(soft=10.0, pause=5.0, critical=0.0)  # degrees left to the device's own slowdown: less is worse


def plausible_limit(celsius: float | None, above: float | None = None) -> float | None:
    """Return the device's limit if it is plausible and above the present temperature `above`."""
    low, high = PLAUSIBLE_LIMIT_CELSIUS
    if celsius is None or not low <= celsius <= high:
        return None
    return None if above is not None and celsius <= above else celsius


def below(limit: float, soft: float, pause: float, critical: float) -> Limits:
    """Return limits that lie the given degrees below the device's `limit`."""
    return Limits(soft=limit - soft, pause=limit - pause, critical=limit - critical, source="device")


def intel_cpu(crit: float | None) -> Limits:
    return INTEL_CPU if crit is None else below(crit, 8.0, 4.0, 1.0)


def gpu_memory(crit: float | None) -> Limits:
    """Return the limits of VRAM, HBM and the junction, which heat first and cool last."""
    return GPU_MEMORY if crit is None else below(crit, 12.0, 6.0, 2.0)


def nvidia_core(slowdown: float | None) -> Limits:
    return GPU_CORE if slowdown is None else below(slowdown, 10.0, 5.0, 2.0)


def nvme(maximum: float | None, crit: float | None) -> Limits:
    """Return a drive's limits; a missing critical one is taken 1 above the maximum."""
    if maximum is None:
        return NVME
    return Limits(soft=maximum - 8.0, pause=maximum, critical=max(crit or 0.0, maximum + 1.0), source="device")
