"""Runs the verb `sensors`, which needs neither a daemon nor a run.

Standard library at import; a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from supervisor.cli.guide.progress import working
from supervisor.cli.steer import parse_duration
from supervisor.errors import UsageError
from supervisor.formatting import human, table
from supervisor.home import Home

UNPROTECTED = "UNPROTECTED: no temperature can be read here. Memory, swap, disk and battery are guarded; heat is not."
MAX_RECORD_S = 86_400.0
HEADER = ("sensor", "value", "soft / pause / critical", "limits by", "quality", "age", "read by")
SYMBOLS = {"celsius": "°C", "percent": "%", "watt": "W", "rpm": "rpm", "megahertz": "MHz"}


def sensors(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.replay is not None:
        return _replay(arguments.replay)
    # The disk that a run here would fill; a new home has no folder yet.
    folders = [next(folder for folder in (home.state, *home.state.parents) if folder.exists())]
    if arguments.record is not None:
        return _record(arguments.record, parse_duration(arguments.duration, MAX_RECORD_S), folders)
    from supervisor.sensors import survey

    with working("reading every sensor"):
        found = survey.collect(folders)
    print(json.dumps(found, indent=1) if arguments.json else render(found))
    return 0


def _record(file: Path, duration_s: float, folders: Sequence[Path]) -> int:
    from supervisor.sensors import survey

    try:
        with working(f"recording every sensor for {duration_s:g} s into {file}"):
            passes = survey.record(file, duration_s, folders=folders)
    except FileExistsError:
        raise UsageError(f"{file} exists already", remedy="give the name of a new file") from None
    except ValueError as error:
        raise UsageError(str(error)) from error
    print(f"{passes} passes in {file}; play it with `supervisorctl sensors --replay {file}`")
    return 0


def _replay(file: Path) -> int:
    from supervisor.governor import simulate
    from supervisor.governor.policy import Policy

    steps = 0
    for step in simulate.replay(file, Policy()):
        print(simulate.render(step))
        steps += 1
    print(f"{steps} changes with the default policy" if steps else "nothing to act on: RUN throughout")
    return 0


def render(collected: dict[str, Any]) -> str:
    """Return a table of the readings, then the missing providers, each with its cure."""
    lines = table([HEADER, *map(_row, collected["readings"])])
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
    why = "" if reading["quality"] == "ok" else f" ({reading['detail']})"
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
