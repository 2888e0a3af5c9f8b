"""Turns the store's rows into the values that the page's charts draw, each list bounded. Pure."""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason
from supervisor.formatting import one_line
from supervisor.store.event import Event

MAX_POINTS = 1500
MAX_CURVE_POINTS = 150
MAX_PARAMS = 24
MAX_ENDED_CURVES = 24
MAX_TEXT_CHARACTERS = 60
MAX_SERIES_POINTS = 240
MAX_BANDS = 200

Row = Mapping[str, Any]
Curve = Sequence[tuple[int, float | None]]


# Trials


def curve_numbers(rows: Sequence[Row]) -> list[int]:
    """Return the trials whose curves are drawn: those that run, then the newest that have ended."""
    running = [row["number"] for row in rows if row["state"] in ("RUNNING", "PAUSED")]
    over = [row["number"] for row in rows if row["state"] in TRIAL_ENDED]
    return [*running, *over[::-1][:MAX_ENDED_CURVES]]


def trials_document(name: str, spec: Row, rows: Sequence[Row], curves: Mapping[int, Curve]) -> dict[str, Any]:
    """Return an experiment's trials in order of end, its best so far and some curves.

    `rows` are those of page_queries.trial_rows. A trial after the search is marked `final`: its value may be of other
    days, so that it does not compare.
    """
    ended = sorted((row for row in rows if row["state"] in TRIAL_ENDED), key=lambda row: row["ended_wall"] or 0.0)
    points = [_point(spec, place + 1, row) for place, row in enumerate(ended)]
    # Of ten thousand trials only those that are shown cost what their parameters cost.
    shown = thinned(list(zip(points, ended, strict=True)), MAX_POINTS)
    states = {row["number"]: row["state"] for row in rows}
    return {
        "experiment": name,
        "metric": spec.get("metric", "value"),
        "mode": spec["mode"],
        "epochs": spec.get("max_epochs"),
        "params": _param_names(row for _, row in shown),
        "points": [{**point, "params": _params(row)} for point, row in shown],
        "best": best_so_far(points, minimised=spec["mode"] == "min"),
        "curves": [
            {"trial": number, "state": states[number], "points": thinned(_finite(curve), MAX_CURVE_POINTS)}
            for number, curve in curves.items()
        ],
    }


def _point(spec: Row, place: int, row: Row) -> dict[str, Any]:
    return {
        "place": place,
        "trial": row["number"],
        "end": row["end_reason"],
        "value": _finite_or_none(row["value"]),
        "final": row["source"] in finalists.AFTER_SEARCH or finalists.is_final(spec, row["number"]),
    }


def _params(row: Row) -> dict[str, float | str | None]:
    return {name: _scalar(value) for name, value in list(row["params"].items())[:MAX_PARAMS]}


def _scalar(value: Any) -> float | str | None:
    if isinstance(value, bool) or value is None:
        return str(value)
    if isinstance(value, int | float):
        return _finite_or_none(value)
    return one_line(str(value))[:MAX_TEXT_CHARACTERS]


def _finite_or_none(value: float | None) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _finite(curve: Curve) -> list[tuple[int, float]]:
    return [(step, value) for step, value in curve if value is not None and math.isfinite(value)]


def _param_names(rows: Iterable[Row]) -> list[str]:
    """Return the names of the parameters that differ between these trials: a constant one explains nothing."""
    seen: dict[str, set[str]] = {}
    for row in rows:
        for name, value in list(row["params"].items())[:MAX_PARAMS]:
            seen.setdefault(name, set()).add(repr(value))
    return [name for name, values in seen.items() if len(values) > 1 and name not in (finalists.SEED, finalists.FOLD)]


def best_so_far(points: Iterable[Row], *, minimised: bool) -> list[tuple[int, float, int]]:
    """Return (place, value, trial) of each point that was better than all before it.

    A trial after the search is left out, and so is one that has failed.
    """
    found: list[tuple[int, float, int]] = []
    for point in points:
        value = point["value"]
        if value is None or point["final"] or point["end"] is None or EndReason(point["end"]) not in SUCCEEDED:
            continue
        if not found or (value < found[-1][1] if minimised else value > found[-1][1]):
            found.append((point["place"], value, point["trial"]))
    return found[-MAX_POINTS:]


def thinned(items: Sequence[Any], most: int) -> list[Any]:
    """Return at most `most` items, evenly chosen; the first and the last are among them."""
    if len(items) <= most:
        return list(items)
    return [items[round(place * (len(items) - 1) / (most - 1))] for place in range(most)]


# Temperatures


def series(rows: Iterable[Row], begin_minute: int, end_minute: int) -> list[dict[str, Any]]:
    """Return each sensor's highest value by piece of the time: (wall seconds, celsius), MAX_SERIES_POINTS at most."""
    width = max(1, math.ceil((end_minute - begin_minute + 1) / MAX_SERIES_POINTS))
    found: dict[tuple[str, str], dict[int, float]] = {}
    for row in rows:
        place = (row["minute"] - begin_minute) // width
        pieces = found.setdefault((row["node"], row["sensor"]), {})
        pieces[place] = max(row["high"], pieces.get(place, -math.inf))
    return [
        {"node": node, "sensor": sensor, "step_s": width * 60,
         "points": [((begin_minute + place * width) * 60, high) for place, high in sorted(pieces.items())]}
        for (node, sensor), pieces in found.items()
    ]  # fmt: skip


class PauseBands:
    """Collects the pauses of the experiment at work from its events (page_queries.PAUSES), oldest first."""

    def __init__(self) -> None:
        self.seq = 0
        """The number of the last event that was looked at."""
        self._bands: list[dict[str, Any]] = []

    def add(self, event: Event) -> None:
        if self._bands and self._bands[-1]["to"] is None:
            self._bands[-1]["to"] = event.wall_s
        if event.name == "experiment.paused":
            why = {"origin": event.fields["origin"], "reason": one_line(str(event.fields["reason"]))}
            self._bands.append({"from": event.wall_s, "to": None, **why})
            del self._bands[:-MAX_BANDS]

    def since(self, wall_s: float) -> list[dict[str, Any]]:
        """Return the pauses that reach past `wall_s`; `to` is None for the one that lasts."""
        return [dict(band) for band in self._bands if band["to"] is None or band["to"] >= wall_s]
