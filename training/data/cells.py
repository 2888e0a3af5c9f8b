"""Hold the cells of a file as they were found, and say which column is which bar value."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from pathlib import Path
from typing import Literal

from training.errors import BadFile

# The names of a column, in the order in which they are preferred.
ROLES: Mapping[str, tuple[str, ...]] = {
    "date": ("date", "datetime", "timestamp", "time", "day", "dtyyyymmdd", "gmt time"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close", "close/last", "price"),
    "volume": ("volume", "vol", "vol."),
    "adjusted": ("adj close", "adj_close", "adjclose", "adjusted_close", "adjusted close", "adj. close"),
    "ticker": ("ticker", "symbol", "name"),
}
NEEDED = ("date", "open", "high", "low", "close")
# Two columns of the same name are an error for these; the others only help to check.
USED = (*NEEDED, "volume")
MISSING = frozenset({"", "nan", "na", "n/a", "#n/a", "null", "none", "<na>", "nat", "-", "–"})
MAX_NAMES_SHOWN = 12


@dataclass(frozen=True, slots=True)
class Cells:
    """The cells of a file: ``columns`` by position, and the line or row number of each row.

    ``notes`` say how the file was understood where another reading was thinkable.
    """

    path: Path
    unit: Literal["line", "row"]
    numbers: Sequence[int]
    names: tuple[str, ...]
    columns: Sequence[Sequence[object]]
    notes: tuple[str, ...] = ()

    def fault(self, index: int, cause: str, remedy: str) -> BadFile:
        """Return the error for one row."""
        return BadFile(self.path, f"{self.unit} {self.numbers[index]}", cause, remedy)

    def column(self, role: str) -> Sequence[object] | None:
        """Return the column of a role, or None where there is none."""
        found = find_columns(self.names).get(role)
        return None if found is None else self.columns[found[0]]

    def keep(self, rows: Sequence[int], note: str) -> Cells:
        """Return the cells of these rows only, with a note that says so."""
        columns = [[column[i] for i in rows] for column in self.columns]
        numbers = [self.numbers[i] for i in rows]
        return Cells(self.path, self.unit, numbers, self.names, columns, (*self.notes, note))


def plain_name(name: str) -> str:
    """Return a column's name in lower case, without <> and *, the "1. " of some exports and the ".1" of pandas."""
    bare = re.sub(r"^[0-9]+\. |\.[0-9]+$", "", name.strip(" \t<>*").lower())
    return bare.strip()


def find_columns(names: Sequence[str]) -> dict[str, list[int]]:
    """Find the positions of each role's columns; a role without a column is left out."""
    seen: dict[str, list[int]] = {}
    for position, name in enumerate(names):
        seen.setdefault(plain_name(name), []).append(position)
    chosen = {role: next((alias for alias in aliases if alias in seen), None) for role, aliases in ROLES.items()}
    return {role: seen[alias] for role, alias in chosen.items() if alias is not None}


def check_columns(names: Sequence[str], path: Path) -> dict[str, int]:
    """Return the position of each role's column. Raises BadFile where one is missing or there are two."""
    found = find_columns(names)
    for role in NEEDED:
        if role not in found:
            wanted = "no date column" if role == "date" else f"no column {role!r}"
            remedy = "Name the columns date, open, high, low, close and, if there is one, volume, in the first line."
            raise BadFile(path, None, f"{wanted}; the columns are {shown(names)}", remedy)
    for role in USED:
        if len(found.get(role, ())) > 1:
            twice = plain_name(names[found[role][0]])
            raise BadFile(path, None, f"{len(found[role])} columns are named {twice!r}", "Keep one of them.")
    return {role: positions[0] for role, positions in found.items()}


def shown(names: Sequence[str]) -> str:
    """Return names in quotes, a dozen at most."""
    more = f" and {len(names) - MAX_NAMES_SHOWN} more" if len(names) > MAX_NAMES_SHOWN else ""
    return ", ".join(repr(str(name)[:60]) for name in names[:MAX_NAMES_SHOWN]) + more


def renamed(names: Sequence[str]) -> list[str]:
    """Return a note for each used column whose name is not that of its value."""
    found = find_columns(names)
    return [
        f"{names[found[role][0]].strip()!r} as {role}"
        for role in ("close", "volume")
        if role in found and plain_name(names[found[role][0]]) != role
    ]


def value_of(cell: object) -> float | str | None:
    """Return a cell as a number or as text without margins; None for a missing value."""
    if isinstance(cell, int | float | Decimal) and not isinstance(cell, bool):
        return None if math.isnan(cell) else float(cell)
    text = str(cell).strip()
    return None if text.lower() in MISSING else text
