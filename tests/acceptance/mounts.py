"""Mount small file systems, and fill them."""

from __future__ import annotations

import contextlib
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest


@contextlib.contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    """Mount a file system at `folder` by mount(8) with the arguments `how`; skip the test where that is not allowed."""
    folder.mkdir(parents=True, exist_ok=True)
    made = subprocess.run(["mount", *how, folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"{' '.join(how)} cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def memory_of(size: str) -> tuple[str, ...]:
    """Return the arguments of mount(8) for a file system in memory of `size`, as in "16m"."""
    return "-t", "tmpfs", "-o", f"size={size},mode=700", "tmpfs"


def fill(path: Path) -> None:
    """Write to `path` until the disk takes no more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)
