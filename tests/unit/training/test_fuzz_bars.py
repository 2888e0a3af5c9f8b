"""Broken files of bars are taken cell for cell, or refused with a line: no value ever moves to another column.

The reader to compare with is Python's csv module and a conversion that is written out here.
"""

from __future__ import annotations

import csv
import io
import random
import re
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.small_bars import csv_of, some_bars
from training.data.bars import PRICES, Bars, read_bars
from training.errors import BadFile

LINES = csv_of(some_bars(60)).splitlines()
SIGNS = [*"0123456789.,;\"'$-eE MK\t|/", "null", "NaN", "inf", '""', "1,234", "\ufeff", "\x00", "\r"]
Mutation = Callable[[random.Random, list[str]], None]


def any_row(chance: random.Random, lines: list[str]) -> int:
    return chance.randrange(1, len(lines))


def put_sign(chance: random.Random, lines: list[str]) -> None:
    row = any_row(chance, lines)
    at = chance.randrange(len(lines[row]) + 1)
    lines[row] = lines[row][:at] + chance.choice(SIGNS) + lines[row][at + chance.randrange(2) :]


def change_cells(chance: random.Random, lines: list[str]) -> None:
    row = any_row(chance, lines)
    cells = lines[row].split(",")
    at = chance.randrange(len(cells))
    chosen = chance.randrange(4)
    if chosen == 0:
        del cells[at]
    elif chosen == 1:
        cells.insert(at, chance.choice([*cells, "", "7"]))
    elif chosen == 2:
        cells[at] = chance.choice(["", "null", '"1,234.5"', "$1500.25", "1.2M", "1500,5", "-1", "1e3"])
    else:
        other = chance.randrange(len(cells))
        cells[at], cells[other] = cells[other], cells[at]
    lines[row] = ",".join(cells)


def move_lines(chance: random.Random, lines: list[str]) -> None:
    row, chosen = any_row(chance, lines), chance.randrange(4)
    if chosen == 0:
        lines.insert(row, lines[any_row(chance, lines)])
    elif chosen == 1 and len(lines) > 2:
        del lines[row]
    elif chosen == 2:
        lines.insert(row, chance.choice(["", ",,,,,", "# a note", "Total,,,,,"]))
    else:
        lines[row] = lines[row][: chance.randrange(len(lines[row]) + 1)]


def change_all_rows(chance: random.Random, lines: list[str]) -> None:
    """Change a column in every row, as an export with other settings would."""
    at = chance.randrange(1, 6)
    write = chance.choice([
        lambda text: f"{float(text):,.2f}", lambda text: f'"{float(text):,.2f}"', lambda text: text.replace(".", ","),
        lambda text: f"${text}", lambda text: f"{text},", lambda text: f"{float(text) / 1e6:.3f}M", lambda _: "null",
        lambda text: f" {text} ", lambda text: f'"{text}"', lambda text: f"{float(text):.6e}",
    ])  # fmt: skip
    for row in range(1, len(lines)):
        cells = lines[row].split(",")
        if len(cells) == 6 and re.fullmatch(r"[0-9.]+", cells[at]):
            cells[at] = write(cells[at])
            lines[row] = ",".join(cells)


def change_header(chance: random.Random, lines: list[str]) -> None:
    names = lines[0].split(",")
    at, other = chance.randrange(len(names)), chance.randrange(len(names))
    if chance.random() < 0.5:
        names[at], names[other] = names[other], names[at]
    else:
        names[at] = chance.choice(["", "Adj Close", "close", "<HIGH>", "Vol.", "Price", "Ticker"])
    lines[0] = ",".join(names)


MUTATIONS: dict[Mutation, int] = {put_sign: 3, change_cells: 3, move_lines: 2, change_all_rows: 3, change_header: 1}


