"""Doubt a series that is well formed and still not the daily bars of one instrument, unadjusted splits above all.

A doubt is said and recorded. One with ``wrong_labels`` stops an import until its reason is given: labels and averages
computed from such bars would be wrong.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from training.data.bars import PRICES, Bars
from training.data.exchange import SessionGaps

# Beside an adjusted close: a split of 5 for 4 is the smallest in use, and no dividend but a rare one is as large.
SMALLEST_SPLIT = 1.2
# Without one: splits in use, and how near to it the first price after a night must be.
SPLITS = (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 15.0, 20.0, 25.0, 30.0, 40.0, 50.0, 100.0)
SPLIT_TOLERANCE = 0.03
SPLIT_JUMP = 1.8
# Jumps that are said: a fall of 29 % or a rise of 40 %. The VIX has doubled in a day, so an index has another bound.
LARGE_JUMP, LARGE_INDEX_JUMP = 1.4, 4.0
# Daily bars are 1 to 4 days apart, weekly ones 7.
WEEKLY_STEP_DAYS = 5
MISSING_SAID, MISSING_REFUSED = 0.01, 0.10
EXTRA_SAID = 0.05
LONG_GAP_DAYS = 30
REPEATED_SAID = 0.02


@dataclass(frozen=True, slots=True)
class Doubt:
    """One thing about a series that may be wrong. ``remedy`` is for one with ``wrong_labels``."""

    text: str
    wrong_labels: bool = False
    remedy: str = ""


def doubts_about(bars: Bars, gaps: SessionGaps | None, *, is_index: bool = False) -> list[Doubt]:
    """Return the doubts about these bars, in the order of their weight. An index is never split."""
    table = bars.table
    found = [*_weekly(table), *_constant(table)]
    found += _jumps(table, bars.adjusted, is_index=is_index)
    found += [*_missing(table, gaps), *_long_gap(table), *_repeated(table)]
    found += [Doubt(text) for text in bars.loose]
    return sorted(found, key=lambda doubt: not doubt.wrong_labels)


def _weekly(table: pd.DataFrame) -> Iterator[Doubt]:
    days = float(np.median(_steps(table)))
    if days >= WEEKLY_STEP_DAYS:
        kind = "weekly" if days < 14 else "monthly"
        text = f"the rows are {days:g} days apart: {kind} bars, not daily ones"
        yield Doubt(text, wrong_labels=True, remedy="Export daily bars.")


def _constant(table: pd.DataFrame) -> Iterator[Doubt]:
    rows = len(table)
    if (table[list(PRICES)].nunique(axis=1) == 1).all():
        text = f"open, high, low and close are equal on all {rows} days: closing prices only"
        yield Doubt(text, wrong_labels=True, remedy="Export bars with the high and low of each day.")
    for name in table.columns:
        values = table[name].to_numpy(np.float64)
        if name == "volume":
            yield from _volume(values)
        elif (values == values[0]).all():
            text = f"{name} is {values[0]:g} on all {rows} days"
            yield Doubt(text, wrong_labels=True, remedy=f"Export the file again: {name} changes from day to day.")


def _volume(values: NDArray[np.float64]) -> Iterator[Doubt]:
    rows, zeros = len(values), int((values == 0).sum())
    if (values == values[0]).all():
        effect = "obv, adosc and volume hold no information, vwap_20 is a plain mean"
        yield Doubt(f"volume is {values[0]:g} on all {rows} days: {effect}")
    elif zeros > rows / 2:
        yield Doubt(f"volume is 0 on {zeros} of {rows} days")


def _jumps(table: pd.DataFrame, adjusted: NDArray[np.float64] | None, *, is_index: bool) -> Iterator[Doubt]:
    """Find days before which the price was divided, as a split does it; and other jumps, which are only said."""
    close, opened = table["close"].to_numpy(np.float64), table["open"].to_numpy(np.float64)
    overnight, daily = opened[1:] / close[:-1], close[1:] / close[:-1]
    beside = _adjusted_away(close, adjusted)
    alike = _like_split(overnight) & (_size(daily) > SPLIT_JUMP) if not is_index else np.zeros(len(daily), np.bool_)
    for splits, more in (
        (beside, "; the adjusted close beside it does not jump"),
        (alike & ~beside, ""),
    ):
        if splits.any():
            text = f"the close jumps {_by(table, daily, splits)}, like an unadjusted split{more}"
            remedy = "Export prices that are adjusted for splits: open, high, low and close, not the close alone."
            yield Doubt(text, wrong_labels=True, remedy=remedy)
    others = (_size(daily) > (LARGE_INDEX_JUMP if is_index else LARGE_JUMP)) & ~alike & ~beside
    if others.any():
        yield Doubt(f"the close jumps {_by(table, daily, others)}")


def _adjusted_away(close: NDArray[np.float64], adjusted: NDArray[np.float64] | None) -> NDArray[np.bool_]:
    """Find jumps of the close that the adjusted close beside it does not make."""
    if adjusted is None:
        return np.zeros(len(close) - 1, np.bool_)
    factor, daily = np.where(adjusted > 0, adjusted, np.nan) / close, close[1:] / close[:-1]
    step = factor[1:] / factor[:-1]
    opposite: NDArray[np.bool_] = (step > 1) == (daily < 1)
    return opposite & (_size(step) > SMALLEST_SPLIT) & (_size(daily) > SMALLEST_SPLIT)


def _by(table: pd.DataFrame, daily: NDArray[np.float64], days: NDArray[np.bool_]) -> str:
    first = int(np.argmax(days))
    count = int(days.sum())
    more = f" and on {count - 1} days more" if count > 1 else ""
    return f"by {daily[first] - 1:+.0%} on {table.index[first + 1]:%Y-%m-%d}{more}"


def _like_split(ratio: NDArray[np.float64]) -> NDArray[np.bool_]:
    nearest = np.min(np.abs(np.log(_size(ratio))[:, None] - np.log(SPLITS)[None, :]), axis=1)
    return np.asarray(nearest < SPLIT_TOLERANCE)


def _size(ratio: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return how many times larger or smaller: 0.5 and 2 are both 2."""
    return np.maximum(ratio, 1 / ratio)


