"""Plays a trace or a drill as a provider; a drill on a live run uses it too.

A trace is JSON lines, each either `{"at_s": 12.5, "celsius": 96.0}` (one CPU temperature) or
`{"at_s": 12.5, "readings": [{"sensor_id": ..., "kind": ..., "component": ..., "value": ..., "unit": ...}]}` with
optional `quality`, `limits` and `detail`. A line is valid until the next one; the last one for ever.
"""

from __future__ import annotations

import json
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.drills import DRILLS
from supervisor.sensors.provider import Provider
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

MAX_TRACE_BYTES = 64 * 2**20
DRILL_S = 60.0


@dataclass(frozen=True)
class Frame:
    """The readings from `at_s` seconds after the first read on; their own time stamps are not used."""

    at_s: float
    readings: tuple[Reading, ...]


def load_trace(path: Path) -> tuple[Frame, ...]:
    """Return the frames of a trace file, in order of time. Raises ValueError with file, line and problem; OSError."""
    if path.stat().st_size > MAX_TRACE_BYTES:
        raise ValueError(f"{path}: expected a trace of at most {MAX_TRACE_BYTES} bytes; split it")
    frames: list[Frame] = []
    with path.open(encoding="utf-8") as lines:
        for number, line in enumerate(lines, start=1):
            if not line.strip():
                continue
            try:
                frame = _frame(json.loads(line))
            except (ValueError, KeyError, TypeError, AttributeError) as error:
                problem = f"the key {error} is missing" if isinstance(error, KeyError) else str(error)
                raise ValueError(f"{path}:{number}: {problem}") from error
            if frames and frame.at_s < frames[-1].at_s:
                raise ValueError(f"{path}:{number}: expected at_s of at least {frames[-1].at_s}, found {frame.at_s}")
            frames.append(frame)
    if not frames:
        raise ValueError(f"{path}: the trace is empty; write at least one line such as " + '{"at_s": 0, "celsius": 50}')
    return tuple(frames)


def _frame(value: dict[str, Any]) -> Frame:
    at_s = float(value["at_s"])
    if unknown := set(value) - {"at_s", "celsius", "readings"}:
        raise ValueError(f"unknown keys {sorted(unknown)}; expected at_s and either celsius or readings")
    readings = [_reading(entry) for entry in value.get("readings", ())]
    if "celsius" in value:
        celsius = value["celsius"]
        readings.append(simple_reading(None if celsius is None else float(celsius)))
    if not readings:
        raise ValueError("expected celsius or readings, found neither")
    return Frame(at_s, tuple(readings))


def _reading(entry: dict[str, Any]) -> Reading:
    full = {"source": "scripted", "quality": "ok", "mono_s": 0.0, "wall_s": 0.0, "limits": {}, "detail": None, **entry}
    reading = Reading.from_json(full)
    if reading.kind is Kind.TEMPERATURE and reading.limits == Limits():
        return replace(reading, limits=default_limits.APPLE_DIE_AVERAGE)
    return reading


def simple_reading(celsius: float | None) -> Reading:
    """Return one CPU temperature with the limits of a die average; None is a failed reading."""
    quality, limits = Quality.OK if celsius is not None else Quality.ERROR, default_limits.APPLE_DIE_AVERAGE
    return Reading("script:cpu", Kind.TEMPERATURE, "cpu", celsius, "celsius", 0.0, 0.0, "scripted", quality, limits)


@dataclass(frozen=True)
class _Drill:
    name: str
    began_mono_s: float
    duration_s: float


class ScriptedProvider(Provider):
    """Plays `frames` from its first read on, and adds a drill's readings while it lasts."""

    name = "scripted"

    def __init__(self, clock: TimeSource, frames: Sequence[Frame] = ()) -> None:
        self._clock = clock
        self._frames = tuple(frames)
        self._times = [frame.at_s for frame in self._frames]
        self._began_mono_s: float | None = None
        self._drill: _Drill | None = None

    @classmethod
    def playing(cls, script: str | Path | None, clock: TimeSource) -> ScriptedProvider:
        """Return a provider that plays a trace file, a drill (from now on) or nothing. Raises as `load_trace`."""
        if script is None:
            return cls(clock)
        if str(script) not in DRILLS:
            return cls(clock, load_trace(Path(script)))
        provider = cls(clock)
        provider.start_drill(str(script), DRILL_S)
        return provider

    def start_drill(self, name: str, duration_s: float) -> None:
        """Begin a drill instead of the present one, for `duration_s`. Raises ValueError with the valid names."""
        if name not in DRILLS:
            raise ValueError(f"unknown drill {name!r}; expected one of {', '.join(sorted(DRILLS))}")
        if not 0 < duration_s <= 3600:
            raise ValueError(f"expected a duration above 0 and at most 3600 s, found {duration_s}")
        self._drill = _Drill(name, Now.of(self._clock).mono_s, float(duration_s))

    def probe(self) -> Availability:
        if self._frames:
            return Availability(True, f"a trace of {len(self._frames)} lines over {self._times[-1]:g} s")
        return Availability(True, "ready for drills")

    def read(self) -> list[Reading]:
        now = Now.of(self._clock)
        return [
            replace(reading, mono_s=now.mono_s, wall_s=now.wall_s)
            for reading in (*self._from_trace(now), *self._from_drill(now))
        ]

    def close(self) -> None:
        self._drill = None

    def _from_trace(self, now: Now) -> tuple[Reading, ...]:
        if self._began_mono_s is None:
            self._began_mono_s = now.mono_s
        index = bisect_right(self._times, now.mono_s - self._began_mono_s) - 1
        return self._frames[index].readings if index >= 0 else ()

    def _from_drill(self, now: Now) -> list[Reading]:
        drill = self._drill
        if drill is None or now.mono_s >= drill.began_mono_s + drill.duration_s:
            self._drill = None
            return []
        return DRILLS[drill.name](now.mono_s - drill.began_mono_s, drill.duration_s)
