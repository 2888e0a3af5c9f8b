"""Measure what a run takes while it has nothing to do: of a core and of memory, by process, beside the goals.

    python -m benchmarks.idle [--window 60] [--settle 30] [--before CHECKOUT]

Real commands, in homes of their own. The first run has two trials that sleep and report every 5 s: while they run,
and while a person pauses it. In the second one the governor's STOP has ended the driver (a scripted heat), so that the
daemon is alone with Ray. After a run's end there is no daemon: a line says how many of its processes are left. With
`--before` the same is measured with another checkout's commands. A second table has the packages that each kind of
process loads, with the milliseconds that each takes to import (`-X importtime`, a fresh process).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

import psutil

from benchmarks.chaos.site import COMMAND_WITHIN_S, Log, Site
from benchmarks.idle.figures import cost_rows, cost_table, imported, package_rows
from benchmarks.idle.processes import ROLES, costs_over, mapped_by_role
from benchmarks.machine import machine
from benchmarks.trials import sleeping
from supervisor.formatting import table
from supervisor.home import Home

CHECKOUT = Path(__file__).resolve().parents[2]
TRAINABLE = "idle_sleeping"
"""The module beside the plan, a copy of benchmarks/trials/sleeping.py."""
EPOCH_S = 5.0
WITHIN_S = 180.0
LEFT_WITHIN_S = 30.0
STATES = ("training", "paused", "stopped")
OURS = ("supervisor", "actors", "training", "tune_configs", "benchmarks")
PLAN: dict[str, Any] = {
    "name": "idle", "description": "trials that sleep", "trainable": f"{TRAINABLE}:Sleeper", "seed": 1,
    "metric": "loss", "mode": "min", "config": {"epoch_s": EPOCH_S, "fails": -1},
    "space": {"x": {"type": "float", "low": -1.0, "high": 3.0}}, "max_trials": 1000, "max_epochs": 1000,
    "concurrency": 2, "resources": {"cpu": 1}, "sampler": {"kind": "random", "startup_trials": 1},
    "pruner": {"kind": "none"}, "wake_lock": False,
}  # fmt: skip
SCRIPT = "heat.jsonl"
HEAT = {
    "limits": {"script:cpu": {"soft": 60.0, "pause": 70.0, "critical": 80.0}}, "pause_dwell_s": 0.0,
    "stop_after_critical_s": 1.0,
}  # fmt: skip
"""The policy by which a scripted heat stops the driver within seconds."""
IMPORTS = {
    "daemon": "import supervisor.daemon.__main__",
    "driver": "import actors.driver.__main__ as driver; driver._import_libraries()",
    "watchdog": "import actors.watchdog.actor",
    "worker": "import actors.trial.supervised",
    "sensor": "import supervisor.sensors.isolation_child, supervisor.sensors.hwmon",
    "pump": "import supervisor.processes.print_pump",
}
"""Names the imports of each kind of process before any work of a plan; a trial's own code comes on top."""


class Place(Site):
    """Holds one run of a checkout's commands: its folder, its plan, its trainable and its processes."""

    def __init__(self, checkout: Path, *, hot: bool = False) -> None:
        self.keep, self.no_disk_reason, self._checkout = False, "a run on the machine's own disk", checkout
        self.folder = Path(tempfile.mkdtemp(prefix="swi", dir="/tmp"))
        self.home = Home((self.folder / "home").resolve())
        self.home.root.mkdir(mode=0o700)
        self.plan = self.folder / f"{PLAN['name']}.yaml"
        script = self.folder / SCRIPT
        script.write_text('{"at_s": 0, "celsius": 90}\n')
        hardware = {"hardware": {**HEAT, "sensor_script": str(script)}} if hot else {}
        self.plan.write_text(json.dumps({**PLAN, **hardware}))
        shutil.copy(str(sleeping.__file__), self.folder / f"{TRAINABLE}.py")
        self._agents = set()
        self.log = Log(self.home.audit_log(str(PLAN["name"])))

    def __enter__(self) -> Place:
        return self

    def command(self, program: str, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [self._checkout / ".venv" / "bin" / program, *arguments],
            env={**clean_environment(), "SWEEP_HOME": str(self.home.root)}, cwd=self.folder, capture_output=True,
            text=True, timeout=COMMAND_WITHIN_S, check=False, stdin=subprocess.DEVNULL,
        )  # fmt: skip

    def succeed(self, program: str, *arguments: str) -> None:
        """Run a command. Raises SystemExit with its words when it fails."""
        done = self.command(program, *arguments)
        if done.returncode != 0:
            raise SystemExit(f"{program} {' '.join(arguments)}: {done.stderr or done.stdout}")

    def until(self, what: str, holds: Callable[[], bool]) -> None:
        """Read the log until `holds`. Raises TimeoutError after WITHIN_S."""
        until_s = time.monotonic() + WITHIN_S
        while not holds():
            if time.monotonic() > until_s:
                raise TimeoutError(f"expected within {WITHIN_S:g} s: {what}; the last event is {self.log.events[-1:]}")
            time.sleep(0.2)
            self.log.read()

    def count(self, name: str) -> int:
        """Return how many events of a name the log has."""
        return sum(event["event"] == name for event in self.log.events)

    def enter(self, state: str) -> None:
        """Bring a fresh run to a state of STATES, or one that trains to "paused"."""
        if state == "paused":
            self.succeed("supervisorctl", "pause", "--now")
            self.until("the experiment is paused", lambda: self.count("experiment.paused") > 0)
            return
        self.succeed("supervisord", "start", str(self.plan))
        if state == "stopped":
            self.until("the governor has stopped the driver", lambda: self.count("driver.stopped") > 0)
        else:
            self.until("two trials have reported", lambda: len(self.reporting()) >= 2)

    def reporting(self) -> set[int]:
        """Return the trials that have reported."""
        return {event["trial"] for event in self.log.events if event["event"] == "trial.reported"}