def broken(seed: int) -> tuple[str, bool]:
    """Return a file with one or two mutations, and whether its header is untouched."""
    chance, lines = random.Random(seed), list(LINES)
    if chance.random() < 0.3:
        lines[1:] = lines[:0:-1]
    for mutate in chance.choices([*MUTATIONS], [*MUTATIONS.values()], k=chance.randint(1, 2)):
        mutate(chance, lines)
    return "\n".join(lines) + "\n", lines[0] == LINES[0]


def converted(text: str) -> set[float]:
    """Return the numbers that a cell may stand for: with a decimal point, or with a decimal comma."""
    bare = re.sub(r"[$ ']", "", text.strip())
    times = {"k": 1e3, "m": 1e6, "b": 1e9}.get(bare[-1:].lower(), 1.0)
    bare = bare[:-1] if times != 1.0 else bare
    readings = set()
    for plain in (bare.replace(",", ""), bare.replace(".", "").replace(",", ".")):
        try:
            readings.add(float(plain) * times)
        except ValueError:
            continue
    return readings


def assert_cell_for_cell(text: str, read: Bars) -> None:
    """Compare with the rows that the csv module finds: each day's values stand in the columns of their names."""
    rows = [row for row in csv.reader(io.StringIO(text.lstrip("\ufeff"))) if any(cell.strip() for cell in row)]
    names = [name.strip(" <>").lower() for name in rows[0]]
    where = {name: names.index(name) for name in PRICES if name in names}
    where.setdefault("close", names.index("price") if "price" in names else -1)
    volume = next((names.index(name) for name in ("volume", "vol.") if name in names), None)
    by_day = {row[names.index("date")].strip(): row for row in rows[1:]}
    assert len(read.table) <= len(rows) - 1
    for day, values in read.table.iterrows():
        row = by_day[f"{day:%Y-%m-%d}"]
        assert len(row) == len(names)
        for name, at in where.items():
            assert values[name] in converted(row[at]), (name, row)
        if volume is not None:
            assert values["volume"] in converted(row[volume]), row


def read_or_refused(path: Path) -> Bars | BadFile:
    try:
        return read_bars(path, min_rows=1)
    except BadFile as error:
        return error


def check(seed: int, path: Path) -> bool:
    """Return whether the broken file of this seed was taken."""
    text, header_untouched = broken(seed)
    path.write_bytes(text.encode())
    read = read_or_refused(path)
    if isinstance(read, BadFile):
        assert read.remedy
        lines = len(text.replace("\r", "\n").splitlines())
        if header_untouched:
            assert read.place in {f"line {number}" for number in range(1, lines + 1)}, (read, text)
        return False
    assert_cell_for_cell(text, read)
    table = read.table
    assert (table["low"] <= table[["open", "close"]].min(axis=1)).all()
    assert (table["high"] >= table[["open", "close"]].max(axis=1)).all()
    return True


@given(seed=st.integers(0, 2**32))
@pytest.mark.filterwarnings("error")
def test_a_broken_file_is_taken_cell_for_cell_or_refused_with_its_line(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    check(seed, tmp_path_factory.getbasetemp() / "broken.csv")


@pytest.mark.slow
@pytest.mark.filterwarnings("error")
def test_five_hundred_broken_files_are_taken_or_refused_and_both_happen(tmp_path: Path) -> None:
    taken = [check(seed, tmp_path / "broken.csv") for seed in range(500)]
    assert 50 < sum(taken) < 450


@pytest.mark.parametrize("row", [1, 30, 60])
def test_a_shifted_column_would_be_found(row: int, tmp_path: Path) -> None:
    """The comparison itself fails where two columns of one row change places."""
    text = "\n".join(LINES)
    (tmp_path / "bars.csv").write_text(text)
    read = read_bars(tmp_path / "bars.csv", min_rows=1)
    assert_cell_for_cell(text, read)
    table = read.table.copy()
    table.iloc[row - 1, [1, 2]] = table.iloc[row - 1, [2, 1]].to_numpy()
    with pytest.raises(AssertionError):
        assert_cell_for_cell(text, Bars(table, ()))
