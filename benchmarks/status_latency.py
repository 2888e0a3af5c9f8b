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
from contextlib import closing
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from supervisor.clock import Clock
from supervisor.control.server import ControlServer
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import Conflict, DiskFailed
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.status_cache import StatusView

WARM_UP_ROUNDS = 3


def view(home: Home) -> dict[str, Any]:
    """Return a daemon's view of a run in a real store: 12 experiments, the first of them at work."""
    clock = Clock()
    specs = [
        {"name": f"20M-h{n}", "mode": "min", "metric": "loss", "max_trials": 40, "concurrency": 2, "axes": {}}
        for n in range(12)
    ]
    with closing(Store(home.store, clock)) as store:
        create_run(
            store, "phase6a-1", plan="phase6a", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
            specs=specs,
        )  # fmt: skip
        writer = RunWriter(store, "phase6a-1")
        writer.move_run(ProcessState.STARTING)
        writer.move_experiment("20M-h0", ProcessState.STARTING)
        found = StatusView(store.connection, "phase6a-1").now()
    reading = {"kind": "temperature", "value": 71.0, "sensor_id": "hwmon:k10temp/Tctl"}
    command = Command(Action.SHED, Origin.GOVERNOR, "cpu at 91 celsius", since_wall=clock.wall_s(), shed_trials=1)
    daemon = {"pid": 42, "now_wall": clock.wall_s(), "started_wall": 1.7e9, "dashboard": "http://x", "log": "l"}
    node = {"protected": True, "readings": [reading] * 40, "command": command.to_json()}
    return {**found, "held": [], "disk": None, "plan_file": None, "nodes": {"node": node}, "daemon": daemon}


class StandIn:
    """Answers `status` as a daemon does, and refuses every other verb."""

    def __init__(self, shown: dict[str, Any]) -> None:
        self._view = shown

    def status(self, trials: bool) -> dict[str, Any]:
        return self._view

    async def _refuse(self, *_: Any) -> dict[str, Any]:
        raise Conflict("the stand-in answers `status` only")

    pause = resume = stop = shutdown = drill = backup = _refuse

    def disk_failed(self, error: DiskFailed) -> None:
        raise error


async def serve(home: Home, listening: threading.Event, over: asyncio.Event) -> None:
    server = ControlServer(home, Clock(), StandIn(view(home)), lambda uid: None, lambda: None)
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
    server = threading.Thread(target=loop.run_until_complete, args=(serve(home, listening, over),), daemon=True)
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
