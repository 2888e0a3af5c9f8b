"""Read daily bars in many spellings into one checked table, or raise BadFile.

The table has a sorted, unique, tz-naive DatetimeIndex of days named ``date`` and float64 columns open, high, low,
close and, where the file has it, volume.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa

from training.errors import BadFile

MAX_FILE_BYTES = 256 * 2**20
# sma_200 needs 199 days to warm up; a context and the smallest splits need more.
MIN_ROWS = 250
PRICES = ("open", "high", "low", "close")
_DATE_NAMES = ("date", "datetime", "timestamp", "time", "day")
_ISO = re.compile(r"(\d{4})-?(\d{2})-?(\d{2})(?:[T ]\d{2}:\d{2}.*)?")
_SLASHED = re.compile(r"(\d{1,2})/(\d{1,2})/(\d{4})")


@dataclass(frozen=True, slots=True)
class Bars:
    """Checked bars, and the unused columns of the file."""

    table: pd.DataFrame
    ignored_columns: tuple[str, ...]


def read_bars(path: Path, min_rows: int = MIN_ROWS) -> Bars:
    """Read and check a CSV or parquet file of daily bars. Raises BadFile with file, row and cause."""
    _check_file(path)
    frame = _read_csv(path) if path.suffix.lower() in {".csv", ".txt"} else _read_parquet(path)
    return check_bars(frame, path, min_rows)


def check_bars(frame: pd.DataFrame, path: Path, min_rows: int = MIN_ROWS) -> Bars:
    """Check a table in memory; ``path`` names it in errors. Raises BadFile."""
    frame = _with_index_as_columns(frame)
    named = _by_name(frame, path)
    columns = {name: _numbers(frame.iloc[:, named[name]], name, path) for name in PRICES}
    if "volume" in named:
        columns["volume"] = _numbers(frame.iloc[:, named["volume"]], "volume", path)
    days = _days(frame.iloc[:, named["date"]], path)
    table = pd.DataFrame(columns, index=days.rename("date"))
    _check_days(table, path)
    _check_prices(table, path)
    if len(table) < min_rows:
        raise BadFile(path, None, f"only {len(table)} rows", f"At least {min_rows} days are needed.")
    used = set(named.values())
    return Bars(table, tuple(str(c) for i, c in enumerate(frame.columns) if i not in used))


def _check_file(path: Path) -> None:
    if not path.exists():
        raise BadFile(path, None, "no such file", "Check the path.")
    if not path.is_file():
        raise BadFile(path, None, "not a regular file", "Name one CSV or parquet file.")
    if path.suffix.lower() not in {".csv", ".txt", ".parquet", ".pq"}:
        raise BadFile(path, None, f"unknown kind {path.suffix!r}", "Give a .csv or .parquet file.")
    size = path.stat().st_size
    if size == 0:
        raise BadFile(path, None, "the file is empty", "Export it again.")
    if size > MAX_FILE_BYTES:
        raise BadFile(path, None, f"{size:,} bytes are too many for daily bars", "Export daily bars, not ticks.")


def _read_csv(path: Path) -> pd.DataFrame:
    try:
        # Read as text first: cells are checked here, with their rows, and not guessed by the parser.
        return pd.read_csv(path, dtype=str, keep_default_na=False, encoding="utf-8-sig", index_col=False)
    except UnicodeDecodeError:
        raise BadFile(path, None, "not UTF-8 text", "Save the file as CSV in UTF-8.") from None
    except pd.errors.EmptyDataError:
        raise BadFile(path, None, "no columns", "The first line must name the columns.") from None
    except (pd.errors.ParserError, ValueError) as error:
        cause = " ".join(str(error).split())
        raise BadFile(path, None, f"not a table: {cause}", "Each line needs as many cells as the header.") from None


def _read_parquet(path: Path) -> pd.DataFrame:
    try:
        return pd.read_parquet(path)
    except (pa.ArrowException, OSError, ValueError) as error:
        cause = " ".join(str(error).split())[:200]
        raise BadFile(path, None, f"not a parquet file: {cause}", "Export it again, or give a CSV.") from None


def _with_index_as_columns(frame: pd.DataFrame) -> pd.DataFrame:
    if isinstance(frame.columns, pd.MultiIndex):  # yfinance: (price, ticker)
        frame = frame.set_axis([str(name[0]) for name in frame.columns], axis=1)
    if isinstance(frame.index, pd.RangeIndex):
        return frame
    index = frame.index
    name = index.name or ("date" if isinstance(index, pd.DatetimeIndex) else "index")
    return frame.reset_index(drop=True).assign(**{str(name): index})


def _by_name(frame: pd.DataFrame, path: Path) -> dict[str, int]:
    seen: dict[str, list[int]] = {}
    for position, column in enumerate(frame.columns):
        # pandas renames a repeated header "close" to "close.1"; the table must not choose between them.
        plain = re.sub(r"\.\d+$", "", str(column)).strip().lower()
        seen.setdefault(plain, []).append(position)
    dates = [name for name in _DATE_NAMES if name in seen]
    if not dates:
        raise BadFile(path, None, "no date column", f"Name one column {' or '.join(_DATE_NAMES[:3])}.")
    wanted = {"date": dates[0], **{name: name for name in (*PRICES, "volume")}}
    for name in PRICES:
        if name not in seen:
            raise BadFile(path, None, f"no column {name!r}", f"Needed: date, {', '.join(PRICES)}.")
    for name in wanted.values():
        if len(seen.get(name, ())) > 1:
            raise BadFile(path, None, f"{len(seen[name])} columns are named {name!r}", "Keep one of them.")
    if len(frame) == 0:
        raise BadFile(path, None, "a header without rows", "Export it again.")
    return {ours: seen[theirs][0] for ours, theirs in wanted.items() if theirs in seen}


def _numbers(column: pd.Series[str], name: str, path: Path) -> np.ndarray[tuple[int], np.dtype[np.float64]]:
    values = pd.to_numeric(column, errors="coerce").to_numpy(np.float64)
    if not np.isfinite(values).all():
        row = int(np.argmin(np.isfinite(values)))
        raise BadFile(path, row + 1, *_cause_and_cure(name, column.iloc[row]))
    return values


def _cause_and_cure(name: str, cell: object) -> tuple[str, str]:
    text = str(cell).strip()
    if text == "" or text.lower() in {"nan", "na", "n/a", "null", "none", "<na>", "nat"}:
        return f"{name} is missing", "Leave the day out, or fill it from the source; no value is invented here."
    if "inf" in text.lower():
        return f"{name} is infinite", "Repair the source."
    if re.fullmatch(r"[$€£]?[\d,]+(\.\d+)?", text):
        return f"{name} is {text!r}, not a plain number", "Export numbers without currency and separators."
    return f"{name} is {text!r}, not a number", "Repair the source."


def _days(column: pd.Series[str], path: Path) -> pd.DatetimeIndex:
    if pd.api.types.is_datetime64_any_dtype(column.dtype):
        stamps = pd.DatetimeIndex(column)
        # The exchange's wall clock names the session: dropping the zone keeps it, converting to UTC would not.
        stamps = stamps.tz_localize(None) if stamps.tz is not None else stamps
        if stamps.hasnans:
            row = int(np.argmax(np.asarray(stamps.isna())))
            raise BadFile(path, row + 1, "the date is missing", "Leave the row out, or fill the date in.")
        return stamps.normalize()
    texts = [str(cell).strip() for cell in column]
    order = _slashed_order(texts, path)
    return pd.DatetimeIndex(np.array([_day(text, order, row, path) for row, text in enumerate(texts, start=1)]))


def _slashed_order(texts: Sequence[str], path: Path) -> str | None:
    """Find "mdy" or "dmy" by a number above 12; return None without slashed dates."""
    pairs = [(int(m[1]), int(m[2])) for text in texts if (m := _SLASHED.fullmatch(text))]
    if not pairs:
        return None
    first, second = max(a for a, _ in pairs), max(b for _, b in pairs)
    if (first > 12) == (second > 12):
        raise BadFile(path, None, f"{texts[0]!r}: day and month cannot be told apart", "Write dates as 2020-01-31.")
    return "dmy" if first > 12 else "mdy"


def _day(text: str, order: str | None, row: int, path: Path) -> np.datetime64:
    iso, slashed = _ISO.fullmatch(text), _SLASHED.fullmatch(text)
    if iso:
        year, month, day = iso[1], iso[2], iso[3]
    elif slashed and order:
        month, day = (slashed[1], slashed[2]) if order == "mdy" else (slashed[2], slashed[1])
        year = slashed[3]
    else:
        cause = "the date is missing" if text == "" else f"{text!r} is not a date"
        raise BadFile(path, row, cause, "Write dates as 2020-01-31, with or without a time after it.")
    try:
        return np.datetime64(f"{year}-{int(month):02d}-{int(day):02d}")
    except ValueError:
        raise BadFile(path, row, f"{text!r} is not a day of the calendar", "Repair the source.") from None


def _check_days(table: pd.DataFrame, path: Path) -> None:
    days = table.index.to_numpy()
    step = np.diff(days).astype("timedelta64[s]").astype(np.int64)
    for wrong, cause, remedy in (
        (step == 0, "the same date as the row before", "One row per day: daily bars, not intraday ones."),
        (step < 0, "an earlier date than the row before", "Sort the file by date, oldest first."),
    ):
        if wrong.any():
            row = int(np.argmax(wrong)) + 1
            raise BadFile(path, row + 1, f"{np.datetime_as_string(days[row], 'D')}: {cause}", remedy)
    ancient = days < np.datetime64("1900-01-01")
    if ancient.any():
        row = int(np.argmax(ancient))
        day = np.datetime_as_string(days[row], "D")
        raise BadFile(path, row + 1, f"a date before 1900: {day}", "Repair the source.")


def _check_prices(table: pd.DataFrame, path: Path) -> None:
    low, high = table["low"], table["high"]
    checks = [(table[name] <= 0, f"{name} <= 0", "Repair the source: a price is above 0.") for name in PRICES]
    checks.append((high < low, "high < low", "Repair the source: two columns may have changed places."))
    if "volume" in table:
        checks.append((table["volume"] < 0, "volume < 0", "Repair the source."))
    for wrong, cause, remedy in checks:
        if wrong.any():
            row = int(np.argmax(wrong.to_numpy()))
            raise BadFile(path, row + 1, f"{table.index[row].date()}: {cause}", remedy)
