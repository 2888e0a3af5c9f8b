"""Rolls readings up by the minute: a sensor's smallest, mean and largest value. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from supervisor.store.database import Change

MINUTE_S = 60
KEPT_DAYS = 60
"""Older rows are deleted: a run of 250 hours with twenty sensors is 300,000 rows, about 30 MB."""


@dataclass(frozen=True)
class MinuteOfReadings:
    """Holds one minute of one sensor. `low`, `mean` and `high` are None in a minute without a value."""

    node: str
    sensor_id: str
    unit: str
    minute: int
    """Whole minutes since the epoch."""
    count: int
    believed: int
    low: float | None
    mean: float | None
    high: float | None


class ReadingRollup:
    """Collects readings, and returns the minutes that are over."""

    def __init__(self) -> None:
        self._open: dict[tuple[str, str, str], tuple[int, int, list[float]]] = {}

    def add(self, node: str, readings: Iterable[dict[str, Any]], wall_s: float) -> list[MinuteOfReadings]:
        """Add a node's readings (Reading.to_json()); return the minutes that are over, also after the clock was set."""
        minute, over = int(wall_s // MINUTE_S), []
        for reading in readings:
            key = (node, str(reading["sensor_id"]), str(reading["unit"]))
            begun, count, values = self._open.get(key, (minute, 0, []))
            if begun != minute:
                over.append(_closed(key, begun, count, values))
                count, values = 0, []
            if reading["value"] is not None:
                values = [*values, float(reading["value"])]
            self._open[key] = (minute, count + 1, values)
        # A node or a sensor that is gone must not stay open for ever.
        gone = [key for key, (begun, _, _) in self._open.items() if abs(begun - minute) > 1]
        return over + [_closed(key, *self._open.pop(key)) for key in gone]

    def close(self) -> list[MinuteOfReadings]:
        """Return the minutes that are not over, and begin anew."""
        left = [_closed(key, *state) for key, state in self._open.items()]
        self._open.clear()
        return left


def _closed(key: tuple[str, str, str], minute: int, count: int, values: list[float]) -> MinuteOfReadings:
    mean = sum(values) / len(values) if values else None
    return MinuteOfReadings(
        *key, minute, count, len(values), min(values, default=None), mean, max(values, default=None)
    )


class ReadingTable:
    """Keeps the minutes of one run in the table `reading`, which no event carries."""

    def __init__(self, run_id: str) -> None:
        self._run_id = run_id
        self._swept_day: int | None = None

    def keep(self, change: Change, minutes: Iterable[MinuteOfReadings]) -> None:
        """Insert these minutes; the first row of a minute stands. Delete the rows that are too old, once a day."""
        for row in minutes:
            change.execute(
                "INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                self._run_id, row.node, row.sensor_id, row.minute, row.unit, row.count, row.believed,
                row.low, row.mean, row.high,
            )  # fmt: skip
        minute = int(change.wall_s // MINUTE_S)
        # Once a day: it reads the whole table, and this is called every minute.
        if minute // 1440 != self._swept_day:
            change.execute("DELETE FROM reading WHERE minute < ?", minute - KEPT_DAYS * 1440)
            self._swept_day = minute // 1440
