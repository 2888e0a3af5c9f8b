"""Compare days with an exchange's calendar (exchange_calendars); gaps are reported, never filled."""

from __future__ import annotations

from dataclasses import dataclass

import exchange_calendars
import pandas as pd

from training.errors import TrainingError

DEFAULT_CALENDAR = "XNYS"


@dataclass(frozen=True, slots=True)
class SessionGaps:
    """``missing`` sessions without a row and ``extra`` rows without a session, as ISO days in order."""

    calendar: str
    missing: tuple[str, ...]
    extra: tuple[str, ...]


def compare_sessions(dates: pd.DatetimeIndex, calendar: str = DEFAULT_CALENDAR) -> SessionGaps:
    """Compare sorted, tz-naive days with the sessions of ``calendar`` between the first and the last day.

    Raises TrainingError for a calendar, or years of it, that the library does not know.
    """
    try:
        known = exchange_calendars.get_calendar(calendar, start=dates[0], end=dates[-1] + pd.Timedelta(days=7))
    except exchange_calendars.errors.InvalidCalendarName:
        raise TrainingError(
            f"there is no exchange calendar {calendar!r}", "Choose one such as XNYS, XNAS, XLON, XETR, 24/7; or none."
        ) from None
    except ValueError as error:  # the library has holidays of this exchange for other years only
        raise TrainingError(
            f"calendar {calendar!r} does not reach {dates[0]:%Y-%m-%d} .. {dates[-1]:%Y-%m-%d}: {error}",
            "Choose another calendar, or none, or leave those years out.",
        ) from None
    # Not sessions_in_range: it refuses a first day that is not a session, which is a finding here, not an error.
    sessions = known.sessions[(known.sessions >= dates[0]) & (known.sessions <= dates[-1])]
    return SessionGaps(calendar, _iso(sessions.difference(dates)), _iso(dates.difference(sessions)))


def _iso(days: pd.DatetimeIndex) -> tuple[str, ...]:
    return tuple(str(day) for day in days.strftime("%Y-%m-%d"))
