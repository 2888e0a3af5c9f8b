"""Read numbers in the spellings of exports, and refuse those that can be read in two ways.

A file has one style: "point" (1,234.5) or "comma" (1.234,5). It is found from all its numbers together.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Literal, NamedTuple

import numpy as np
from numpy.typing import NDArray

from training.data.cells import Cells, value_of
from training.errors import BadFile

Style = Literal["point", "comma"]
Floats = NDArray[np.float64]
Values = Sequence[float | str | None]

_CURRENCY = re.compile(r"^[$€£¥]\s?|\s?[$€£¥]$")
_SPACES = " '’\u00a0\u202f"
_SUFFIX = {"k": 1e3, "m": 1e6, "b": 1e9}
PLAIN = "Write numbers with a decimal point and without separators of thousands."


def _pattern(group: str, point: str) -> re.Pattern[str]:
    grouped = rf"[0-9]{{1,3}}(?P<group>[{group}{_SPACES}])(?:[0-9]{{2,3}}(?P=group))*[0-9]{{3}}"
    return re.compile(rf"[+-]?(?:(?:{grouped}|[0-9]+)(?:{point}[0-9]*)?|{point}[0-9]+)(?:[eE][+-]?[0-9]+)?")


_PATTERNS: Mapping[Style, re.Pattern[str]] = {"point": _pattern(",", r"\."), "comma": _pattern(r"\.", ",")}


class Numbers(NamedTuple):
    """Columns of numbers, the style in which they were written, and notes on their spelling."""

    columns: dict[str, Floats]
    style: Style
    notes: list[str]


def read_numbers(cells: Cells, columns: Mapping[str, Sequence[object]]) -> Numbers:
    """Read the columns as numbers, in one style.

    Raises BadFile at a cell that is missing, not a number, infinite, or not of the style of the others.
    """
    values = {name: [value_of(cell) for cell in column] for name, column in columns.items()}
    texts = []
    for name, column in values.items():
        _check_present(cells, name, column)
        texts += [(row, bare(cell, name)) for row, cell in enumerate(column) if isinstance(cell, str)]
    style = _style(cells, texts)
    numbers = {name: np.array([number(cell, style, name) for cell in column]) for name, column in values.items()}
    for name, floats in numbers.items():
        if not np.isfinite(floats).all():
            raise cells.fault(int(np.argmin(np.isfinite(floats))), f"{name} is infinite", "Repair the source.")
    return Numbers(numbers, style, _notes(style, values, texts))


def read_numbers_or_nan(column: Sequence[object], style: Style) -> Floats:
    """Read a column that other numbers are compared with: NaN where a cell is no number of this style."""
    cells = [value_of(cell) for cell in column]
    fits = [not isinstance(cell, str) or _PATTERNS[style].fullmatch(bare(cell, "")) for cell in cells]
    return np.array([number(cell if fit else None, style, "") for cell, fit in zip(cells, fits, strict=True)])


def bare(text: str, name: str) -> str:
    """Return a number's text without its currency and, for a volume, without K, M or B."""
    text = _CURRENCY.sub("", text)
    return text[:-1].rstrip() if name == "volume" and text[-1:].lower() in _SUFFIX else text


def number(cell: float | str | None, style: Style, name: str) -> float:
    """Convert a cell that fits the style."""
    if not isinstance(cell, str):
        return float("nan") if cell is None else cell
    text = bare(cell, name)
    group, point = (",", ".") if style == "point" else (".", ",")
    plain = text.translate({ord(sign): None for sign in group + _SPACES}).replace(point, ".")
    return float(plain) * (_SUFFIX.get(cell[-1:].lower(), 1.0) if name == "volume" else 1.0)


def _check_present(cells: Cells, name: str, column: Values) -> None:
    for row, cell in enumerate(column):
        if cell is None:
            remedy = "Leave the day out, or fill it from the source; no value is invented here."
            raise cells.fault(row, f"{name} is missing", remedy)
        if isinstance(cell, str) and not any(style.fullmatch(bare(cell, name)) for style in _PATTERNS.values()):
            infinite = re.fullmatch(r"[+-]?inf(inity)?", cell, re.IGNORECASE)
            cause = "infinite" if infinite else f"{cell[:60]!r}, not a number"
            raise cells.fault(row, f"{name} is {cause}", "Repair the source.")


def _style(cells: Cells, texts: Sequence[tuple[int, str]]) -> Style:
    """Return the style that all numbers fit. Raises BadFile where none does, or both do in different senses."""
    misfits = {style: [(row, text) for row, text in texts if not pattern.fullmatch(text)]
               for style, pattern in _PATTERNS.items()}  # fmt: skip
    if misfits["point"] and misfits["comma"]:
        raise _mixed(cells, misfits)
    if misfits["point"]:
        return "comma"
    commas = [(row, text) for row, text in texts if "," in text]
    if not misfits["comma"] and commas:
        row, text = commas[0]
        raise cells.fault(row, f"{text!r} can be read with a decimal comma or with one of thousands", PLAIN)
    return "point"


def _mixed(cells: Cells, misfits: Mapping[Style, Sequence[tuple[int, str]]]) -> BadFile:
    """Return the error for numbers of two styles, at the first number of the rarer one."""
    rarer, other = sorted(misfits.values(), key=len)
    row, text = min(rarer)
    return cells.fault(row, f"{text!r} is written in another style than {min(other)[1]!r}", PLAIN)


def _notes(style: Style, values: Mapping[str, Values], texts: Sequence[tuple[int, str]]) -> list[str]:
    cells = [(name, cell) for name, column in values.items() for cell in column if isinstance(cell, str)]
    grouped = any((match := _PATTERNS[style].fullmatch(text)) and match["group"] for _, text in texts)
    found = {
        "decimal commas": style == "comma",
        "numbers with separators of thousands": grouped,
        "prices without their currency": any(_CURRENCY.search(cell) for _, cell in cells),
        "volumes with K, M or B as thousands, millions or billions": any(
            name == "volume" and cell[-1:].lower() in _SUFFIX for name, cell in cells
        ),
    }
    return [note for note, true in found.items() if true]
