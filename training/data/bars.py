"""Read daily bars from a file in many spellings into one checked table, or raise BadFile with line and cause.

The table has a sorted, unique, tz-naive DatetimeIndex of days named ``date`` and float64 columns open, high, low,
close and, where the file has it, volume. Each bar holds: low <= open, close <= high, all positive and finite.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import pandas as pd
import pyarrow as pa
from numpy.typing import NDArray

from training.data.cells import Cells, check_columns, renamed, value_of
from training.data.csv_file import read_csv
from training.data.days import Days, check_order, read_days
from training.data.numbers import Floats, read_numbers, read_numbers_or_nan
from training.data.tickers import Tickers, one_ticker, rows_of_one_ticker
from training.errors import BadFile

MAX_FILE_BYTES = 64 * 2**20
# sma_200 needs 199 days to warm up; a context and the smallest splits need more.
MIN_ROWS = 250
PRICES = ("open", "high", "low", "close")
_TEXT_KINDS = frozenset({".csv", ".txt", ".tsv"})
_PARQUET_KINDS = frozenset({".parquet", ".pq"})
# Prices that were adjusted in 32 bits differ by rounding where they were equal; no label depends on so little.
ROUNDING = 1e-6
# More wrong rows than this are no single errors: two columns have changed places.
SWAPPED_SHARE = 0.01
# Bars whose open or close lies outside low..high: refused, or a few of them kept ("open": only if it is the open).
Loose = Literal["refused", "open", "few"]
BOUNDS = (
    ("low", "high", "high < low"),
    ("close", "high", "close above high"),
    ("low", "close", "close below low"),
    ("open", "high", "open above high"),
    ("low", "open", "open below low"),
)


@dataclass(frozen=True, slots=True)
class Bars:
    """Checked bars, and the unused columns of the file.

    ``read_as`` says how the file was understood where another reading was thinkable. ``adjusted`` is the adjusted
    close of each day, NaN where it is no number; None where the file has no such column. ``loose`` describes the bars
    that were kept though open or close lies outside low..high.
    """

    table: pd.DataFrame
    ignored_columns: tuple[str, ...]
    read_as: tuple[str, ...] = ()
    adjusted: Floats | None = None
    loose: tuple[str, ...] = ()


def read_bars(path: Path, min_rows: int = MIN_ROWS, ticker: str | None = None, loose: Loose = "refused") -> Bars:
    """Read and check a CSV or parquet file of daily bars. ``ticker`` chooses among several in one file.

    ``loose`` says which bars may be kept though open or close lies outside low..high. Raises BadFile with file, line or
    row, cause and remedy.
    """
    _check_file(path)
    if path.suffix.lower() in _TEXT_KINDS:
        return _check_cells(read_csv(path, ticker), min_rows, ticker, loose)
    return check_bars(_read_parquet(path), path, min_rows, ticker, loose)


def check_bars(
    frame: pd.DataFrame,
    path: Path,
    min_rows: int = MIN_ROWS,
    ticker: str | None = None,
    loose: Loose = "refused",
) -> Bars:
    """Check a table in memory as ``read_bars`` does; ``path`` names it in errors. Raises BadFile."""
    return _check_cells(_cells_of(frame, path, ticker), min_rows, ticker, loose)


def _check_file(path: Path) -> None:
    if not path.exists():
        raise BadFile(path, None, "no such file", "Check the path.")
    if not path.is_file():
        raise BadFile(path, None, "not a regular file", "Name one CSV or parquet file.")
    if path.suffix.lower() not in _TEXT_KINDS | _PARQUET_KINDS:
        raise BadFile(path, None, f"unknown kind {path.suffix!r}", "Give a .csv or .parquet file.")
    size = path.stat().st_size
    if size == 0:
        raise BadFile(path, None, "the file is empty", "Export it again.")
    if size > MAX_FILE_BYTES:
        raise BadFile(path, None, f"{size:,} bytes are too many for daily bars", "Export daily bars, not ticks.")


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise BadFile(path, None, f"not a parquet file: {cause}", "Export it again, or give a CSV.") from None


def _cells_of(frame: pd.DataFrame, path: Path, ticker: str | None) -> Cells:
    """Return the cells of a table in memory, its index among them."""
    names, notes = [str(name) for name in frame.columns], []
    if isinstance(frame.columns, pd.MultiIndex):  # yfinance: (price, ticker)
        prices, tickers = ([str(name[level]) for name in frame.columns] for level in (0, 1))
        names, note = one_ticker(Tickers(prices, tickers), path, ticker)
        notes.append(note)
    columns = [frame.iloc[:, position].tolist() for position in range(len(names))]
    if not isinstance(frame.index, pd.RangeIndex):
        names.append(str(frame.index.name or ("date" if isinstance(frame.index, pd.DatetimeIndex) else "index")))
        columns.append(frame.index.tolist())
    if len(frame) == 0:
        raise BadFile(path, None, "a header without rows", "Export it again.")
    return Cells(path, "row", range(1, len(frame) + 1), tuple(names), columns, tuple(notes))


def _check_cells(cells: Cells, min_rows: int, ticker: str | None, loose: Loose) -> Bars:
    used = check_columns(cells.names, cells.path)
    cells = _without_empty_days(rows_of_one_ticker(cells, ticker))
    days, day_notes = read_days(cells, cells.columns[used["date"]])
    order, order_notes = check_order(cells, days)
    values = {name: cells.columns[used[name]] for name in (*PRICES, "volume") if name in used}
    numbers = read_numbers(cells, values)
    _check_values(cells, days, numbers.columns)
    kept = _check_bounds(cells, days, numbers.columns, loose)
    if len(days) < min_rows:
        raise BadFile(cells.path, None, f"only {len(days)} rows", f"At least {min_rows} days are needed.")
    index = pd.DatetimeIndex(days[order].astype("datetime64[ns]"), name="date")
    beside = cells.column("adjusted")
    return Bars(
        table=pd.DataFrame({name: column[order] for name, column in numbers.columns.items()}, index=index),
        ignored_columns=_others(cells.names, {used[name] for name in ("date", *values)}),
        read_as=(*cells.notes, *renamed(cells.names), *day_notes, *order_notes, *numbers.notes),
        adjusted=None if beside is None else read_numbers_or_nan(beside, numbers.style)[order],
        loose=kept,
    )


def _others(names: Sequence[str], used: Collection[int]) -> tuple[str, ...]:
    return tuple(name.strip() or f"column {at + 1}, unnamed" for at, name in enumerate(names) if at not in used)


def _without_empty_days(cells: Cells) -> Cells:
    """Leave out the days on which no price is given: such a row says that there was no trade."""
    columns = [column for name in PRICES if (column := cells.column(name)) is not None]
    empty = [all(value_of(cell) is None for cell in row) for row in zip(*columns, strict=True)]
    if not any(empty) or all(empty):
        return cells
    first = cells.numbers[empty.index(True)]
    note = f"{sum(empty)} days without any price left out, the first in {cells.unit} {first}"
    return cells.keep([row for row, is_empty in enumerate(empty) if not is_empty], note)


def _check_values(cells: Cells, days: Days, values: Mapping[str, Floats]) -> None:
    """Check the sign of each value. Raises BadFile at the first wrong row."""
    for name, column in values.items():
        wrong = column < 0 if name == "volume" else column <= 0
        if wrong.any():
            row = int(np.argmax(wrong))
            bound = "volume < 0" if name == "volume" else f"{name} <= 0"
            raise cells.fault(row, f"{days[row]}: {bound}{_more(wrong)}", "Repair the source, or leave the day out.")


def _check_bounds(cells: Cells, days: Days, values: Mapping[str, Floats], loose: Loose) -> tuple[str, ...]:
    """Check low <= open, close <= high. Return the kind of bars that were kept all the same.

    Raises BadFile at the first other row, with the number of such rows.
    """
    kept = []
    for lower, upper, cause in BOUNDS:
        wrong = np.asarray(values[lower] > values[upper] * (1 + ROUNDING))
        if not wrong.any():
            continue
        row = int(np.argmax(wrong))
        may_stay = loose == "few" or (loose == "open" and "open" in cause)
        if not may_stay or wrong.mean() > SWAPPED_SHARE or cause == "high < low":
            raise cells.fault(row, f"{days[row]}: {cause}{_more(wrong)}", _bounds_remedy(wrong, cause))
        kept.append(f"{cause} on {days[row]}{_more(wrong)}")
    return tuple(kept)


def _more(wrong: NDArray[np.bool_]) -> str:
    count = int(wrong.sum()) - 1
    return f", and in {count} rows more" if count else ""


def _bounds_remedy(wrong: NDArray[np.bool_], cause: str) -> str:
    if wrong.mean() > SWAPPED_SHARE:
        return "Compare the header with the rows: two columns may have changed places."
    accept = "" if cause == "high < low" else "; or keep them as they are with --accept REASON"
    return f"Repair the source, or leave such days out{accept}."
