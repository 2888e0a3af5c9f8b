"""A timestamped value of a sensor, or its absence with a quality. Standard library only."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Quality(StrEnum):
    """Why a reading may or may not be believed. Only `ok` carries a value."""

    OK = "ok"
    PARKED = "parked"
    IMPLAUSIBLE = "implausible"
    STALE = "stale"
    STUCK = "stuck"
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
    """A sensor's thresholds in its own unit; None where the source gives none that is plausible."""

    soft: float | None = None
    pause: float | None = None
    critical: float | None = None
    source: str = "default"
    """Where they come from: device, default or user."""


@dataclass(frozen=True)
class Reading:
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
            raise ValueError(f"{self.sensor_id}: a value and quality {self.quality} contradict each other")

    def to_json(self) -> dict[str, Any]:
        return {
            "sensor_id": self.sensor_id,
            "kind": self.kind.value,
            "component": self.component,
            "value": self.value,
            "unit": self.unit,
            "mono_s": self.mono_s,
            "wall_s": self.wall_s,
            "source": self.source,
            "quality": self.quality.value,
            "limits": {
                "soft": self.limits.soft,
                "pause": self.limits.pause,
                "critical": self.limits.critical,
                "source": self.limits.source,
            },
            "detail": self.detail,
        }

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> Reading:
        return cls(
            sensor_id=str(value["sensor_id"]),
            kind=Kind(value["kind"]),
            component=str(value["component"]),
            value=None if value["value"] is None else float(value["value"]),
            unit=str(value["unit"]),
            mono_s=float(value["mono_s"]),
            wall_s=float(value["wall_s"]),
            source=str(value["source"]),
            quality=Quality(value["quality"]),
            limits=Limits(**value["limits"]),
            detail=value.get("detail"),
        )


@dataclass(frozen=True)
class Availability:
    """Whether a provider can work here; if not, why and what would change that."""

    ok: bool
    reason: str
    remedy: str | None = None
