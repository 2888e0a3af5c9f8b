"""Recording every provider's readings into one file that a user can send, and that a script can play again.

The file is a trace (supervisor/sensors/scripted.py), one line per pass, so `sensor_script:` plays it as it is.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence
from pathlib import Path

from supervisor.clock import Clock, TimeSource
from supervisor.sensors.discovery import open_providers

MAX_PASSES = 86_400


def record(
    file: Path,
    duration_s: float,
    period_s: float = 1.0,
    folders: Sequence[Path] = (Path(),),
    clock: TimeSource | None = None,
    sleep: Callable[[float], None] = time.sleep,
) -> int:
    """Write a trace of `duration_s` and return its number of lines. Raises ValueError for a bad time, OSError.

    Nothing is overwritten: a file that exists is an error. What was recorded is there even if it is interrupted.
    """
    if not 0 < period_s <= duration_s or duration_s / period_s > MAX_PASSES:
        raise ValueError(f"{duration_s:g} s at {period_s:g} s: record between 1 and {MAX_PASSES} passes")
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
