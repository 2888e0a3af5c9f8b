"""Where a run's time went that was not training: seconds per cause, from its events. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

_ENDS = ("trial.resumed", "trial.finished", "trial.failed", "trial.requeued")


def lost_seconds(events: Iterable[tuple[str, float, str | None, int | None, dict[str, Any]]]) -> list[dict[str, Any]]:
    """Held seconds of each trial by cause: [{experiment, trial, cause, seconds}, ...], in the order they began.

    `events` are (name, wall time, experiment, trial, fields), oldest first. A hold that has not ended counts to the
    last event. A trial that waits for its next attempt has lost the time until that begins ("restart").
    """
    held: dict[tuple[str | None, int | None], tuple[str, float]] = {}
    found: dict[tuple[str | None, int | None, str], float] = {}
    last = 0.0
    for name, wall_s, experiment, trial, fields in events:
        last = wall_s
        key = (experiment, trial)
        if key in held and (name in _ENDS or name == "trial.started"):
            cause, since = held.pop(key)
            found[(*key, cause)] = found.get((*key, cause), 0.0) + max(0.0, wall_s - since)
        if name == "trial.paused":
            held[key] = (str(fields.get("reason") or "unknown"), wall_s)
        elif name == "trial.requeued":
            held[key] = (f"restart after {fields.get('cause')}", wall_s)
    for key, (cause, since) in held.items():
        found[(*key, cause)] = found.get((*key, cause), 0.0) + max(0.0, last - since)
    return [
        {"experiment": experiment, "trial": trial, "cause": cause, "seconds": round(seconds, 1)}
        for (experiment, trial, cause), seconds in found.items()
    ]


def by_cause(lost: Iterable[dict[str, Any]]) -> dict[str, float]:
    """Seconds over all trials, the largest cause first."""
    total: dict[str, float] = {}
    for entry in lost:
        total[entry["cause"]] = total.get(entry["cause"], 0.0) + entry["seconds"]
    return {cause: round(seconds, 1) for cause, seconds in sorted(total.items(), key=lambda item: -item[1])}
