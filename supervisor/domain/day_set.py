"""Compares sets of days, as training.data.windows.day_set writes them into a trial's record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

DaySet = Mapping[str, str]
"""Days of one `ticker`: bit n of `bits` (hexadecimal) is the day n days after `first` (ISO)."""


def shared_days(own: Iterable[DaySet], others: Iterable[DaySet]) -> int:
    """Return how many different days of `own` are in any of `others` of the same ticker."""
    mine, theirs = _by_ticker(own), _by_ticker(others)
    return sum((bits & theirs.get(ticker, 0)).bit_count() for ticker, bits in mine.items())


def _by_ticker(sets: Iterable[DaySet]) -> dict[str, int]:
    """Return the days of each ticker as one number, whose bit n is the day of ordinal n."""
    found: dict[str, int] = {}
    for one in sets:
        bits = int(one["bits"], 16) << date.fromisoformat(one["first"]).toordinal()
        found[one["ticker"]] = found.get(one["ticker"], 0) | bits
    return found
