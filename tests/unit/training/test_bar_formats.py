"""Files as their sources write them are read to the same bars and say how, or are refused with the one thing to do."""

from __future__ import annotations

from datetime import date
from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from tests.unit.training.small_bars import Bar, csv_of, some_bars
from training.data.bars import Bars, Loose, read_bars
from training.errors import BadFile

BARS = some_bars()


def written(folder: Path, text: str, name: str = "bars.csv", encoding: str = "utf-8") -> Path:
    path = folder / name
    path.write_bytes(text.encode(encoding))
    return path


def assert_same(read: Bars, bars: list[Bar] = BARS) -> None:
    assert [day.date() for day in read.table.index] == [bar[0] for bar in bars]
    for at, name in enumerate(("open", "high", "low", "close"), start=1):
        assert np.array_equal(read.table[name], [bar[at] for bar in bars]), name


def grouped(value: float) -> str:
    return f'"{value:,.2f}"'


def german(value: float) -> str:
    return f"{value:,.2f}".translate(str.maketrans(",.", ".,"))


def indian(value: float) -> str:
    """Write 1500.25 as "1,500.25", and larger numbers in groups of two."""
    whole, cents = f"{value:.2f}".split(".")
    head, tail = whole[:-3], whole[-3:]
    groups = [head[max(0, end - 2) : end] for end in range(len(head), 0, -2)][::-1]
    return f'"{",".join([*groups, tail])}.{cents}"'


YFINANCE = "Price,Close,High,Low,Open,Volume\nTicker,QQQ,QQQ,QQQ,QQQ,QQQ\nDate,,,,,\n"
BY_TICKER = "Ticker,QQQ,QQQ,QQQ,QQQ,QQQ\nPrice,Open,High,Low,Close,Volume\nDate,,,,,\n"
NO_NAMES = "Date,Open,High,Low,Close,Volume\nDate,Unnamed: 1_level_1,Unnamed: 2_level_1,,,\n"
GOOD_FILES: dict[str, tuple[str, str]] = {
    "yfinance, three header lines": (YFINANCE + csv_of(BARS, header=None, columns=(0, 4, 2, 3, 1, 5)), "ticker QQQ"),
    "yfinance, grouped by ticker": (BY_TICKER + csv_of(BARS, header=None), "ticker QQQ"),
    "yfinance, second header of pandas": (NO_NAMES + csv_of(BARS, header=None), "line 2 left out"),
    "yfinance, history with zone": (csv_of(BARS, day=lambda day: f"{day} 00:00:00-05:00"), ""),
    "metastock": (
        csv_of(BARS, header="<DTYYYYMMDD>,<OPEN>,<HIGH>,<LOW>,<CLOSE>,<VOL>", day=lambda day: f"{day:%Y%m%d}"),
        "'<VOL>' as volume",
    ),
    "yahoo of old, newest first": (csv_of(BARS[::-1]), "newest row comes first"),
    "nasdaq.com": (
        csv_of(
            BARS[::-1], header="Date,Close/Last,Volume,Open,High,Low", columns=(0, 4, 5, 1, 2, 3),
            day=lambda day: f"{day:%m/%d/%Y}", price="${:.2f}".format,
        ),
        "'Close/Last' as close",
    ),
    "investing.com": (
        csv_of(
            BARS[::-1], header='"Date","Price","Open","High","Low","Vol."', columns=(0, 4, 1, 2, 3, 5),
            day=lambda day: f'"{day:%b %d, %Y}"', price=grouped, volume=lambda v: f'"{v / 1e6:.2f}M"',
        ),
        "volumes with K, M or B",
    ),
    "german spreadsheet": (
        csv_of(
            BARS, header="Date;Open;High;Low;Close;Volume", delimiter=";", day=lambda day: f"{day:%d.%m.%Y}",
            price=german, volume=lambda v: f"{v:,}".replace(",", "."),
        ),
        "decimal commas",
    ),
    "swiss thousands": (csv_of(BARS, price=lambda value: f"{value:,.2f}".replace(",", "'")), "separators of thousands"),
    "indian groups": (csv_of(BARS, price=indian), "separators of thousands"),
    "tabs": (csv_of(BARS, header="date\topen\thigh\tlow\tclose\tvol", delimiter="\t"), "divided by tab"),
    "bars": (csv_of(BARS, header="day|open|high|low|close|volume", delimiter="|"), "divided by bar"),
    "excel's sep line": ("sep=;\n" + csv_of(BARS, delimiter=";", header="Date;Open;High;Low;Close;Volume"), "line 2"),
    "title of three lines": ("ACME Corp.\nIn EUR\n\n" + csv_of(BARS), "header in line 4"),
    "alpha vantage": (csv_of(BARS, header="date,1. open,2. high,3. low,4. close,5. volume"), ""),
    "copied from yahoo's page": (
        csv_of(
            BARS, header="Date\tOpen\tHigh\tLow\tClose*\tVolume", delimiter="\t", day=lambda day: f"{day:%b %d, %Y}"
        ),
        "divided by tab",
    ),
    "crypto with title and symbol": (
        "https://data.example\n"
        + csv_of(BARS, header="date,open,high,low,close,volume,symbol", volume="{},BTC/USD".format),
        "rows of ticker BTC/USD",
    ),
    "lines empty or of commas": (csv_of(BARS).replace("\n", "\n\n", 3) + ",,,,,\n", ""),
    "old line ends": (csv_of(BARS).replace("\n", "\r"), ""),
    "days first by name": (csv_of(BARS, day=lambda day: f"{day:%d-%b-%Y}"), ""),
    "volume in scientific notation": (csv_of(BARS, volume=lambda value: f"{value:.6E}"), ""),
    "slashed year first": (csv_of(BARS, day=lambda day: f"{day:%Y/%m/%d}"), ""),
}  # fmt: skip


