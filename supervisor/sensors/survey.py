"""Reads every provider once, or records them into a file that plays again.

The file is a trace (supervisor/sensors/scripted.py), one line per pass, so a plan's `sensor_script:` plays it as it is.
"""

from __future__ import annotations

import json
import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from supervisor.clock import Clock, Now, TimeSource
from supervisor.sensors.discovery import open_providers
from supervisor.sensors.reading import Kind, Quality, Reading

MAX_PASSES = 86_400
SETTLE_S = 0.3
"""Between two passes: use of the CPU and grown counters are differences."""


def collect(
    folders: Sequence[Path] = (Path(),),
    clock: TimeSource | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> dict[str, Any]:
    """Return every provider's availability and readings as JSON values. Takes about half a second.

    Keys: `protected` (a thermal sensor was read), `providers` (name, ok, reason, remedy) and `readings`
    (`Reading.to_json()` with `age_s`). A reading without a value says in `quality` and `detail` why.
    """
    clock = clock or Clock()
    providers, found = open_providers(None, [folder.resolve() for folder in folders], clock)
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
        "protected": any(map(_is_thermal, readings)),
        "providers": [{"name": name, **asdict(availability)} for name, availability in found],
        "readings": [{**reading.to_json(), "age_s": round(now.mono_s - reading.mono_s, 3)} for reading in readings],
    }


def main() -> int:
    """Print what `collect` returns; standard input has the folders, as JSON. For a daemon, which must not wait."""
    print(json.dumps(collect([Path(folder) for folder in json.load(sys.stdin)])))
    return 0


def _is_thermal(reading: Reading) -> bool:
    limited = reading.kind in (Kind.TEMPERATURE, Kind.MARGIN) and reading.limits.soft is not None
    pressure = reading.kind is Kind.PRESSURE and reading.component == "host"
    return (limited or pressure) and reading.quality in (Quality.OK, Quality.PARKED)


def record(
    file: Path,
    duration_s: float,
    period_s: float = 1.0,
    folders: Sequence[Path] = (Path(),),
    clock: TimeSource | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Write a trace of `duration_s` to a new file; return its number of lines.

    Raises ValueError for a bad time, OSError for a file that exists. An interrupted recording keeps its lines.
    """
    if not 0 < period_s <= duration_s or duration_s / period_s > MAX_PASSES:
        raise ValueError(f"expected between 1 and {MAX_PASSES} passes, found {duration_s:g} s at {period_s:g} s")
    clock = clock or Clock()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as out:
        providers, _ = open_providers(None, [folder.resolve() for folder in folders], clock)
        began_s, passes = clock.mono_s(), 0
        try:
            while (at_s := clock.mono_s() - began_s) < duration_s and passes < MAX_PASSES:
                readings = [reading.to_json() for provider in providers for reading in provider.read()]
                if readings:
                    out.write(json.dumps({"at_s": round(at_s, 3), "readings": readings}) + "\n")
                    out.flush()
                    passes += 1
                sleep(max(0.0, began_s + at_s + period_s - clock.mono_s()))
        finally:
            for provider in providers:
                provider.close()
    return passes


if __name__ == "__main__":
    sys.exit(main())
