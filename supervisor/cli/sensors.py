"""`supervisorctl sensors`: what every provider says here and now, with no daemon and no run needed."""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from supervisor.clock import Clock, Now, TimeSource
from supervisor.formatting import human
from supervisor.sensors.discovery import open_providers
from supervisor.sensors.reading import Kind, Quality, Reading

SETTLE_S = 0.3
"""Between two passes: use of the CPU and grown counters are differences."""

UNPROTECTED = "UNPROTECTED: no temperature can be read here. Memory, swap, disk and battery are guarded; heat is not."
HEADER = ("sensor", "value", "soft / pause / critical", "limits by", "quality", "age", "read by")
SYMBOLS = {"celsius": "°C", "percent": "%", "watt": "W", "rpm": "rpm", "megahertz": "MHz"}


def collect(
    folders: Sequence[Path] = (Path(),),
    clock: TimeSource | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Every provider's availability and readings, JSON-able. Takes about half a second.

    Keys: `protected` (a thermal sensor was read), `providers` (name, ok, reason, remedy) and `readings`
    (`Reading.to_json()` with `age_s`). A reading without a value says in `quality` and `detail` why.
    """
    clock = clock or Clock()
    providers, said = open_providers(None, [folder.resolve() for folder in folders], clock)
    try:
        for provider in providers:
            provider.read()
        sleep(SETTLE_S)
        readings = [reading for provider in providers for reading in provider.read()]
        now = Now.of(clock)
    finally:
        for provider in providers:
            provider.close()
    return {
        "protected": any(_is_thermal(reading) for reading in readings),
        "providers": [
            {"name": name, "ok": availability.ok, "reason": availability.reason, "remedy": availability.remedy}
            for name, availability in said
        ],
        "readings": [{**reading.to_json(), "age_s": round(now.mono_s - reading.mono_s, 3)} for reading in readings],
    }


def render(collected: dict[str, Any]) -> str:
    """What a person reads of it: a table, then who is missing and what would change that."""
    rows: list[tuple[str, ...]] = [HEADER]
    rows += [_row(reading) for reading in collected["readings"]]
    widths = [max(len(row[column]) for row in rows) for column in range(len(rows[0]))]
    lines = ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in rows]
    if not collected["protected"]:
        lines = [UNPROTECTED, "", *lines]
    missing = [provider for provider in collected["providers"] if not provider["ok"]]
    if missing:
        lines += ["", "not available here:"]
    for provider in missing:
        lines.append(f"  {provider['name']}: {provider['reason']}")
        if provider["remedy"]:
            lines.append(f"    {provider['remedy']}")
    return "\n".join(lines)


def _row(reading: dict[str, Any]) -> tuple[str, ...]:
    limits = reading["limits"]
    given = [limits[part] for part in ("soft", "pause", "critical")]
    has_limits = None not in given
    why = "" if reading["quality"] == Quality.OK else f" ({reading['detail']})"
    return (
        reading["sensor_id"],
        _value(reading["value"], reading["unit"]),
        " / ".join(f"{limit:g}" for limit in given) if has_limits else "",
        limits["source"] if has_limits else "",
        reading["quality"] + why,
        f"{reading['age_s']:.1f} s",
        reading["source"],
    )


def _value(value: float | None, unit: str) -> str:
    if value is None:
        return "none"
    if unit == "bytes":
        return human(value)
    if unit in ("level", "flag", "count"):
        return f"{value:g}"
    return f"{value:.1f} {SYMBOLS.get(unit, unit)}"


def _is_thermal(reading: Reading) -> bool:
    limited = reading.kind in (Kind.TEMPERATURE, Kind.MARGIN) and reading.limits.soft is not None
    pressure = reading.kind is Kind.PRESSURE and reading.component == "host"
    return (limited or pressure) and reading.quality in (Quality.OK, Quality.PARKED)
