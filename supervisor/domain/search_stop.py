"""Decides whether a search has found enough: a value that its plan names, or nothing better for many trials. Pure.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.domain.finalists import is_discarded, is_final
from supervisor.domain.lifecycle import PLATEAU, VALUE


def why_stop(spec: Mapping[str, Any], trials: Iterable[Mapping[str, Any]]) -> str | None:
    """Return why the search of an experiment stops by its plan (VALUE or PLATEAU); None while it goes on.

    Of its `trials` those count that have ended with a value, in the order of their numbers: so a new driver decides as
    the one before it.
    """
    stop = spec.get("stop")
    if stop is None:
        return None
    ended = sorted((int(trial["number"]), trial["value"]) for trial in trials if trial["value"] is not None)
    counting = [pair for pair in ended if not (is_final(spec, pair[0]) or is_discarded(spec, pair[0]))]
    values = [float(value) for _, value in counting]
    sign = 1.0 if spec["mode"] == "min" else -1.0
    if stop["value"] is not None and any(sign * value <= sign * stop["value"] for value in values):
        return VALUE
    waited = trials_without_better(values, sign, float(stop["improvement"]))
    return PLATEAU if stop["plateau"] is not None and waited >= stop["plateau"] else None


def trials_without_better(values: Sequence[float], sign: float, improvement: float) -> int:
    """Return how many of the last `values` brought nothing better by more than `improvement`.

    `sign` is 1.0 if smaller is better, else -1.0.
    """
    best: float | None = None
    waited = 0
    for value in values:
        if best is None or sign * value < sign * best - improvement:
            best, waited = value, 0
        else:
            waited += 1
    return waited
