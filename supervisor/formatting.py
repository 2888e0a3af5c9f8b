"""Writes sizes, durations, numbers and tables for people. Standard library only."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
"""IEC 80000-13: each is 1024 of the one before."""
MAX_LINE_CHARACTERS = 300
ELLIPSIS = "…"
_FRAME = re.compile(r'\s*File "(?P<file>[^"]+)", line (?P<line>\d+)')
"""A line of a traceback (https://docs.python.org/3/library/traceback.html) that names a place."""
ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|.)")
"""Control sequences of terminals (ECMA-48, section 5.4) and titles of windows."""
_CONTROLS = re.compile(r"[\x00-\x08\x0e-\x1b\x7f-\x84\x86-\x9f]")
"""Control characters (ECMA-48, section 5) but for those that end words and lines."""
_NOT_OURS_TO_MEND = ("/site-packages/", "/lib/python", "/actors/trial/", "<frozen ")
"""Parts of paths of libraries and of this program: a user can mend neither."""


def human(size: float) -> str:
    """Return a size in bytes as text: "512 bytes", "1.5 GiB"."""
    for unit in UNITS[:-1]:
        if abs(size) < 1024.0:
            return counted(f"{size:.0f}", "byte") if unit == UNITS[0] else f"{size:.1f} {unit}"
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


def eta_words(eta: Mapping[str, float] | None) -> str:
    """Return an ETA (domain.eta.forecast) as text: "ETA 2 h 05 min (1 h 40 min to 2 h 50 min)"; "ETA ?" for None.

    The end lies in the interval in four of five cases.
    """
    if eta is None:
        return "ETA ?"
    return f"ETA {duration(eta['median_s'])} ({duration(eta['low_s'])} to {duration(eta['high_s'])})"


def eta_short(eta: Mapping[str, float] | None) -> str:
    """Return the median of an ETA as text: "ETA 2 h 05 min"; "ETA ?" for None."""
    return f"ETA {duration(eta['median_s'] if eta else None)}"


def eta_range(eta: Mapping[str, float] | None, assumes: str = "") -> list[str]:
    """Return the interval of an ETA as text: "80 % likely: 1 h 40 min to 2 h 50 min"; nothing for None.

    `assumes` is what it assumes, such as " if resumed now".
    """
    return [] if eta is None else [f"80 % likely{assumes}: {duration(eta['low_s'])} to {duration(eta['high_s'])}"]


def number(value: float | None) -> str:
    """Return a value with four significant digits, so that a small one is never 0.0000; "-" for None."""
    if value is None:
        return "-"
    return f"{value:.0f}" if 1e4 <= abs(value) < 1e9 else f"{value:.4g}"


def counted(number: object, noun: str) -> str:
    """Return a number with its noun, which takes an s in the plural: "1 trial", "0 trials"."""
    return f"{number} {noun}{'' if str(number) == '1' else 's'}"


def short_value(value: Any) -> str:
    """Return a parameter's value in few characters: floats to three digits."""
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def shortened(text: str, max_characters: int) -> str:
    """Return `text`, cut to `max_characters` with an ellipsis at its end."""
    return text if len(text) <= max_characters else text[: max_characters - 1] + ELLIPSIS


def printable(text: str) -> str:
    """Return `text` without what would steer a terminal: colours, titles of windows, bells."""
    return _CONTROLS.sub("", ESCAPES.sub("", text))


def one_line(text: str) -> str:
    """Return `text` on one line of bounded length: an error can be a traceback."""
    return shortened(" ".join(printable(text).split()), MAX_LINE_CHARACTERS)


def nearest(word: str, names: Iterable[str]) -> str | None:
    """Return "did you mean NAME?" for the name most like `word`; None when none is like it."""
    import difflib  # slow to import; only a mistake pays for it

    near = difflib.get_close_matches(word, list(names), n=1)
    return f"did you mean {near[0]}?" if near else None


def fitted(text: str, columns: int) -> str:
    """Return `text` cut to `columns` of a terminal; a wide East Asian character takes two of them."""
    import unicodedata  # slow to import; only `wait` in a terminal needs it

    widths = [2 if unicodedata.east_asian_width(character) in "WF" else 1 for character in text]
    if sum(widths) <= columns:
        return text
    while text and sum(widths) > columns - 1:
        text, _ = text[:-1], widths.pop()
    return text + ELLIPSIS if columns > 0 else ""


def folded(text: str, columns: int | None, indent: str = "") -> list[str]:
    """Return `text` in lines of at most `columns` characters, each with `indent`; a longer word keeps its own line.

    None folds nothing.
    """
    if columns is None:
        return [indent + text]
    lines = [""]
    for word in text.split():
        if lines[-1] and len(indent) + len(lines[-1]) + 1 + len(word) > columns:
            lines.append(word)
        else:
            lines[-1] += f" {word}" if lines[-1] else word
    return [indent + line for line in lines]


def error_sentence(text: str) -> str:
    """Return an error's text as one line for people: of a traceback its exception and the place in the user's code."""
    lines = printable(text).splitlines()
    frames = [(number, found) for number, line in enumerate(lines) if (found := _FRAME.match(line))]
    if not frames:
        return one_line(text)
    said = lines[frames[-1][0] + 1 :]
    while said and (not said[0].strip() or said[0][0].isspace()):
        said.pop(0)
    own = [found for _, found in frames if not any(part in found["file"] for part in _NOT_OURS_TO_MEND)]
    place = (own or [frames[-1][1]])[-1]
    where = f"({shortened(place['file'].rpartition('/')[2], 60)}, line {place['line']})"
    return f"{shortened(' '.join(' '.join(said).split()), MAX_LINE_CHARACTERS - len(where) - 1)} {where}"


def table(rows: Sequence[Sequence[str]], *, rule: bool = False) -> list[str]:
    """Return the lines of a table with aligned columns; the first row is its heading.

    `rule` puts a line of dashes below the heading.
    """
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    cells = [rows[0], *([["-" * width for width in widths]] if rule else []), *rows[1:]]
    return ["  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip() for row in cells]
