"""Choose one ticker where a file holds several, side by side or below each other."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from training.data.cells import Cells, shown
from training.errors import BadFile


class Tickers(NamedTuple):
    """The columns of a table with prices of several tickers side by side: a price's name and a ticker for each."""

    prices: Sequence[str]
    tickers: Sequence[str]


def one_ticker(columns: Tickers, path: Path, wanted: str | None) -> tuple[list[str], str]:
    """Name the columns of one ticker by their prices, and those of others so that they are not used.

    Returns the names and a note. Raises BadFile for several tickers without the wanted one.
    """
    counts = Counter(ticker.strip() for ticker in columns.tickers)
    chosen = _choose(counts, path, wanted, "columns")
    names = [price if ticker.strip() == chosen else f"{ticker} {price}" for price, ticker in zip(*columns, strict=True)]
    return names, f"ticker {chosen}" + _of(counts)


def rows_of_one_ticker(cells: Cells, wanted: str | None) -> Cells:
    """Keep the rows of the wanted ticker where a column names tickers. Raises BadFile for several without it."""
    column = cells.column("ticker")
    if column is None:
        return cells
    texts = [str(cell).strip() for cell in column]
    counts = Counter(texts)
    chosen = _choose(counts, cells.path, wanted, "rows")
    return cells.keep([i for i, text in enumerate(texts) if text == chosen], f"rows of ticker {chosen}{_of(counts)}")


def _choose(counts: Counter[str], path: Path, wanted: str | None, unit: str) -> str:
    if len(counts) == 1:
        return next(iter(counts))
    same = [name for name in counts if wanted is not None and name.upper() == wanted.strip().upper()]
    if len(same) == 1:
        return same[0]
    cause = f"{len(counts)} tickers in one file: {shown(sorted(counts))}"
    raise BadFile(path, None, cause, f"Import it with --ticker and one of these names, or keep the {unit} of one.")


def _of(counts: Counter[str]) -> str:
    return "" if len(counts) == 1 else f" (of {len(counts)} tickers)"
