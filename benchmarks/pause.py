"""Measure pauses: their latency and the cost of a paused driver, beside plain Ray's PAUSE.

    python -m benchmarks.pause [--pauses 20] [--drills 50]

Two trials of 20 ms batches. "felt" is the time from the operator's command on the driver's pipe (for plain Ray: from
the moment that its scheduler can know) to the start of the last batch, "resumed" from the command that lifts it to the
first batch of each trial. CPU is the driver's, in percent of one core, over 5 s. For drills, "felt" begins with the
request, before its first hot reading, and "resumed" with the drill's end; it includes the wait for the next reading (at
most 1 s). The last table has CPU and unshared memory of the driver and the node's watchdog, beside an idle Ray worker.
"""

from __future__ import annotations

import argparse
import os
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import psutil

from benchmarks.machine import machine
from benchmarks.ray_stage import experiment, start_driver, start_head, watchdog
from benchmarks.trials.pause import BATCH_S, TRIALS, gap, starts, wait_for_both, wait_until_quiet
from supervisor.domain.codec import decode, encode
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import (
    Ack,
    ActionChanged,
    Begin,
    Commanded,
    DrillAsked,
    Hello,
    Message,
    ResultReported,
    WatchdogUp,
)

CPU_OVER_S, DRILL_S = 5.0, 2.0
PLAIN_RAY = "from benchmarks.pause_plain_ray import main; main()"


class Daemon:
    """The part of the daemon that a driver needs."""

    def __init__(self, address: str, environment: dict[str, str], folder: Path, policy: dict[str, Any]) -> None:
        self.log = folder / "batches"
        self.process, self._read, self._write = start_driver(folder, environment)
        spec = experiment(
            "pause", "benchmarks.trials.pause:Batches", config={"log": str(self.log)}, max_trials=TRIALS,
            concurrency=TRIALS, sampler={"kind": "random", "startup_trials": 1},
        )  # fmt: skip
        self._begin = Begin("run", spec, [], [], address, str(folder / "experiment"), watchdog(folder, **policy))
        self.results = 0
        self.watchdog_pid: int | None = None
        self.action = Action.RUN
        threading.Thread(target=self._serve, daemon=True).start()

    def _serve(self) -> None:
        with os.fdopen(self._read, "rb") as stream:
            for line in stream:
                message, number = decode(line)
                if isinstance(message, Hello):
                    self.send(self._begin)
                if number is not None:
                    self.send(Ack(number))
                if isinstance(message, WatchdogUp):
                    self.watchdog_pid = message.pid
                if isinstance(message, ActionChanged):
                    self.action = Action[message.command["action"]]
                self.results += isinstance(message, ResultReported)

    def send(self, message: Message) -> None:
        os.write(self._write, encode(message))

    def wait_for_action(self, fits: Callable[[Action], bool]) -> None:
        deadline = time.monotonic() + 60
        while not fits(self.action):
            if time.monotonic() > deadline:
                raise SystemExit(f"still {self.action.name} after a minute")
            time.sleep(0.01)

    def command(self, *commands: Command) -> float:
        at = time.monotonic()
        self.send(Commanded([command.to_json() for command in commands]))
        return at


def row(name: str, felt: list[float], resumed: list[float], cpu: str) -> str:
    def figures(values: list[float]) -> str:
        ordered = sorted(values)
        return f"{1e3 * statistics.median(ordered):>9.0f}{1e3 * ordered[-1]:>9.0f}"

    return f"{name:<44}{figures(felt)}{figures(resumed)}{cpu:>9}"


def ours(address: str, environment: dict[str, str], folder: Path, pauses: int, release_after_s: float) -> str:
    # The watchdog looks at the length of a pause once a period.
    policy = {"release_after_s": release_after_s, "period_s": 1.0, "fast_period_s": 1.0}
    daemon = Daemon(address, environment, folder, policy)
    pause = Command(Action.PAUSE, Origin.OPERATOR, "benchmark")
    felt, resumed, cpu = [], [], 0.0
    wait_for_both(daemon.log, 0.0)
    released = release_after_s < 60
    for turn in range(pauses):
        time.sleep(0.3)
        at = daemon.command(pause)
        wait_until_quiet(daemon.log)
        felt += [max(0.0, max(start for _, start in starts(daemon.log)) - at)]
        if released:
            time.sleep(release_after_s + 3)
        if turn == 0:
            process = psutil.Process(daemon.process.pid)
            process.cpu_percent()
            time.sleep(CPU_OVER_S)
            cpu = process.cpu_percent()
        lifted = daemon.command()
        resumed += [start - lifted for start in wait_for_both(daemon.log, lifted)]
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    name = "ours, released from its worker" if released else "ours, held in memory"
    return row(name, felt, resumed, f"{cpu:.1f}")