@pytest.mark.parametrize("source", GOOD_FILES)
def test_a_known_format_is_read_to_the_same_bars_and_said(source: str, tmp_path: Path) -> None:
    text, note = GOOD_FILES[source]
    read = read_bars(written(tmp_path, text))
    assert_same(read)
    assert note in "; ".join(read.read_as)
    assert np.allclose(read.table["volume"], [bar[5] for bar in BARS], rtol=0.01)


def test_a_plain_file_is_read_without_a_note(tmp_path: Path) -> None:
    read = read_bars(written(tmp_path, csv_of(BARS)))
    assert_same(read)
    assert read.read_as == ()


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig"])
def test_an_encoding_that_the_file_names_itself_is_read(encoding: str, tmp_path: Path) -> None:
    text = csv_of(BARS, delimiter="\t", header="Date\tOpen\tHigh\tLow\tClose\tVolume")
    assert_same(read_bars(written(tmp_path, text, encoding=encoding)))


def with_line(number: int, line: str) -> str:
    """Return the plain file with one line replaced."""
    lines = csv_of(BARS).splitlines()
    lines[number - 1] = line
    return "\n".join(lines) + "\n"


def month_first(day: date) -> str:
    return f"{day:%m/%d/%y}"


TWO = (
    "Price,Close,Close,High,High,Low,Low,Open,Open\nTicker,AMZN,GOOGL,AMZN,GOOGL,AMZN,GOOGL,AMZN,GOOGL\nDate,,,,,,,,\n"
)
REFUSED: dict[str, tuple[str, str | None, str]] = {
    "volume missing on one day": (with_line(9, "2015-03-11,1,1,1,1,"), "line 9", "volume is missing"),
    "yahoo's null in one price": (with_line(9, "2015-03-11,null,1,1,1,5"), "line 9", "open is missing"),
    "a dividend among the rows": (with_line(9, '"Mar 11, 2015",0.22 Dividend'), "line 9", "2 cells where the header"),
    "cells lost on a line": (with_line(9, "2015-03-11,64.29,64.30,6"), "line 9", "4 cells where the header has 6"),
    "trailing comma on each line": (csv_of(BARS, volume="{},".format), "line 2", "7 cells where the header has 6"),
    "prices with bare thousands": (csv_of(BARS, price="{:,.2f}".format), "line 2", "10 cells where the header has 6"),
    "row names without a header": (csv_of(BARS, day=lambda day: f"1,{day}"), "line 2", "7 cells where the header"),
    "footer": (csv_of(BARS) + "Data by ACME\n", "line 262", "1 cells where the header"),
    "last day twice": (csv_of([*BARS, BARS[-1]]), "line 262", "same date as the row before"),
    "first day twice, newest first": (csv_of([*BARS[::-1], BARS[0]]), "line 262", "same date as the row before"),
    "a row out of order, newest first": (
        csv_of([*BARS[:200:-1], BARS[199], BARS[200], *BARS[198::-1]]), "line 62", "a later date than the row before"
    ),
    "a quote that is not closed": (with_line(9, '2015-03-11,"1,1,1,1,5'), "line 9", "quotes of this line"),
    "no header": (csv_of(BARS, header=None), "line 1", "no header"),
    "limit of a server": ("Exceeded the daily hits limit\n", "line 1", "'Exceeded the daily hits limit'"),
    "a page instead of data": ("<!DOCTYPE html>\n<html></html>\n", "line 1", "'<!DOCTYPE html>'"),
    "names of another language": (
        csv_of(BARS, header="Datum;Eröffnung;Hoch;Tief;Schluss;Stück", delimiter=";"), "line 1", "'Datum;Eröffnung"
    ),
    "prices of one ticker in the names": (
        csv_of(BARS, header="Date,AAPL.Open,AAPL.High,AAPL.Low,AAPL.Close,AAPL.Volume"), None, "'AAPL.Open'"
    ),
    "milliseconds since 1970": (csv_of(BARS, day=lambda day: "1425254400000"), "line 2", "'1425254400000' is not a"),
    "years of two digits": (csv_of(BARS, day=month_first), "line 2", "'03/02/15' is not a date"),
    "a decimal comma or thousands": (
        csv_of(BARS, price=lambda value: f'"{value / 1000:.3f}"'.replace(".", ",")),
        "line 2", "can be read with a decimal comma or with one of thousands"
    ),
    "two styles of numbers": (with_line(9, '2015-03-11,"1,5",2.5,1.25,"1,75",5'), "line 9", "in another style than"),
    "two tickers side by side": (
        TWO + "\n".join(f"{bar[0]},2,2,2,2,2,2,2,2" for bar in BARS), None, "2 tickers in one file: 'AMZN', 'GOOGL'"
    ),
    "negative price": (with_line(9, "2015-03-11,-37.63,1,1,1,5"), "line 9", "open <= 0"),
    "close above high by a cent": (with_line(9, "2015-03-11,15,16.00,14,16.01,5"), "line 9", "close above high"),
    "open below low": (with_line(9, "2015-03-11,13,16,14,15,5"), "line 9", "open below low"),
    "not a number but Python's": (with_line(9, "2015-03-11,1_5,16,14,15,5"), "line 9", "'1_5', not a number"),
    "digits of another script": (with_line(9, "2015-03-11,١٥,16,14,15,5"), "line 9", "not a number"),
    "percent": (with_line(9, "2015-03-11,15%,16,14,15,5"), "line 9", "'15%', not a number"),
}  # fmt: skip


