"""Logs that a child writes itself (driver.log, ray.log, daemon.log), kept within a bound. Standard library only."""

from __future__ import annotations

import os
from pathlib import Path

MAX_BYTES = 20_000_000


def keep_bounded(path: Path, max_bytes: int = MAX_BYTES) -> bool:
    """Whether `path` had grown past the bound: then its last half is in PATH.1, and it begins anew.

    Its writer keeps its file (opened for appending, or the new beginning would be a hole); lines that come between
    the copy and the cut are lost, so this is for diagnostics only. Raises OSError.
    """
    try:
        size = path.stat().st_size
    except FileNotFoundError:
        return False
    if size <= max_bytes:
        return False
    with path.open("rb") as source:
        source.seek(size - max_bytes // 2)
        path.with_name(f"{path.name}.1").write_bytes(source.read())
    os.truncate(path, 0)
    return True
