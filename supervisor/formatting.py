"""Writes sizes, durations, numbers and tables for people. Standard library only."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
"""IEC 80000-13: each is 1024 of the one before."""
MAX_LINE_CHARACTERS = 300
ELLIPSIS = "…"


def human(size: float) -> str:
    """Return a size in bytes as text: "512 bytes", "1.5 GiB"."""
    for unit in UNITS[:-1]:
        if abs(size) < 1024.0:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1024.0
    return f"{size:.1f} {UNITS[-1]}"


def duration(seconds: float | None) -> str:
    """Return a duration as text: "2 h 05 min", "41 s", or "?" for None."""
    if seconds is None:
        return "?"
    whole = round(max(0.0, seconds))
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    if whole < 48 * 3600:
        return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
    return f"{whole // 86400} d {whole % 86400 // 3600} h"


def number(value: float | None) -> str:
    """Return a loss with four decimals, or "-" for None."""
    return "-" if value is None else f"{value:.4f}"


def short_value(value: Any) -> str:
    """Return a parameter's value in few characters: floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def shortened(text: str, max_characters: int) -> str:
    """Return `text`, cut to `max_characters` with an ellipsis at its end."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + ELLIPSIS


def one_line(text: str) -> str:
    """Return `text` on one line of bounded length: an error can be a traceback."""
    return shortened(" ".join(text.split()), MAX_LINE_CHARACTERS)


def table(rows: Sequence[Sequence[str]], *, rule: bool = False) -> list[str]:
    """Return the lines of a table with aligned columns; the first row is its heading.

    `rule` puts a line of dashes below the heading.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [rows[0], *([["-" * width for width in widths]] if rule else []), *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
