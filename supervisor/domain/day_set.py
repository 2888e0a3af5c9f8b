"""Compares sets of days, as training.data.windows.day_set writes them into a trial's record. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import date

DaySet = Mapping[str, str]
"""Days of one `ticker`: bit n of `bits` (hexadecimal) is the day n days after `first` (ISO)."""


def shared_days(own: DaySet, others: Iterable[DaySet]) -> int:
    """Return how many days of `own` are in any of `others` of the same ticker."""
    bits, first, shared = int(own["bits"], 16), date.fromisoformat(own["first"]), 0
    for other in others:
        if other["ticker"] == own["ticker"]:
            apart = (date.fromisoformat(other["first"]) - first).days
            theirs = int(other["bits"], 16)
            shared |= bits & (theirs << apart if apart >= 0 else theirs >> -apart)
    return shared.bit_count()
