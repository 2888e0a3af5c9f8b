"""Bytes for people. Standard library only."""

from __future__ import annotations

UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB")
"""IEC 80000-13: each is 1024 of the one before."""


def human(size: float) -> str:
    """ "512 bytes", "1.5 GiB"."""
    for unit in UNITS[:-1]:
        if abs(size) < 1024.0:
            return f"{size:.0f} {unit}" if unit == UNITS[0] else f"{size:.1f} {unit}"
        size /= 1024.0
    return f"{size:.1f} {UNITS[-1]}"
