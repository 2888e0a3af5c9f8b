"""Follows the health of each sensor: known, parked, unknown or retired. Pure.

A sensor is `ok`, `parked` (power-gated: it has rightly no value), `unknown` (lost, stale, stuck, implausible) or
`retired` (lost, but another sensor of the same component stands in for it). Unknown is never a number.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from enum import StrEnum
from statistics import linear_regression
from typing import Any

from supervisor.clock import Now
from supervisor.governor.policy import Policy
from supervisor.governor.thresholds import TEMPERATURES, is_watched
from supervisor.sensors.drills import DRILL
from supervisor.sensors.reading import Kind, Quality, Reading
from supervisor.typed_json import Record

MAX_SENSORS = 512
MAX_SAMPLES = 12
SAMPLE_EVERY_S = 2.5
SAMPLES_FOR_S = 30.0
MIN_SLOPE_SPAN_S = 9.0
VITAL = frozenset({Kind.TEMPERATURE, Kind.MARGIN, Kind.PRESSURE, Kind.MEMORY, Kind.DISK})
"""Kinds whose loss eases and then pauses the work; the loss of others is only reported."""
GUARDED = frozenset({"cpu", "gpu", "vram", "host", "disk", "memory", DRILL})
"""Components whose lost vital sensor pauses; that of a drive or battery only eases, for a while."""


class Status(StrEnum):
    OK = "ok"
    PARKED = "parked"
    UNKNOWN = "unknown"
    RETIRED = "retired"


@dataclass(frozen=True)
class SensorState(Record):
    """The past of one sensor. Times are CLOCK_MONOTONIC seconds."""

    kind: Kind
    component: str
    unit: str
    status: Status
    last_good_mono_s: float
    drill: bool = False
    fresh: int = 0
    why_unknown: str | None = None
    reported: bool = False
    same_value: float | None = None
    same_since_mono_s: float = 0.0
    load_low: float | None = None
    load_high: float | None = None
    samples: tuple[tuple[float, float], ...] = ()
    soft_since_mono_s: float | None = None
    pause_since_mono_s: float | None = None

    @property
    def vital(self) -> bool:
        return self.kind in VITAL

    @property
    def guards(self) -> bool:
        """Say whether the work needs this sensor, unless another stands in for it."""
        return self.vital and self.component in GUARDED

    def shifted(self, by_s: float) -> SensorState:
        """Return the past, moved by `by_s` seconds, without samples and dwell times."""
        last_good, same_since = self.last_good_mono_s + by_s, self.same_since_mono_s + by_s
        emptied = replace(self.without_dwell(), same_value=None)
        return replace(emptied, last_good_mono_s=last_good, same_since_mono_s=same_since)

    def without_dwell(self) -> SensorState:
        """Return the past without samples and dwell times: none of them counts after a gap."""
        return replace(self, fresh=0, samples=(), soft_since_mono_s=None, pause_since_mono_s=None)

    def slope_per_s(self, value: float, mono_s: float) -> float | None:
        """Return the slope over the last half minute with this value; None for too few samples.

        It is the smaller of the slopes of the whole window and of its later half, 0 if their signs differ: a die that
        jumps by 35 degrees within seconds when work starts, and stays there, does not go on rising.
        """
        points = [*self.samples, (mono_s, value)]
        if len(points) < 3 or points[-1][0] - points[0][0] < MIN_SLOPE_SPAN_S:
            return None
        halves = (points, points[-max(3, (len(points) + 1) // 2) :])
        whole, late = (linear_regression(*zip(*part, strict=True)).slope for part in halves)
        return 0.0 if whole * late <= 0.0 else min(whole, late, key=abs)

    def sampled(self, value: float, now: Now) -> SensorState:
        """Return the past with this value as a sample, if one is due."""
        if self.samples and now.mono_s - self.samples[-1][0] < SAMPLE_EVERY_S:
            return self
        kept = [sample for sample in self.samples if now.mono_s - sample[0] <= SAMPLES_FOR_S]
        return replace(self, samples=tuple([*kept, (now.mono_s, value)][-MAX_SAMPLES:]))


@dataclass(frozen=True)
class Note:
    """The name and the facts (JSON values) of an event."""

    kind: str
    facts: Mapping[str, Any]


Sensors = Mapping[str, SensorState]


def watch(
    readings: Sequence[Reading], sensors: Sensors, policy: Policy, now: Now, *, paused: bool
) -> tuple[dict[str, SensorState], tuple[Note, ...]]:
    """Return the sensors after this pass, and notes; while paused no sensor is retired."""
    loads = loads_of(readings)
    present = {reading.sensor_id: reading for reading in readings if is_watched(reading, policy)}
    after: dict[str, SensorState] = {}
    notes: list[Note] = []
    for sensor_id, reading in present.items():
        known = sensors.get(sensor_id)
        if known is None and reading.quality not in (Quality.OK, Quality.PARKED):
            continue  # never seen: it cannot be lost
        after[sensor_id] = _seen(known, reading, load_of(sensor_id, reading.component, loads), policy, now)
    for sensor_id, known in sensors.items():
        # A drill's sensor ends with it. A folder always has a reading, at least an error: an absent one is not watched.
        if sensor_id not in present and not known.drill and known.kind is not Kind.DISK:
            after[sensor_id] = _unknown(known, "no reading")
    for sensor_id in list(after):
        after[sensor_id], note = _aged(sensor_id, after, policy, now, paused=paused)
        if note is not None:
            notes.append(note)
    return dict(list(after.items())[:MAX_SENSORS]), tuple(notes)


def loads_of(readings: Sequence[Reading]) -> dict[str, float]:
    """Return utilisation in percent, by device if the sensor's id names one, else by component."""
    return {
        device_of(reading.sensor_id) or reading.component: reading.value
        for reading in readings
        if reading.kind is Kind.UTILISATION and reading.value is not None
    }


