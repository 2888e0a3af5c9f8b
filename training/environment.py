"""What a trial ran in: library versions, git commit, and the thread settings that a process needs before torch loads.

``thread_environment`` belongs into the environment of the trial's process: OpenMP reads it once, when it is loaded.
"""

from __future__ import annotations

import platform
import subprocess
from importlib import metadata
from pathlib import Path

LIBRARIES = ("torch", "numpy", "pandas", "pyarrow", "TA-Lib", "arch")
GIT_TIMEOUT_S = 5.0


def thread_environment(threads: int) -> dict[str, str]:
    """Environment for a process that trains on ``threads`` cores and shares the machine with others.

    By default an OpenMP thread that waits for its siblings spins. When another process takes one of the cores, the
    others burn theirs until it comes back, at every one of a step's hundreds of barriers. Passive waiting sleeps.
    """
    return {
        "OMP_WAIT_POLICY": "PASSIVE",
        "OMP_NUM_THREADS": str(threads),
        "MKL_NUM_THREADS": str(threads),
        "OMP_DYNAMIC": "FALSE",
    }


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
