"""Runs the commands of a checkout in homes of its own: what a benchmark of whole runs compares."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from supervisor.home import Home
from supervisor.processes import orphans

CHECKOUT = Path(__file__).resolve().parents[1]
RUN_WITHIN_S = 900.0
REPORT_WITHIN_S = 300.0
VERSIONS = ("ray", "optuna", "torch", "matplotlib")


@dataclass(frozen=True)
class Contender:
    """One checkout's commands, from the environment in it."""

    name: str
    checkout: Path

    def command(self, home: Path, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        left_out = ("SWEEP_", "NOTIFY_", "RAY_", "PYTHONPATH")
        environment = {key: value for key, value in os.environ.items() if not key.startswith(left_out)}
        return subprocess.run(
            [self.checkout / ".venv" / "bin" / program, *arguments],
            env={**environment, "SWEEP_HOME": str(home)}, cwd=home, capture_output=True, text=True,
            timeout=RUN_WITHIN_S + REPORT_WITHIN_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def succeed(self, home: Path, program: str, *arguments: str) -> None:
        """Run a command. Raises SystemExit with its words when it fails."""
        done = self.command(home, program, *arguments)
        if done.returncode != 0:
            raise SystemExit(f"{program} {' '.join(arguments)}: {done.stderr or done.stdout}")


@contextmanager
def home_of_a_run() -> Iterator[Home]:
    """Make a home; afterwards end what works in it, and remove it."""
    home = Home(Path(tempfile.mkdtemp(prefix="sws", dir="/tmp")).resolve())
    try:
        yield home
    finally:
        orphans.end(home.key, grace_s=1.0)
        shutil.rmtree(home.runtime(), ignore_errors=True)
        shutil.rmtree(home.root, ignore_errors=True)
