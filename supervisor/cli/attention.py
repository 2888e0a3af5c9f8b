"""Colours what needs a person in a terminal. Pure; standard library only."""

from __future__ import annotations

URGENT = "1;31"
"""Bold and red, as in ECMA-48 (SGR)."""


def painted(text: str, code: str, colour: bool) -> str:
    """Return `text` in the colour of a terminal's `code`; as it is without `colour`."""
    return f"\x1b[{code}m{text}\x1b[0m" if colour else text
