"""Describe a trial's environment: library versions and git commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "TA-Lib", "arch")
GIT_TIMEOUT_S = 5.0


def library_versions() -> dict[str, str]:
    """Return the versions of Python and of the libraries that a trial's numbers depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def git_commit(file: Path = Path(__file__)) -> str | None:
    """Return the commit of the checkout of ``file``, with ``-dirty`` for local changes; None outside one.

    A file that git does not track is outside, such as one installed below another project's checkout.
    """
    file = file.resolve()
    if _git(file.parent, "ls-files", "--", file.name) is None:
        return None
    return _git(file.parent, "describe", "--always", "--dirty", "--abbrev=40", "--exclude=*")


def _git(folder: Path, *words: str) -> str | None:
    command = ["git", "-C", str(folder), *words]
    try:
        answer = subprocess.run(command, capture_output=True, text=True, timeout=GIT_TIMEOUT_S, check=False)
    except (OSError, subprocess.TimeoutExpired):
        return None
    return answer.stdout.strip() or None