def clean_environment() -> dict[str, str]:
    """Return this environment without variables that change what is measured."""
    left_out = ("SWEEP_", "NOTIFY_", "RAY_", "PYTHON", "MALLOC_")
    return {key: value for key, value in os.environ.items() if not key.startswith(left_out)}


def import_costs(checkout: Path, code: str) -> dict[str, float]:
    """Return the milliseconds of each installed package that `code` imports in a fresh process of a checkout."""
    python = checkout / ".venv" / "bin" / "python"
    for _ in range(2):  # the first one may compile
        done = subprocess.run(
            [python, "-P", "-X", "importtime", "-c", code], env=clean_environment(), cwd="/", capture_output=True,
            text=True, check=True, timeout=COMMAND_WITHIN_S,
        )  # fmt: skip
    return {
        name: taken_ms
        for name, taken_ms in imported(done.stderr).items()
        if name not in sys.stdlib_module_names and not name.startswith("_")
    }


class Measured:
    """Gathers the rows of the states, and the packages whose libraries each kind of process has mapped."""

    def __init__(self, settle_s: float, window_s: float) -> None:
        self.rows: list[tuple[str, ...]] = []
        self.mapped: dict[str, set[str]] = {}
        self.left: list[str] = []
        self._settle_s, self._window_s = settle_s, window_s

    def run(self, checkout: Path, states: Sequence[str]) -> None:
        """Measure one run in some of its states."""
        with Place(checkout, hot="stopped" in states) as place:
            try:
                for state in states:
                    place.enter(state)
                    self._measure(place, state)
            finally:
                place.command("supervisorctl", "stop")
            self.left += place.left(LEFT_WITHIN_S)

    def _measure(self, place: Place, state: str) -> None:
        time.sleep(self._settle_s)
        found, ended_percent = costs_over(place, self._window_s)
        ended = (state, "ended helpers", "-", f"{ended_percent:.2f}", "-", "-", "-", "-", "-")
        rows = [*cost_rows(state, found, ROLES), ended]
        self.rows += rows
        for role, names in mapped_by_role(place).items():
            self.mapped.setdefault(role, set()).update(names)
        # At once: the next state may never come.
        print(cost_table(rows), file=sys.stderr, flush=True)


def packages(checkout: Path, mapped: Mapping[str, set[str]]) -> str:
    """Return the table of the packages that the kinds of processes load."""
    by_process: dict[str, dict[str, float | None]] = {}
    for role, code in IMPORTS.items():
        seen = {name for name in mapped.get(role, set()) if name.isidentifier() and not name.startswith("_")}
        by_process[role] = {**dict.fromkeys(sorted(seen)), **import_costs(checkout, code)}
    return "\n".join(table(package_rows(by_process, OURS), rule=True))


def report(name: str, checkout: Path, asked: argparse.Namespace) -> None:
    """Measure one checkout, and print its tables."""
    measured = Measured(asked.settle, asked.window)
    measured.run(checkout, ("training", "paused"))
    measured.run(checkout, ("stopped",))
    print(f"\n{name}\n\n{cost_table(measured.rows)}\n")
    print(f"left {LEFT_WITHIN_S:g} s after the ends of the runs: {len(measured.left)} {', '.join(measured.left)}\n")
    print(f"packages, ms to import\n\n{packages(checkout, measured.mapped)}", flush=True)


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--window", type=float, default=60.0, help="seconds that are measured in each state (60)")
    parser.add_argument("--settle", type=float, default=30.0, help="seconds before that (30)")
    parser.add_argument("--before", type=Path, help="another checkout with its .venv, to compare with")
    asked = parser.parse_args()
    if asked.window <= 0.0 or asked.settle < 0.0:
        parser.error("--window: expected more than 0, --settle: 0 or more")
    return asked


def main() -> int:
    asked = arguments()
    # So that SIGTERM cleans up, too.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    libraries = ", ".join(f"{name} {version(name)}" for name in ("ray", "optuna", "torch", "aiohttp", "psutil"))
    print(f"{machine()}; {libraries}; load {psutil.getloadavg()[0]:.1f}; windows of {asked.window:g} s", flush=True)
    checkouts = {"now": CHECKOUT} if asked.before is None else {"before": asked.before.resolve(), "now": CHECKOUT}
    for name, checkout in checkouts.items():
        report(name, checkout, asked)
    return 0


if __name__ == "__main__":
    sys.exit(main())
