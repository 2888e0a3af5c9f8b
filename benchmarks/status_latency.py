"""Measure a cold `supervisorctl status` beside `python -c pass`, both with the same interpreter.

    python -m benchmarks.status_latency [--rounds 60]

In the daemon's place the real control server shows a run of 12 experiments, two of them running. The two commands
alternate, and the ratio is the median of the rounds' ratios, since a busy machine slows both.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from supervisor.clock import Clock
from supervisor.control.server import ControlServer
from supervisor.domain.command import Action, Command, Origin
from supervisor.errors import Conflict, DiskFailed
from supervisor.home import Home

WARM_UP_ROUNDS = 3


def experiment(name: str, state: str) -> dict[str, Any]:
    running = [{"number": 7, "epoch": 3, "state": "RUNNING", "held_for": None}] if state == "RUNNING" else []
    return {
        "name": name, "state": state, "reason": None, "ended": 7, "max_trials": 40, "running": running,
        "best": {"value": 0.5312, "trial": 4, "params": {}}, "started_wall": 1.7e9, "ended_wall": 1.7e9 + 5e4,
        "mean_trial_s": 1234.5, "spec": {"concurrency": 2},
    }  # fmt: skip


def view() -> dict[str, Any]:
    states = ["EXITED"] * 4 + ["RUNNING"] * 2 + ["STOPPED"] * 6
    reading = {"kind": "temperature", "value": 71.0, "sensor_id": "hwmon:k10temp/Tctl"}
    command = Command(Action.SHED, Origin.GOVERNOR, "cpu at 91 celsius", since_wall=1.7e9, shed_trials=1)
    return {
        "run": {"id": "phase6a-20260101-1", "plan": "phase6a", "state": "RUNNING"},
        "experiments": [experiment(f"20M-h{n}", state) for n, state in enumerate(states)],
        "lost": [{"experiment": None, "trial": None, "cause": "driver restart", "seconds": 61.0}],
        "commands": [], "held": [], "disk": None, "plan_file": None,
        "nodes": {"node": {"protected": True, "readings": [reading] * 40, "command": command.to_json()}},
        "daemon": {"pid": 42, "now_wall": 1.7e9 + 6e4, "started_wall": 1.7e9, "dashboard": "http://x", "log": "l"},
    }  # fmt: skip


class StandIn:
    """Answers `status` as a daemon does, and refuses every other verb."""

    def __init__(self) -> None:
        self._view = view()

    def status(self, trials: bool) -> dict[str, Any]:
        return self._view

    async def _refuse(self, *_: Any) -> dict[str, Any]:
        raise Conflict("the stand-in answers `status` only")

    pause = resume = stop = shutdown = drill = backup = _refuse

    def disk_failed(self, error: DiskFailed) -> None:
        raise error


async def serve(home: Home, listening: threading.Event, over: asyncio.Event) -> None:
    server = ControlServer(home, Clock(), StandIn(), lambda uid: None, lambda: None)
    await server.open()
    listening.set()
    await over.wait()
    await server.close()


def seconds(command: list[str], environment: dict[str, str]) -> float:
    begun_s = time.perf_counter()
    subprocess.run(command, env=environment, stdout=subprocess.DEVNULL, check=True)
    return time.perf_counter() - begun_s


def measure(rounds: int, home: Home) -> list[tuple[float, float]]:
    """Return the seconds of each round: of `python -c pass`, and of the status."""
    script = Path(sys.executable).parent / "supervisorctl"
    code = "import sys, _sweep_launcher; sys.exit(_sweep_launcher.supervisorctl(['status']))"
    status = [str(script), "status"] if script.exists() else [sys.executable, "-c", code]
    environment = {**os.environ, "SWEEP_HOME": str(home.root)}
    found = [
        (seconds([sys.executable, "-c", "pass"], environment), seconds(status, environment))
        for _ in range(WARM_UP_ROUNDS + rounds)
    ]
    return found[WARM_UP_ROUNDS:]


def served(rounds: int, home: Home) -> list[tuple[float, float]]:
    loop, over, listening = asyncio.new_event_loop(), asyncio.Event(), threading.Event()
    server = threading.Thread(target=loop.run_until_complete, args=(serve(home, listening, over),))
    server.start()
    try:
        listening.wait(60.0)
        return measure(rounds, home)
    finally:
        loop.call_soon_threadsafe(over.set)
        server.join()


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--rounds", type=int, default=60)
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory(prefix="sweep-status-") as folder:
        home = Home(Path(folder).resolve())
        home.prepare()
        found = served(rounds, home)
    ratios = sorted(status / bare for bare, status in found)
    tenth = ratios[len(ratios) // 10]
    print(f"{machine()}; median of {rounds} rounds")
    print(f"python -c pass        {1e3 * statistics.median(bare for bare, _ in found):6.1f} ms")
    print(f"supervisorctl status  {1e3 * statistics.median(status for _, status in found):6.1f} ms")
    print(f"ratio                 {statistics.median(ratios):6.2f}, a tenth of the rounds below {tenth:.2f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
