"""Make a real home with the real commands; end its daemon by its pid."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.client import ask
from supervisor.errors import NotRunning
from supervisor.home import Home
from supervisor.processes import orphans
from tests import waits
from tests.acceptance.mounts import memory_of, mounted
from tests.waits import NET_S

BIN = Path(sys.executable).parent
OURS = ("SWEEP_", "NOTIFY_", "RAY_", "PYTHONPATH")
"""Beginnings of the variables of the tests that a person's commands do not get."""
QUICK = """\
import time
from ray import tune


def objective(config):
    if config["offset"] == 13:
        raise RuntimeError("thirteen is unlucky")
    for step in range(1, 5):
        time.sleep(config.get("pause_s", 0.05))
        tune.report({"loss": (config["x"] - 1) ** 2 + config["offset"] + 1.0 / step})
"""
PLAN = """\
name: {name}
description: a parabola, by a user's own function
trainable: quick:objective
seed: 1
metric: loss
mode: min
matrix: {{offset: {offsets}}}
config: {{pause_s: {pause_s}}}
space:
  x: {{type: float, low: -3, high: 3}}
max_trials: {max_trials}
max_epochs: 4
concurrency: 2
resources: {{cpu: 1}}
sampler: {{kind: tpe, startup_trials: 3}}
pruner: {{kind: none}}
"""


@dataclass
class Sweep:
    """A home and the two commands on it."""

    home: Home
    folder: Path
    bin: Path = BIN
    """The folder of the commands."""

    @property
    def environment(self) -> dict[str, str]:
        kept = {key: value for key, value in os.environ.items() if not key.startswith(OURS)}
        return {**kept, "SWEEP_HOME": str(self.home.root), "PATH": f"{self.bin}{os.pathsep}{os.environ['PATH']}"}

    def d(self, *arguments: str, timeout: float = NET_S) -> subprocess.CompletedProcess[str]:
        return self._call("supervisord", arguments, timeout)

    def ctl(self, *arguments: str, timeout: float = NET_S) -> subprocess.CompletedProcess[str]:
        return self._call("supervisorctl", arguments, timeout)

    def _call(self, program: str, arguments: tuple[str, ...], timeout: float) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self.bin / program, *arguments], env=self.environment, cwd=self.folder, capture_output=True, text=True,
            timeout=timeout, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def plan(self, name: str, offsets: str = "[0]", max_trials: int = 4, pause_s: float = 0.05) -> str:
        """Write a user's plan and its function; return the plan's path."""
        (self.folder / "quick.py").write_text(QUICK)
        path = self.folder / f"{name}.yaml"
        path.write_text(PLAN.format(name=name, offsets=offsets, max_trials=max_trials, pause_s=pause_s))
        return str(path)

    def status(self) -> dict[str, Any]:
        return dict(json.loads(self.ctl("status", "--json").stdout))

    def until(self, what: str, test: Callable[[dict[str, Any]], Any]) -> dict[str, Any]:
        """Ask for the status until `test` holds for it; return it."""

        def look() -> dict[str, Any] | None:
            # By the client, not the command: a process every tenth of a second would slow down what is watched.
            with contextlib.suppress(NotRunning):
                if test(view := ask(self.home, "status", query="?trials=1")):
                    return view
            return None

        found = waits.until(what, look, period_s=0.1)
        assert found is not None
        return found

    def events(self, plan: str) -> list[dict[str, Any]]:
        return [json.loads(line) for line in self.home.audit_log(plan).read_text().splitlines()]

    def end(self) -> None:
        """End the daemon by the pid in its lock, and then every process with this home's mark."""
        try:
            pid = int(self.home.lock.read_text().split()[1].rstrip(","))
            if str(self.home.root) in Path(f"/proc/{pid}/environ").read_text():
                os.kill(pid, signal.SIGKILL)
        except (OSError, IndexError, ValueError):
            pass  # no daemon was ever here, or it has ended
        orphans.end(self.home.key, grace_s=0.5)
        shutil.rmtree(self.home.runtime(), ignore_errors=True)


@pytest.fixture
def sweep(tmp_path: Path) -> Iterator[Sweep]:
    made = Sweep(Home((tmp_path / "home").resolve()), tmp_path)
    try:
        yield made
    finally:
        made.end()


def driver_pid(events: list[dict[str, Any]]) -> int:
    """Return the pid of the driver that was started last."""
    return int([event["pid"] for event in events if event["event"] == "driver.started"][-1])


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = Home((tmp_path / "home").resolve())
    made.root.mkdir()
    yield made
    shutil.rmtree(made.runtime(), ignore_errors=True)


@pytest.fixture
def small_disk(home: Home) -> Iterator[Home]:
    """Put the home on a file system of 16 MiB."""
    with mounted(home.root, *memory_of("16m")):
        yield home


@pytest.fixture
def homes(tmp_path: Path) -> Iterator[tuple[Sweep, Sweep]]:
    """Make a home for a search that nothing disturbs, and one for the same search in a storm."""
    made = tuple(Sweep(Home((tmp_path / name).resolve()), tmp_path) for name in ("calm", "stormy"))
    try:
        yield made  # type: ignore[misc]
    finally:
        for each in made:
            each.end()