def load_of(sensor_id: str, component: str, loads: Mapping[str, float]) -> float | None:
    """Return the load of a sensor's own device, else of its component; another GPU's load has no meaning for it."""
    return loads.get(device_of(sensor_id), loads.get(component))


def device_of(sensor_id: str) -> str:
    """Return the device in a sensor id: the part before its last slash, or an empty text."""
    return sensor_id.rpartition("/")[0]


def _seen(known: SensorState | None, reading: Reading, load: float | None, policy: Policy, now: Now) -> SensorState:
    if known is None:
        known = SensorState(reading.kind, reading.component, reading.unit, Status.PARKED, now.mono_s)
    drill = reading.detail == DRILL
    if drill != known.drill:
        known = replace(known, drill=drill)
    age_s = now.mono_s - reading.mono_s
    if not -1.0 <= age_s <= policy.stale_s:
        return _unknown(known, f"stale: {age_s:.1f} s old")
    if reading.quality is Quality.PARKED:
        return replace(
            known, status=Status.PARKED, last_good_mono_s=now.mono_s, fresh=known.fresh + 1, same_value=None, samples=()
        )
    if reading.value is None:
        return _unknown(known, f"{reading.quality.value}: {reading.detail or 'no detail'}")
    known = _same(known, reading.value, load, now)
    if _stuck(known, reading.value, policy, now):
        return _unknown(known, f"stuck at {reading.value:g} for {now.mono_s - known.same_since_mono_s:.0f} s")
    return replace(known, status=Status.OK, last_good_mono_s=now.mono_s, fresh=min(known.fresh + 1, 99))


def _unknown(known: SensorState, why: str) -> SensorState:
    if known.status is Status.RETIRED:
        return known
    return replace(known.without_dwell(), status=Status.UNKNOWN, why_unknown=why)


def _same(known: SensorState, value: float, load: float | None, now: Now) -> SensorState:
    """Note since when the value is the same, and the load's range since then."""
    if known.same_value != value:
        return replace(known, same_value=value, same_since_mono_s=now.mono_s, load_low=load, load_high=load)
    if load is None:
        return known
    low = load if known.load_low is None else min(known.load_low, load)
    high = load if known.load_high is None else max(known.load_high, load)
    return replace(known, load_low=low, load_high=high)


def _stuck(known: SensorState, value: float, policy: Policy, now: Now) -> bool:
    """Decide whether a temperature was exactly the same while the load moved; levels and byte counts may repeat."""
    if known.kind is not Kind.TEMPERATURE or known.load_low is None or known.load_high is None:
        return False
    patience_s = policy.stuck_integer_s if value.is_integer() else policy.stuck_s
    moved = known.load_high - known.load_low >= policy.stuck_load_percent
    return moved and now.mono_s - known.same_since_mono_s >= patience_s


def _aged(
    sensor_id: str, sensors: Sensors, policy: Policy, now: Now, *, paused: bool
) -> tuple[SensorState, Note | None]:
    """Report a sensor that was lost or has recovered; retire one that another stands in for."""
    sensor = sensors[sensor_id]
    if sensor.status is not Status.UNKNOWN:
        if sensor.reported and sensor.status is not Status.RETIRED:
            back = replace(sensor, reported=False, why_unknown=None)
            return back, Note("sensor.recovered", {"sensor": sensor_id, "drill": sensor.drill})
        return sensor, None
    note = None
    missing_s = now.mono_s - sensor.last_good_mono_s
    why = sensor.why_unknown or ""
    stuck = why.startswith("stuck")
    if not sensor.reported and (stuck or missing_s >= policy.lost_shed_periods * policy.period_s):
        sensor = replace(sensor, reported=True)
        facts = {"sensor": sensor_id, "why": why, "drill": sensor.drill}
        note = Note("sensor.stuck" if stuck else "sensor.lost", facts)
    # While paused no sensor stands in for a lost guard: its last value may be the reason for the pause.
    needed = sensor.guards and (paused or stand_in(sensor_id, sensors) is None)
    if missing_s > policy.lost_pause_s and not needed:
        sensor = replace(sensor, status=Status.RETIRED)
    return sensor, note


def stand_in(sensor_id: str, sensors: Sensors) -> str | None:
    """Return another live sensor of the same component; None if there is none.

    For a CPU any other CPU temperature or the system's thermal pressure; for a GPU and its memory another sensor of
    the same device, not of a second GPU.
    """
    if sensors[sensor_id].kind not in (*TEMPERATURES, Kind.PRESSURE):
        return None
    others = (other_id for other_id in sensors if other_id != sensor_id)
    return next((other_id for other_id in others if _stands_in_for(other_id, sensor_id, sensors)), None)


def _stands_in_for(other_id: str, sensor_id: str, sensors: Sensors) -> bool:
    other, sensor = sensors[other_id], sensors[sensor_id]
    if other.status is not Status.OK:
        return False
    if sensor.component == "cpu":
        pressure = other.kind is Kind.PRESSURE and other.component == "host"
        return pressure or (other.kind in TEMPERATURES and other.component == "cpu")
    same_device = device_of(sensor_id) != "" and device_of(other_id) == device_of(sensor_id)
    return same_device and other.kind in TEMPERATURES and other.component == sensor.component