@pytest.mark.parametrize("kind", REFUSED)
@pytest.mark.filterwarnings("error")
def test_a_doubtful_file_is_refused_with_its_line_and_the_cure(kind: str, tmp_path: Path) -> None:
    text, place, cause = REFUSED[kind]
    with pytest.raises(BadFile) as caught:
        read_bars(written(tmp_path, text))
    assert cause in caught.value.cause
    assert caught.value.place == place
    assert caught.value.remedy


def two_tickers() -> str:
    other = some_bars(seed=2)
    lines = csv_of(BARS, header="Date,Open,High,Low,Close,Volume,Name").splitlines()
    rows = [f"{line},AAA" for line in lines[1:]]
    rows += [f"{line},BBB" for line in csv_of(other, header=None).splitlines()]
    return "\n".join([lines[0], *rows])


def test_rows_of_several_tickers_are_refused_by_name_or_chosen_by_ticker(tmp_path: Path) -> None:
    path = written(tmp_path, two_tickers())
    with pytest.raises(BadFile, match=r"2 tickers in one file: 'AAA', 'BBB'"):
        read_bars(path)
    read = read_bars(path, ticker="bbb")
    assert_same(read, some_bars(seed=2))
    assert "rows of ticker BBB (of 2 tickers)" in read.read_as


