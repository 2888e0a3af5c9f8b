"""Reads the small text files of /sys and /proc."""

from __future__ import annotations

from pathlib import Path

MAX_CHARACTERS = 64


def text(file: Path) -> str | None:
    """Return the file's text without surrounding white space; None if it cannot be read."""
    try:
        return file.read_text(errors="replace").strip()[:MAX_CHARACTERS]
    except OSError:
        return None


def whole(file: Path) -> int | None:
    """Return the whole number in the file; None if it cannot be read or holds another text."""
    try:
        return int(text(file) or "")
    except ValueError:
        return None
