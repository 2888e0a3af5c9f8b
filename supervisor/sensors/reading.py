"""Defines a reading: a timestamped value of a sensor, or its absence with a quality. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum

from supervisor.typed_json import Record


class Quality(StrEnum):
    """Says whether a reading has a value (OK only), and why not."""

    OK = "ok"
    PARKED = "parked"
    IMPLAUSIBLE = "implausible"
    UNSUPPORTED = "unsupported"
    ERROR = "error"


class Kind(StrEnum):
    TEMPERATURE = "temperature"
    MARGIN = "margin"
    PRESSURE = "pressure"
    THROTTLE = "throttle"
    UTILISATION = "utilisation"
    FAN = "fan"
    POWER = "power"
    MEMORY = "memory"
    SWAP = "swap"
    PSI = "psi"
    DISK = "disk"
    BATTERY = "battery"
    FREQUENCY = "frequency"
    EVENT = "event"


@dataclass(frozen=True)
class Limits:
    """A sensor's thresholds in its own unit; None where no plausible one is known."""

    soft: float | None = None
    pause: float | None = None
    critical: float | None = None
    source: str = "default"
    """The origin of the limits: device, default or user."""


@dataclass(frozen=True)
class Reading(Record):
    """One sample.

    `sensor_id` is stable across reboots: from the device's path or UUID, never from its number.
    `value` is None unless `quality` is ok. `mono_s` is CLOCK_MONOTONIC, `wall_s` seconds since the epoch.
    """

    sensor_id: str
    kind: Kind
    component: str
    value: float | None
    unit: str
    mono_s: float
    wall_s: float
    source: str
    quality: Quality = Quality.OK
    limits: Limits = field(default_factory=Limits)
    detail: str | None = None

    def __post_init__(self) -> None:
        if (self.value is not None) != (self.quality is Quality.OK):
            raise ValueError(f"{self.sensor_id}: only quality ok has a value, found {self.value} and {self.quality}")


@dataclass(frozen=True)
class Availability:
    """Says whether something works on this machine; if not, the reason and the remedy."""

    ok: bool
    reason: str
    remedy: str | None = None