def test_columns_of_several_tickers_are_chosen_by_ticker(tmp_path: Path) -> None:
    rows = [f"{b[0]},{b[4]},9,{b[2]},9,{b[3]},9,{b[1]},9" for b in BARS]
    read = read_bars(written(tmp_path, TWO + "\n".join(rows)), ticker="AMZN")
    assert_same(read)
    assert "GOOGL Close" in read.ignored_columns


def test_a_table_with_columns_of_one_ticker_is_read_from_parquet(tmp_path: Path) -> None:
    frame = pd.DataFrame(
        {(name, "QQQ"): [bar[at] for bar in BARS] for at, name in enumerate(("Open", "High", "Low", "Close"), 1)},
        index=pd.DatetimeIndex([bar[0] for bar in BARS], name="Date"),
    )
    path = tmp_path / "bars.parquet"
    frame.to_parquet(path)
    assert_same(read_bars(path))


@pytest.mark.parametrize("cells", ["null,null,null,null,null", ",,,,0", "NaN,NaN,NaN,NaN,"])
def test_a_day_without_any_price_is_left_out_and_said(cells: str, tmp_path: Path) -> None:
    read = read_bars(written(tmp_path, with_line(9, f"{BARS[7][0]},{cells}")))
    assert_same(read, [*BARS[:7], *BARS[8:]])
    assert "1 days without any price left out, the first in line 9" in read.read_as


def test_prices_that_differ_by_rounding_are_equal(tmp_path: Path) -> None:
    line = f"{BARS[7][0]},100.0000001,100.0,100.0,100.00000001,5"
    assert len(read_bars(written(tmp_path, with_line(9, line))).table) == len(BARS)


@pytest.mark.parametrize("loose", ["open", "few"])
def test_few_bars_outside_their_range_may_be_kept_and_are_described(loose: Loose, tmp_path: Path) -> None:
    def read(line: str) -> Bars:
        return read_bars(written(tmp_path, with_line(9, line)), loose=loose)

    assert read(f"{BARS[7][0]},17,16,14,15,5").loose == (f"open above high on {BARS[7][0]}",)
    with pytest.raises(BadFile, match="high < low"):
        read(f"{BARS[7][0]},15,13,14,15,5")
    if loose == "open":
        with pytest.raises(BadFile, match="close below low"):
            read(f"{BARS[7][0]},15,16,14,13,5")
    else:
        assert read(f"{BARS[7][0]},15,16,14,13,5").loose == (f"close below low on {BARS[7][0]}",)


def test_columns_that_changed_places_are_refused_whatever_is_accepted(tmp_path: Path) -> None:
    swapped = csv_of(BARS, header="Date,Open,Close,Low,High,Volume")
    with pytest.raises(BadFile, match=r"close above high, and in \d+ rows more") as caught:
        read_bars(written(tmp_path, swapped), loose="few")
    assert "two columns may have changed places" in caught.value.remedy


def test_more_lines_than_any_history_has_are_refused(tmp_path: Path) -> None:
    with pytest.raises(BadFile, match="more than 100,000 lines"):
        read_bars(written(tmp_path, "x\n" * 200_000))
