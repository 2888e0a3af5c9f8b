"""Describes the environment of a trial: library versions and git commit."""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "TA-Lib", "arch")
GIT_TIMEOUT_S = 5.0


def library_versions() -> dict[str, str]:
    """Versions of Python and of every library that a trial's numbers depend on."""
    return {"python": platform.python_version(), **{name: metadata.version(name) for name in LIBRARIES}}


def git_commit(file: Path = Path(__file__)) -> str | None:
    """The commit of the source tree of ``file``, with ``-dirty`` after it for local changes; None outside a checkout.

    A file that git does not track, such as one installed below somebody else's checkout, is outside.
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
