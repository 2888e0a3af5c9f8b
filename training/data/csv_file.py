"""Read a CSV file into cells: find the delimiter and the header, and count the cells of each line.

The header is the first line, among the first 20, that names a date and four prices. A line with more or fewer cells
than the header is refused: no cell is dropped, and none moves to another column.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path

from training.data.cells import NEEDED, ROLES, Cells, check_columns, find_columns, plain_name, shown
from training.data.tickers import Tickers, one_ticker
from training.errors import BadFile

DELIMITERS = {",": "comma", ";": "semicolon", "\t": "tab", "|": "bar"}
HEADER_LINES = 20
# 400 years of sessions: whatever is longer is not a file of daily bars.
MAX_ROWS = 100_000


@dataclass(frozen=True, slots=True)
class Header:
    """The names of the columns, the delimiter, and the index of the first line of data."""

    names: tuple[str, ...]
    delimiter: str
    data_at: int
    notes: tuple[str, ...] = ()


def read_csv(path: Path, ticker: str | None = None) -> Cells:
    """Read a CSV file's cells. ``ticker`` chooses among several. Raises BadFile with line, cause and cure."""
    lines = _lines(path)
    header = _header(lines, path, ticker)
    numbers, rows = [], []
    for at, line in enumerate(lines[header.data_at :], start=header.data_at + 1):
        cells = _split(line, header.delimiter, path, at)
        if any(cell.strip() for cell in cells):
            _check_count(cells, header, path, at)
            numbers.append(at)
            rows.append(cells)
    if not rows:
        raise BadFile(path, None, "a header without rows", "Export it again.")
    columns = [list(column) for column in zip(*rows, strict=True)]
    return Cells(path, "line", numbers, header.names, columns, header.notes)


def _lines(path: Path) -> list[str]:
    with path.open("rb") as stream:
        mark = stream.read(2)
    encoding = "utf-16" if mark in {b"\xff\xfe", b"\xfe\xff"} else "utf-8-sig"
    try:
        with path.open(encoding=encoding) as text:
            lines = [line.rstrip("\n") for line in islice(text, MAX_ROWS + HEADER_LINES)]
    except UnicodeError:
        raise BadFile(path, None, "not UTF-8 text", "Save the file as CSV in UTF-8.") from None
    if len(lines) == MAX_ROWS + HEADER_LINES:
        raise BadFile(path, None, f"more than {MAX_ROWS:,} lines", "Export daily bars of one ticker, not ticks.")
    if not any(line.strip() for line in lines):
        raise BadFile(path, None, "no columns: every line is empty", "Export it again.")
    return lines


def _split(line: str, delimiter: str, path: Path, number: int) -> list[str]:
    """Split one line. A quoted cell ends on its line, so that a lost quote cannot swallow the lines after it."""
    try:
        return _cells(line, delimiter)
    except csv.Error as error:
        cause = f"the quotes of this line do not match ({error})"
        raise BadFile(path, f"line {number}", cause, "Close each quote on its line.") from None


def _check_count(cells: Sequence[str], header: Header, path: Path, number: int) -> None:
    if len(cells) == len(header.names):
        return
    cause = f"{len(cells)} cells where the header has {len(header.names)}"
    remedy = "Repair or delete this line."
    if len(cells) > len(header.names):
        remedy = "Write numbers without separators of thousands, or in quotes; or name the further columns."
    raise BadFile(path, f"line {number}", cause, remedy)


def _header(lines: Sequence[str], path: Path, ticker: str | None) -> Header:
    for at in range(min(HEADER_LINES, len(lines))):
        for delimiter in DELIMITERS:
            names = _quiet_split(lines[at], delimiter)
            stacked = _stacked_header(lines, at, delimiter, path, ticker)
            if stacked is not None:
                return stacked
            if all(role in find_columns(names) for role in NEEDED):
                return _plain_header(lines, at, delimiter, names)
    raise _no_header(lines, path)


def _plain_header(lines: Sequence[str], at: int, delimiter: str, names: Sequence[str]) -> Header:
    notes = [] if delimiter == "," else [f"columns divided by {DELIMITERS[delimiter]}"]
    if any(line.strip() for line in lines[:at]):
        notes.append(f"header in line {at + 1}, the lines above it left out")
    second = _quiet_split(lines[at + 1], delimiter) if at + 1 < len(lines) else []
    # yfinance up to 0.2.50, read and written again by pandas: Date,Unnamed: 1_level_1,...
    empty = plain_name((second or [""])[0]) in ROLES["date"] and all(
        not c or c.startswith("Unnamed:") for c in second[1:]
    )
    if empty:
        notes.append(f"line {at + 2} left out, a second header without names")
    return Header(tuple(names), delimiter, at + 1 + empty, tuple(notes))


def _stacked_header(lines: Sequence[str], at: int, delimiter: str, path: Path, ticker: str | None) -> Header | None:
    """Read the three header lines of yfinance: prices and tickers, in either order, then the date's name."""
    head = [_quiet_split(line, delimiter) for line in lines[at : at + 3]]
    if len(head) < 3 or len({len(cells) for cells in head}) != 1 or len(head[0]) < len(NEEDED):
        return None
    labels = {plain_name(head[0][0]): head[0], plain_name(head[1][0]): head[1]}
    if set(labels) != {"price", "ticker"} or plain_name(head[2][0]) not in ROLES["date"] or any(head[2][1:]):
        return None
    names, note = one_ticker(Tickers(labels["price"][1:], labels["ticker"][1:]), path, ticker)
    check_columns((head[2][0], *names), path)
    return Header((head[2][0], *names), delimiter, at + 3, (f"three header lines of yfinance, {note}",))


def _quiet_split(line: str, delimiter: str) -> list[str]:
    """Split a line that may be no line of this table: no cells where its quotes do not match."""
    try:
        return _cells(line, delimiter)
    except csv.Error:
        return []


def _cells(line: str, delimiter: str) -> list[str]:
    return next(csv.reader([line], delimiter=delimiter, strict=True, skipinitialspace=True), [])


def _no_header(lines: Sequence[str], path: Path) -> BadFile:
    """Return the error for the line that comes nearest to a header."""
    number, names = max(_candidates(lines), key=lambda found: len(find_columns(found[1]).keys() & set(NEEDED)))
    found = find_columns(names)
    if found.keys() & set(NEEDED):
        try:
            check_columns(names, path)
        except BadFile as error:
            return error
    number, first = next((at, line) for at, line in enumerate(lines, start=1) if line.strip())
    return BadFile(
        path,
        f"line {number}",
        f"no header: no date column and no prices are named; found {shown([first.strip()])}",
        "Put a line above the data that names the columns, such as Date,Open,High,Low,Close,Volume.",
    )


def _candidates(lines: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
    for at, line in enumerate(lines[:HEADER_LINES], start=1):
        for delimiter in DELIMITERS:
            yield at, _quiet_split(line, delimiter)
