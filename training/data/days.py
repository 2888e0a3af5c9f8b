"""Read the dates of bars in many spellings, and order them oldest first."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from training.data.cells import Cells, value_of

Days = NDArray[np.datetime64]
Order = Literal["mdy", "dmy"]

_TIME = r"(?:[T ]\s*[0-9]{1,2}:[0-9]{2}.*)?"
_ISO = re.compile(rf"([0-9]{{4}})(?:([-/.])([0-9]{{1,2}})\2([0-9]{{1,2}})|([0-9]{{2}})([0-9]{{2}})){_TIME}")
_PARTS = re.compile(rf"([0-9]{{1,2}})([/.-])([0-9]{{1,2}})\2([0-9]{{4}}){_TIME}")
_MONTHS = ("jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec")
_MONTH_FIRST = re.compile(r"(?P<month>[A-Za-z]{3})[a-z]*\.? (?P<day>[0-9]{1,2}),? (?P<year>[0-9]{4})")
_DAY_FIRST = re.compile(r"(?P<day>[0-9]{1,2})[ -](?P<month>[A-Za-z]{3})[a-z]*\.?[ -](?P<year>[0-9]{4})")
WRITE = "Write dates as 2020-01-31, with or without a time after it."


def read_days(cells: Cells, column: Sequence[object]) -> tuple[Days, list[str]]:
    """Read each cell as a day; a time of day or a zone beside it changes nothing. Raises BadFile with the row.

    The exchange's wall clock names the session, so the zone is dropped and not converted.
    """
    texts = [value_of(cell) for cell in column]
    order = _order(cells, texts)
    notes = []
    if order is not None:
        first = next(str(text) for text in texts if _PARTS.fullmatch(str(text)))
        notes.append(f"dates like {first} as {'month, day' if order == 'mdy' else 'day, month'}, year")
    return np.array([_day(cells, row, text, order) for row, text in enumerate(texts)]), notes


def check_order(cells: Cells, days: Days) -> tuple[NDArray[np.int64], list[str]]:
    """Return the rows' order, oldest first, and a note where the newest comes first in the file.

    Raises BadFile for a day that is there twice, out of order, or before 1900.
    """
    step = np.diff(days).astype(np.int64)
    sign = -1 if (step < 0).sum() > (step > 0).sum() else 1
    other = "an earlier" if sign == 1 else "a later"
    for wrong, cause, remedy in (
        (step == 0, "the same date as", "One row per day: daily bars of one ticker, not intraday ones."),
        (sign * step < 0, f"{other} date than", "Sort the file by date, oldest first."),
    ):
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            raise cells.fault(row, f"{days[row]}: {cause} the row before", remedy)
    oldest = 0 if sign == 1 else len(days) - 1
    if len(days) and days[oldest] < np.datetime64("1900-01-01"):
        raise cells.fault(oldest, f"a date before 1900: {days[oldest]}", "Repair the source.")
    return np.arange(len(days))[::sign], ["the newest row comes first, order reversed"] if sign == -1 else []


def _order(cells: Cells, texts: Sequence[float | str | None]) -> Order | None:
    """Find the order of day and month by a number above 12, or by dots; None where no date needs it."""
    found = [(row, match) for row, text in enumerate(texts) if (match := _PARTS.fullmatch(str(text)))]
    if not found:
        return None
    first, second = max(int(match[1]) for _, match in found), max(int(match[3]) for _, match in found)
    dotted = all(match[2] == "." for _, match in found)
    if second <= 12 and (first > 12 or dotted):
        return "dmy"
    if first <= 12 < second:
        return "mdy"
    raise cells.fault(found[0][0], f"{found[0][1][0]!r}: day and month cannot be told apart", WRITE)


def _day(cells: Cells, row: int, cell: float | str | None, order: Order | None) -> np.datetime64:
    text = f"{cell:.0f}" if isinstance(cell, float) else cell
    if text is None:
        raise cells.fault(row, "the date is missing", "Leave the row out, or fill the date in.")
    parts = _parts(text, order)
    if parts is None:
        raise cells.fault(row, f"{text[:60]!r} is not a date", WRITE)
    try:
        return np.datetime64("{:04d}-{:02d}-{:02d}".format(*parts), "D")
    except ValueError:
        raise cells.fault(row, f"{text!r} is not a day of the calendar", "Repair the source.") from None


def _parts(text: str, order: Order | None) -> tuple[int, int, int] | None:
    """Return year, month and day; None for another spelling."""
    if iso := _ISO.fullmatch(text):
        return int(iso[1]), int(iso[3] or iso[5]), int(iso[4] or iso[6])
    if parts := _PARTS.fullmatch(text):
        month, day = (parts[3], parts[1]) if order == "dmy" else (parts[1], parts[3])
        return int(parts[4]), int(month), int(day)
    named = _MONTH_FIRST.fullmatch(text) or _DAY_FIRST.fullmatch(text)
    if named and named["month"].lower() in _MONTHS:
        return int(named["year"]), _MONTHS.index(named["month"].lower()) + 1, int(named["day"])
    return None
