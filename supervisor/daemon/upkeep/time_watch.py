"""Notices time in which nobody could work: the machine slept, this process stood still, the wall clock was set.

Pure: two looks at the clocks and the time between them that was meant -> what is worth telling.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.clock import Clock

PERIOD_S = 2.0
SLEPT_S = 5.0
STOOD_STILL_S = 10.0
"""A busy machine is late by a second or three."""
SET_S = 5.0
"""NTP slews by 0.5 ms a second at most (adjtime(3)); what moves more was set."""


@dataclass(frozen=True)
class Look:
    """The clocks at one moment, in seconds: wall, monotonic, and one that goes on while the machine sleeps."""

    wall_s: float
    mono_s: float
    boot_s: float | None

    @classmethod
    def at(cls, clock: Clock) -> Look:
        return cls(clock.wall_s(), clock.mono_s(), clock.boot_s())


def between(before: Look, now: Look, meant_s: float = PERIOD_S) -> list[tuple[str, dict[str, Any]]]:
    """The events of the time between two looks that were meant to be `meant_s` apart, with their fields."""
    ran_s = now.mono_s - before.mono_s
    known = before.boot_s is not None and now.boot_s is not None
    passed_s = now.boot_s - before.boot_s if known else ran_s  # type: ignore[operator]  # known says that both are
    slept_s, late_s, set_s = passed_s - ran_s, ran_s - meant_s, now.wall_s - before.wall_s - passed_s
    found = [
        ("machine.slept", slept_s, slept_s > SLEPT_S),
        ("daemon.stood_still", late_s, late_s > STOOD_STILL_S),
        ("clock.set", set_s, abs(set_s) > SET_S),
    ]
    return [(name, {"seconds": round(seconds, 3)}) for name, seconds, worth_telling in found if worth_telling]


def uncounted_s(event: str, fields: Mapping[str, Any]) -> float:
    """Seconds of wall time that passed for nobody, by an event: asleep, or only because the clock was set."""
    return float(fields["seconds"]) if event in ("machine.slept", "clock.set") else 0.0
