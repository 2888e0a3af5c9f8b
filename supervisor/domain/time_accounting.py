"""Adds up the time of a run from its events: lost per cause, and with a driver. Pure; standard library only."""

from __future__ import annotations

import re
from collections import deque
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain.lifecycle import ProcessState

_ENDS = ("trial.resumed", "trial.finished", "trial.failed", "trial.requeued")
_GIVEN_UP = "experiment.failed"
LOSS_EVENTS = ("trial.paused", "trial.started", *_ENDS, _GIVEN_UP)
"""The events by which lost time begins and ends."""
BY_SCHEDULE = "by schedule"
"""The beginning of each reason of the schedule. It names hours and moments, and all of them are one cause."""
_FIGURES = re.compile(r" (?:at|for|after) -?\d.*", re.DOTALL)
"""The governor's reasons name the moment's figures ("cpu at 91 celsius, ..."), which would make each pause a cause."""

Held = tuple[str, float, str | None, int | None, dict[str, Any]]
"""An event: name, wall time in seconds, experiment, trial, fields."""


Key = tuple[str | None, int | None]
"""An experiment and a trial's number."""
MAX_PAUSES = 16
"""The last pauses of a trial that are kept: an epoch with more of them is rare."""


class LostTime:
    """Adds up the lost time of events, oldest first.

    A trial that waits for its next attempt has lost the time until that begins ("restart"), or until its experiment is
    given up: from then on it waits for a person.
    """

    def __init__(self, *, by_trial: bool = True) -> None:
        """Add up over all trials with `by_trial` False: the result does not grow with their number."""
        self._by_trial = by_trial
        self.times = 0
        """The number of times that it began: trials that are held together count once."""
        self.pauses: dict[Key, deque[tuple[float, float]]] = {}
        """Begin and end of the last pauses of each live trial (seconds since the epoch)."""
        self._held: dict[Key, tuple[str, float]] = {}
        self._found: dict[tuple[str | None, int | None, str], float] = {}

    def add(self, event: Held) -> None:
        name, wall_s, experiment, trial, fields = event
        key = (experiment, trial)
        if name == _GIVEN_UP:
            self._let_go(experiment, wall_s)
        if name == "trial.resumed" and key in self._held:
            self.pauses.setdefault(key, deque(maxlen=MAX_PAUSES)).append((self._held[key][1], wall_s))
        elif name in _ENDS:
            self.pauses.pop(key, None)
        if key in self._held and name in (*_ENDS, "trial.started"):
            cause, since = self._held.pop(key)
            self._count(self._found, key, cause, wall_s - since)
        if name in ("trial.paused", "trial.requeued") and not self._held:
            self.times += 1
        if name == "trial.paused":
            self._hold(key, _cause(str(fields.get("reason") or "unknown")), wall_s)
        elif name == "trial.requeued":
            self._hold(key, f"restart after {fields.get('cause')}", wall_s)

    def _hold(self, key: Key, cause: str, wall_s: float) -> None:
        """Begin lost time; its cause has its place from now on, whichever of several ends first."""
        self._held[key] = (cause, wall_s)
        self._count(self._found, key, cause, 0.0)

    def _let_go(self, experiment: str | None, wall_s: float) -> None:
        for key in [key for key in self._held if key[0] == experiment]:
            cause, since = self._held.pop(key)
            self._count(self._found, key, cause, wall_s - since)

    def seconds(self, until_wall_s: float) -> list[dict[str, Any]]:
        """Return [{experiment, trial, cause, seconds}, ...] in the order of their begin, up to `until_wall_s`."""
        found = dict(self._found)
        for key, (cause, since) in self._held.items():
            self._count(found, key, cause, until_wall_s - since)
        return [
            {"experiment": experiment, "trial": trial, "cause": cause, "seconds": round(seconds, 1)}
            for (experiment, trial, cause), seconds in found.items()
        ]

    def _count(
        self, found: dict[tuple[str | None, int | None, str], float], key: tuple[Any, Any], cause: str, seconds: float
    ) -> None:
        whole = (*(key if self._by_trial else (None, None)), cause)
        found[whole] = found.get(whole, 0.0) + max(0.0, seconds)


def _cause(reason: str) -> str:
    return "schedule" if reason.startswith(BY_SCHEDULE) else _FIGURES.sub("", reason)


def by_cause(lost: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Return the lost seconds by cause over all trials, the largest first."""
    total: dict[str, float] = {}
    for entry in lost:
        total[entry["cause"]] = total.get(entry["cause"], 0.0) + entry["seconds"]
    return {cause: round(seconds, 1) for cause, seconds in sorted(total.items(), key=lambda item: -item[1])}


_DRIVER_ENDS = ("driver.exited", "driver.stopped", "experiment.finished", "experiment.failed", "experiment.stopped")
_PAUSED = "experiment.paused"
_WORKS = ("experiment.started", "experiment.resumed")
_NO_DRIVER_BY_THEN = ("driver.started", "daemon.started", "daemon.recovered")


def driven_seconds(events: Iterable[tuple[str, float, Mapping[str, Any]]]) -> float:
    """Return the seconds in which an experiment ran, from (name, wall time, fields) of events.

    It runs from its driver's hello to the driver's end, less its pauses. The events are in the order of their numbers.
    A driver whose end no event records counts up to the last event before the one that shows it gone. The time that the
    machine slept, and by which the clock was set, is left out.
    """
    total, begun, last = 0.0, None, 0.0
    for name, wall_s, fields in events:
        if begun is not None:
            begun += uncounted_s(name, fields)
            end = _end_of_driver(name, wall_s, fields, last)
            if end is not None:
                total, begun = total + max(0.0, end - begun), None
        if name in _WORKS:
            begun = wall_s
        last = wall_s
    return total + (max(0.0, last - begun) if begun is not None else 0.0)


def _end_of_driver(name: str, wall_s: float, fields: Mapping[str, Any], last_wall_s: float) -> float | None:
    """Return the wall time of the driver's end: this event's or the last one's; None when it is still alive."""
    if name in _DRIVER_ENDS or name == _PAUSED:
        return wall_s
    # Perhaps days later: a start puts the trials back in the queue before it records itself.
    requeued = name == "trial.requeued" and fields.get("cause") == "daemon_died"
    starting = name == "experiment.moved" and fields.get("state") == ProcessState.STARTING
    return last_wall_s if name in _NO_DRIVER_BY_THEN or requeued or starting else None


def uncounted_s(event: str, fields: Mapping[str, Any]) -> float:
    """Return the seconds of wall time in which nothing could run, by an event: asleep, or the clock was set."""
    return float(fields["seconds"]) if event in ("machine.slept", "clock.set") else 0.0