def drilled(address: str, environment: dict[str, str], folder: Path, drills: int) -> tuple[str, list[float]]:
    """Play critical spikes; return their row, and the sorted seconds to the last batch."""
    # Resuming with fewer trials would send one to the queue in the middle of a measurement.
    daemon = Daemon(address, environment, folder, {"max_shed_trials": 0})
    felt, resumed = [], []
    wait_for_both(daemon.log, 0.0)
    for _ in range(drills):
        time.sleep(0.5)
        at = time.monotonic()
        daemon.send(DrillAsked("spike", DRILL_S, None))
        daemon.wait_for_action(lambda action: action >= Action.PAUSE)
        daemon.wait_for_action(lambda action: action < Action.PAUSE)
        wait_for_both(daemon.log, time.monotonic())
        last, first = gap(daemon.log, at)
        felt.append(max(0.0, last - at))
        resumed += [start - at - DRILL_S for start in first]
    daemon.process.send_signal(signal.SIGKILL)
    daemon.process.wait()
    return row("ours, a drill's hot reading", felt, resumed, "-"), sorted(felt)


def costs(address: str, environment: dict[str, str], folder: Path) -> list[str]:
    """Measure CPU and memory of driver, watchdog and an idle Ray worker, while running and paused."""
    daemon = Daemon(address, environment, folder, {})
    wait_for_both(daemon.log, 0.0)
    assert daemon.watchdog_pid is not None
    idle = plain_ray("--idle", address, folder)
    assert idle.stdout is not None
    observed = {
        "driver": psutil.Process(daemon.process.pid),
        "watchdog": psutil.Process(daemon.watchdog_pid),
        "an idle Ray worker": psutil.Process(int(idle.stdout.readline())),
    }
    rows = {name: f"{name:<44}" for name in observed}
    for command in ([], [Command(Action.PAUSE, Origin.OPERATOR, "benchmark")]):
        daemon.command(*command)
        time.sleep(2.0)
        for process in observed.values():
            process.cpu_percent()
        time.sleep(CPU_OVER_S)
        for name, process in observed.items():
            rows[name] += f"{process.cpu_percent():>9.1f}"
    for name, process in observed.items():
        rows[name] += f"{process.memory_full_info().uss / 2**20:>12.0f}"
    for process in (idle, daemon.process):
        process.kill()
        process.wait()
    return list(rows.values())


def plain_ray(mode: str, address: str, folder: Path) -> subprocess.Popen[bytes]:
    return subprocess.Popen(
        [sys.executable, "-c", PLAIN_RAY, mode, address, str(folder)],
        stdout=subprocess.PIPE if mode == "--idle" else None, stderr=subprocess.DEVNULL,
    )  # fmt: skip


def plain(address: str, folder: Path, pauses: int) -> str:
    """Measure plain Ray in a process of its own: Tune needs the main thread and is killed at the end."""
    process = plain_ray("--plain", address, folder)
    log, file = folder / "batches", folder / "paused"
    felt, resumed, cpu = [], [], 0.0
    wait_for_both(log, 0.0)
    for turn in range(pauses):
        time.sleep(0.3)
        file.touch()
        at = time.monotonic()
        wait_until_quiet(log, 1.5)
        felt.append(max(0.0, max(start for _, start in starts(log)) - at))
        if turn == 0:
            observed = psutil.Process(process.pid)
            observed.cpu_percent()
            time.sleep(CPU_OVER_S)
            cpu = observed.cpu_percent()
        file.unlink()
        lifted = time.monotonic()
        resumed += [start - lifted for start in wait_for_both(log, lifted)]
    process.kill()
    process.wait()
    return row("plain Ray, the scheduler answers PAUSE", felt, resumed, f"{cpu:.1f}")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--drills", type=int, default=50)
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swp", dir="/tmp"))
    head, address, environment = start_head(folder)
    few = max(1, arguments.pauses // 5)
    rows = []
    try:
        for name in ("held", "released", "plain", "drilled", "costs"):
            (folder / name).mkdir()
        rows.append(ours(address, environment, folder / "held", arguments.pauses, release_after_s=3600.0))
        rows.append(ours(address, environment, folder / "released", few, release_after_s=1.0))
        drill_row, felt = drilled(address, environment, folder / "drilled", arguments.drills)
        rows.append(drill_row)
        cost_rows = costs(address, environment, folder / "costs")
        rows.append(plain(address, folder / "plain", few))
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
        shutil.rmtree(folder, ignore_errors=True)
    print(
        f"{machine()}; {TRIALS} trials of {1e3 * BATCH_S:.0f} ms batches; {arguments.pauses} pauses, {few} of the slow"
    )
    print(f"{'milliseconds':<44}{'felt':>9}{'worst':>9}{'resumed':>9}{'worst':>9}{'CPU %':>9}")
    print("\n".join(rows))
    p99 = felt[min(len(felt) - 1, int(0.99 * len(felt)))]
    print(f"{arguments.drills} drills: felt within {1e3 * p99:.0f} ms at p99")
    print(f"{'CPU %, MiB':<44}{'running':>9}{'held':>9}{'its own MiB':>12}")
    print("\n".join(cost_rows))


if __name__ == "__main__":
    main()
