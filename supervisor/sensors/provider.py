"""Defines a provider of readings. docs/sensors.md shows how to add one: a file, and a line in discovery.py."""

from __future__ import annotations

import math
from abc import ABC, abstractmethod
from dataclasses import dataclass

from supervisor.clock import Now, TimeSource
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

NO_LIMITS = Limits()


@dataclass(frozen=True)
class Sensor:
    """The identity of a sensor; `plausible` are the lowest and highest value that are believed."""

    sensor_id: str
    kind: Kind
    component: str
    unit: str
    limits: Limits = NO_LIMITS
    plausible: tuple[float, float] = (-math.inf, math.inf)


@dataclass(frozen=True)
class Absence:
    """The reason why a sensor has no value now."""

    quality: Quality
    detail: str


def provider_fault(name: str) -> Sensor:
    """Return the sensor whose failed reading says that the whole provider `name` cannot be read."""
    return Sensor(f"provider:{name}", Kind.EVENT, "provider", "count")


def failed(error: object) -> Absence:
    """Return the absence of a value that could not be read because of `error`."""
    return Absence(Quality.ERROR, str(error) or type(error).__name__)


@dataclass(frozen=True)
class Sampler:
    """Makes the readings of one pass, all with the same source and time."""

    source: str
    now: Now

    def reading(self, sensor: Sensor, value: float | Absence, detail: str | None = None) -> Reading:
        """Return a reading of `sensor`; an implausible value becomes an absence."""
        low, high = sensor.plausible
        if not isinstance(value, Absence) and not low <= value <= high:
            value = Absence(Quality.IMPLAUSIBLE, f"{value:g} is outside {low:g} to {high:g}")
        absence = value if isinstance(value, Absence) else None
        return Reading(
            sensor_id=sensor.sensor_id,
            kind=sensor.kind,
            component=sensor.component,
            value=None if isinstance(value, Absence) else value,
            unit=sensor.unit,
            mono_s=self.now.mono_s,
            wall_s=self.now.wall_s,
            source=self.source,
            quality=absence.quality if absence else Quality.OK,
            limits=sensor.limits,
            detail=absence.detail if absence else detail,
        )


class Provider(ABC):
    """A source of readings.

    `read` never raises and returns at once (in `isolation` it may take its grace time). A value that cannot be read is
    a Reading without a value; its quality and detail say why.
    """

    name: str
    _clock: TimeSource
    """Each provider takes its own in `__init__`."""

    @abstractmethod
    def probe(self) -> Availability: ...

    @abstractmethod
    def read(self) -> list[Reading]: ...

    def close(self) -> None:  # noqa: B027 - most providers have nothing open
        """Release the open files and processes, if the provider has any."""

    def _sampler(self) -> Sampler:
        return Sampler(self.name, Now.of(self._clock))