def _missing(table: pd.DataFrame, gaps: SessionGaps | None) -> Iterator[Doubt]:
    if gaps is None:
        return
    rows, missing, extra = len(table), len(gaps.missing), len(gaps.extra)
    share = missing / (missing + rows - extra) if missing else 0.0
    if share > MISSING_SAID:
        text = f"{share:.1%} of the sessions of {gaps.calendar} have no row ({missing} of {missing + rows - extra})"
        remedy = "Export all days, or name the exchange's calendar (--calendar XLON, 24/7, none)."
        yield Doubt(text, wrong_labels=share > MISSING_REFUSED, remedy=remedy)
    if extra > EXTRA_SAID * rows:
        yield Doubt(
            f"{extra / rows:.1%} of the rows are on days without a session of {gaps.calendar}: another calendar?"
        )


def _long_gap(table: pd.DataFrame) -> Iterator[Doubt]:
    steps = _steps(table)
    longest = int(np.argmax(steps))
    if steps[longest] > LONG_GAP_DAYS:
        yield Doubt(f"no row for {steps[longest]:g} days after {table.index[longest]:%Y-%m-%d}; windows span this gap")


def _repeated(table: pd.DataFrame) -> Iterator[Doubt]:
    same = int((table.iloc[1:].to_numpy() == table.iloc[:-1].to_numpy()).all(axis=1).sum())
    if same > REPEATED_SAID * len(table):
        yield Doubt(f"{same} of {len(table)} rows repeat the row before exactly: filled-in days?")


def _steps(table: pd.DataFrame) -> NDArray[np.float64]:
    return np.asarray(np.diff(table.index.to_numpy()) / np.timedelta64(1, "D"), np.float64)
