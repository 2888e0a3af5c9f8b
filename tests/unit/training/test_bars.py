"""Many spellings of a good file of bars are read; each kind of bad file is refused with row and cause."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from training.data.bars import MAX_FILE_BYTES, read_bars
from training.errors import BadFile

GOOD = Path(__file__).parents[1] / "data" / "bars.csv"
Edit = Callable[[pd.DataFrame], pd.DataFrame]


def good_frame() -> pd.DataFrame:
    return pd.read_csv(GOOD)


def cell(row: int, column: str, value: object) -> Edit:
    """Put ``value`` into a data row, counted from 1."""

    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        changed = frame.astype(object)
        changed.loc[row - 1, column] = value
        return changed

    return edit


def swapped(first: int, second: int) -> Edit:
    def edit(frame: pd.DataFrame) -> pd.DataFrame:
        order = list(range(len(frame)))
        order[first - 1], order[second - 1] = order[second - 1], order[first - 1]
        return frame.iloc[order]

    return edit


BAD_TABLES: dict[str, tuple[Edit, int | None, str]] = {
    "duplicate date": (lambda f: f.iloc[[*range(20), 19, *range(20, len(f))]], 21, "same date as the row before"),
    "unsorted dates": (swapped(30, 31), 31, "earlier date than the row before"),
    "intraday rows": (
        lambda f: f.assign(date=[f"2001-01-02 {i // 60:02d}:{i % 60:02d}:00" for i in range(len(f))]),
        2,
        "same date as the row before",
    ),
    "missing date": (cell(7, "date", ""), 7, "the date is missing"),
    "unreadable date": (cell(7, "date", "yesterday"), 7, "'yesterday' is not a date"),
    "impossible day": (cell(7, "date", "2001-02-30"), 7, "not a day of the calendar"),
    "ambiguous dates": (lambda f: f.assign(date="01/02/2001"), 1, "day and month cannot be told apart"),
    "ancient date": (cell(1, "date", "0001-01-02"), 1, "before 1900"),
    "high below low": (cell(12, "high", 1.0), 12, "high < low"),
    "zero price": (cell(12, "low", 0), 12, "low <= 0"),
    "negative price": (cell(12, "close", -3), 12, "close <= 0"),
    "empty price": (cell(12, "open", ""), 12, "open is missing"),
    "NaN price": (cell(12, "close", "NaN"), 12, "close is missing"),
    "infinite price": (cell(12, "high", "inf"), 12, "high is infinite"),
    "text price": (cell(12, "close", "halted"), 12, "'halted', not a number"),
    "close above high": (cell(12, "close", 1e4), 12, "close above high"),
    "open below low": (cell(12, "open", 0.5), 12, "open below low"),
    "number of another style": (cell(12, "close", "1.234,5"), 12, "another style than"),
    "thousands wrongly grouped": (cell(12, "close", "1,23,4.5"), 12, "not a number"),
    "ticker instead of a price": (cell(12, "close", "SPY"), 12, "'SPY', not a number"),
    "negative volume": (cell(12, "volume", -1), 12, "volume < 0"),
    "empty volume": (cell(12, "volume", ""), 12, "volume is missing"),
    "too few rows": (lambda f: f.head(100), None, "only 100 rows"),
    "header only": (lambda f: f.head(0), None, "a header without rows"),
    "no date column": (lambda f: f.drop(columns="date"), None, "no date column"),
    "no low column": (lambda f: f.drop(columns="low"), None, "no column 'low'"),
    "close twice": (lambda f: f.assign(Close=f["close"]), None, "2 columns are named 'close'"),
}


@pytest.mark.parametrize("kind", BAD_TABLES)
@pytest.mark.parametrize("suffix", [".csv", ".parquet"])
def test_a_bad_table_is_refused_with_file_row_and_cause(kind: str, suffix: str, tmp_path: Path) -> None:
    edit, row, cause = BAD_TABLES[kind]
    path = tmp_path / f"bad{suffix}"
    frame = edit(good_frame())
    if suffix == ".csv":
        frame.to_csv(path, index=False)
    else:
        frame.astype(str).reset_index(drop=True).to_parquet(path)
    with pytest.raises(BadFile) as caught:
        read_bars(path)
    error = caught.value
    # The header is line 1 of a text file; a table without lines counts its rows.
    place = None if row is None else f"line {row + 1}" if suffix == ".csv" else f"row {row}"
    assert (error.path, error.place) == (path, place)
    assert cause in error.cause
    assert str(path) in str(error)
    assert place is None or place in str(error)
    assert error.remedy


def test_a_missing_date_in_a_true_date_column_is_refused_with_its_row(tmp_path: Path) -> None:
    frame = good_frame().assign(date=lambda f: pd.to_datetime(f["date"]))
    frame.loc[6, "date"] = pd.NaT
    path = tmp_path / "bad.parquet"
    frame.to_parquet(path)
    with pytest.raises(BadFile, match="row 7: the date is missing"):
        read_bars(path)


BAD_FILES: dict[str, tuple[str, bytes | None, str]] = {
    "no such file": ("gone.csv", None, "no such file"),
    "empty file": ("empty.csv", b"", "the file is empty"),
    "unknown kind": ("bars.xlsx", b"PK", "unknown kind '.xlsx'"),
    "binary as csv": ("binary.csv", bytes(range(128, 256)) * 10, "not UTF-8 text"),
    "only line ends": ("blank.csv", b"\n\n\n", "no columns"),
    "text as parquet": ("text.parquet", b"date,open\n" * 10, "not a parquet file"),
    "ragged row": ("ragged.csv", GOOD.read_bytes() + b"2009-01-02,1,1,1,1,1,1,1\n", "8 cells where the header has 6"),
}


@pytest.mark.parametrize("kind", BAD_FILES)
def test_a_file_that_is_not_a_table_is_refused_with_its_cause(kind: str, tmp_path: Path) -> None:
    name, content, cause = BAD_FILES[kind]
    path = tmp_path / name
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(BadFile) as caught:
        read_bars(path)
    assert cause in caught.value.cause
    assert str(path) in str(caught.value)


def test_a_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="not a regular file"):
        read_bars(tmp_path)


def test_a_file_too_large_for_daily_bars_is_refused_before_reading(tmp_path: Path) -> None:
    path = tmp_path / "ticks.csv"
    with path.open("wb") as stream:
        stream.truncate(MAX_FILE_BYTES + 1)
    with pytest.raises(BadFile, match="too many for daily bars"):
        read_bars(path)


def test_there_are_at_least_twenty_kinds_of_bad_files() -> None:
    assert len(BAD_TABLES) + len(BAD_FILES) >= 20


def expected() -> pd.DataFrame:
    return read_bars(GOOD).table


def same(path: Path) -> bool:
    table = read_bars(path).table
    pd.testing.assert_frame_equal(table[expected().columns], expected(), check_freq=False, check_index_type=False)
    return True


def test_good_bars_are_read_unchanged() -> None:
    table, raw = expected(), good_frame()
    assert list(table.columns) == ["open", "high", "low", "close", "volume"]
    assert np.array_equal(table["close"], raw["close"])
    assert [str(day.date()) for day in table.index] == list(raw["date"])


@pytest.mark.parametrize("case", [str.upper, str.title, lambda name: f" {name} "])
def test_column_names_may_have_any_case_and_padding(case: Callable[[str], str], tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    good_frame().rename(columns=case).to_csv(path, index=False)
    assert same(path)


def test_unused_columns_are_ignored_and_named(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    good_frame().assign(**{"Adj Close": 1.0}).to_csv(path, index=True)
    assert same(path)
    assert read_bars(path).ignored_columns == ("column 1, unnamed", "Adj Close")


@pytest.mark.parametrize("pattern", ["%Y%m%d", "%Y-%m-%d 00:00:00-05:00", "%Y-%m-%dT16:00:00Z", "%m/%d/%Y", "%d/%m/%Y"])
def test_many_spellings_of_a_date_name_the_same_day(pattern: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    frame = good_frame()
    frame["date"] = pd.to_datetime(frame["date"]).dt.strftime(pattern)
    frame.to_csv(path, index=False)
    assert same(path)


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo", "UTC"])
def test_a_time_zone_never_changes_the_day_of_a_session(zone: str, tmp_path: Path) -> None:
    path = tmp_path / "bars.parquet"
    frame = good_frame()
    frame.index = pd.DatetimeIndex(pd.to_datetime(frame.pop("date")), name="Date").tz_localize(zone)
    frame.to_parquet(path)
    assert same(path)


def test_a_byte_order_mark_is_ignored(tmp_path: Path) -> None:
    path = tmp_path / "bars.csv"
    path.write_bytes(b"\xef\xbb\xbf" + GOOD.read_bytes())
    assert same(path)


def test_bars_without_volume_are_accepted(tmp_path: Path) -> None:
    path = tmp_path / "index.csv"
    good_frame().drop(columns="volume").to_csv(path, index=False)
    assert list(read_bars(path).table.columns) == ["open", "high", "low", "close"]


def test_a_bad_file_error_can_be_pickled() -> None:
    error = BadFile(Path("a.csv"), "line 3", "a cause", "a cure")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.place, again.remedy) == (str(error), "line 3", "a cure")
