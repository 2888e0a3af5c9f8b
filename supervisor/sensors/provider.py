"""What every provider of readings is. Adding one is a new file and a line in discovery.py (docs/sensors.md)."""

from __future__ import annotations

from typing import Protocol, runtime_checkable

from supervisor.clock import Now
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

NO_LIMITS = Limits()


@runtime_checkable
class Provider(Protocol):
    """A source of readings.

    `read` never raises and returns at once (under `supervisor.sensors.isolation` it may take its grace time):
    what cannot be read is a Reading without a value whose quality and detail say why.
    """

    name: str

    def probe(self) -> Availability: ...

    def read(self) -> list[Reading]: ...

    def close(self) -> None: ...


class Sampler:
    """Builds the readings of one pass, all with the same time stamp and source."""

    def __init__(self, source: str, now: Now) -> None:
        self.source, self.now = source, now

    def ok(
        self,
        sensor_id: str,
        kind: Kind,
        component: str,
        value: float,
        unit: str,
        *,
        limits: Limits = NO_LIMITS,
        detail: str | None = None,
    ) -> Reading:
        return Reading(
            sensor_id=sensor_id,
            kind=kind,
            component=component,
            value=value,
            unit=unit,
            mono_s=self.now.mono_s,
            wall_s=self.now.wall_s,
            source=self.source,
            limits=limits,
            detail=detail,
        )

    def absent(
        self,
        sensor_id: str,
        kind: Kind,
        component: str,
        unit: str,
        quality: Quality,
        detail: str,
        *,
        limits: Limits = NO_LIMITS,
    ) -> Reading:
        return Reading(
            sensor_id=sensor_id,
            kind=kind,
            component=component,
            value=None,
            unit=unit,
            mono_s=self.now.mono_s,
            wall_s=self.now.wall_s,
            source=self.source,
            quality=quality,
            limits=limits,
            detail=detail,
        )
