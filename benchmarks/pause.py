"""How fast a pause is felt and how fast work goes on, and what a paused driver costs, beside plain Ray's own PAUSE.

    python -m benchmarks.pause [--pauses 20] [--drills 50]

Two trials of 20 ms batches. Times are from the moment the operator's command is written to the driver's pipe (for plain
Ray: from the moment its scheduler could know) to the start of the last batch, and from the command that lifts it to the
first batch of each trial. CPU is the driver's, in percent of one core, over 5 s. The row of drills counts from the
moment that the drill is asked for, before its first hot reading, to the last batch of the last trial; "resumed" is from
the drill's end, and holds the wait for the next reading (1 s at most). Then what each process costs: CPU over 5 s and
memory that it shares with nobody, of the driver and of the node's watchdog, beside a Ray worker that does nothing.
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
from itertools import pairwise
from pathlib import Path
from typing import Any

import psutil
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from benchmarks.overhead import machine, start_head
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
    decode,
    encode,
)

BATCH_S, BATCHES, TRIALS = 0.02, 25, 2
SETTLE_S, CPU_OVER_S, DRILL_S = 0.7, 5.0, 2.0


class Batches(tune.Trainable):
    """Each step is BATCHES batches; the start of each is logged. Waits at the gate where there is one."""

    def setup(self, config: dict[str, Any]) -> None:
        self.log = Path(config["log"]).open("a", buffering=1)  # noqa: SIM115 - it stays open as long as the trial
        self.batch = 0

    def step(self) -> dict[str, Any]:
        for _ in range(BATCHES):
            if hasattr(self, "sweep_gate"):
                self.sweep_gate.wait()
            self.batch += 1
            self.log.write(f"{os.getpid()} {time.monotonic()}\n")
            time.sleep(BATCH_S)
        return {"loss": 1.0 / self.batch}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"batch": self.batch}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.batch = checkpoint["batch"]


class PausesByFile(FIFOScheduler):
    """Plain Ray: PAUSE at the next result while the file is there."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.PAUSE if self.file.exists() else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return None if self.file.exists() else super().choose_trial_to_run(tune_controller)


def starts(log: Path) -> list[tuple[str, float]]:
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(row[0], float(row[1])) for row in rows if len(row) == 2]


def wait_for_both(log: Path, after: float, timeout_s: float = 120.0) -> list[float]:
    """The first batch of each of the two workers after a moment."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        first: dict[str, float] = {}
        for worker, at in starts(log):
            if at > after:
                first.setdefault(worker, at)
        if len(first) >= TRIALS:
            return sorted(first.values())[:TRIALS]
        time.sleep(0.05)
    raise SystemExit(f"no batch for {timeout_s:g} s")


def wait_until_quiet(log: Path, quiet_s: float = SETTLE_S) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        before = len(starts(log))
        time.sleep(quiet_s)
        if len(starts(log)) == before:
            return
    raise SystemExit("the trials do not pause")


class Daemon:
    """As much of the daemon as a driver needs."""

    def __init__(self, address: str, environment: dict[str, str], folder: Path, policy: dict[str, Any]) -> None:
        self.log = folder / "batches"
        to_driver, self._write = os.pipe()
        self._read, from_driver = os.pipe()
        with (folder / "driver.log").open("wb") as log:
            self.process = subprocess.Popen(
                [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={to_driver}", f"--write-fd={from_driver}"],
                env=environment, pass_fds=(to_driver, from_driver), stdout=log, stderr=log,
            )  # fmt: skip
        os.close(to_driver)
        os.close(from_driver)
        spec = {
            "name": "pause", "cell": {}, "trainable": "pause:Batches", "config": {"log": str(self.log)},
            "space": {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}}, "metric": "loss", "mode": "min",
            "max_trials": TRIALS, "max_epochs": None, "max_hours": None, "concurrency": TRIALS, "finalize": None,
            "resources": {"cpu": 1.0, "gpu": 0.0}, "sampler": {"kind": "random", "startup_trials": 1}, "enqueue": [],
            "pruner": {"kind": "none"}, "seed": 1, "max_failures": 3,
        }  # fmt: skip
        watchdog = {"gate": str(folder / "gate"), "policy": policy, "script": None}
        self._begin = Begin("run", spec, [], [], address, str(folder / "experiment"), watchdog)
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
    """A spike past critical, again and again; its row, and the sorted seconds to the last batch."""
    # Coming back with fewer trials would send one to the queue in the middle of a measurement.
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


def gap(log: Path, after: float) -> tuple[float, list[float]]:
    """The last batch of the last worker before each stood still for a second, and the first batches after that."""
    by_worker: dict[str, list[float]] = {}
    for worker, at in starts(log):
        by_worker.setdefault(worker, []).append(at)
    last, first = after, []
    for times in by_worker.values():
        pairs = [(before, now) for before, now in pairwise(times) if now > after and now - before > 1.0]
        if pairs:
            last, first = max(last, pairs[0][0]), [*first, pairs[0][1]]
    if len(first) < TRIALS:
        raise SystemExit(f"only {len(first)} of {TRIALS} trials stood still")
    return last, first


def costs(address: str, environment: dict[str, str], folder: Path) -> list[str]:
    """CPU and memory of driver and watchdog while running and held, and of a worker of Ray's that does nothing."""
    daemon = Daemon(address, environment, folder, {})
    wait_for_both(daemon.log, 0.0)
    assert daemon.watchdog_pid is not None
    bare = subprocess.Popen(
        [sys.executable, __file__, "--bare", address, str(folder)], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
    )
    assert bare.stdout is not None
    observed = {
        "driver": psutil.Process(daemon.process.pid),
        "watchdog": psutil.Process(daemon.watchdog_pid),
        "a bare Ray worker": psutil.Process(int(bare.stdout.readline())),
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
    for process in (bare, daemon.process):
        process.kill()
        process.wait()
    return list(rows.values())


def run_bare(address: str) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    # Held on to, or Ray ends it.
    actor = ray.remote(Bare).options(num_cpus=0).remote()
    print(ray.get(actor.pid.remote()), flush=True)
    time.sleep(600)


class Bare:
    """An actor that does nothing."""

    def pid(self) -> int:
        return os.getpid()


def plain(address: str, folder: Path, pauses: int) -> str:
    """Plain Ray in a process of its own, since Tune wants the main thread and is killed in the end."""
    process = subprocess.Popen([sys.executable, __file__, "--plain", address, str(folder)], stderr=subprocess.DEVNULL)
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


def run_plain(address: str, folder: Path) -> None:
    import ray

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    tune.Tuner(
        tune.with_resources(Batches, {"cpu": 1}),
        param_space={"log": str(folder / "batches")},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", num_samples=TRIALS, scheduler=PausesByFile(folder / "paused"), reuse_actors=False
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0),
    ).fit()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--pauses", type=int, default=20)
    parser.add_argument("--plain", nargs=2, metavar=("ADDRESS", "FOLDER"), help=argparse.SUPPRESS)
    parser.add_argument("--drills", type=int, default=50)
    parser.add_argument("--bare", nargs=2, metavar=("ADDRESS", "FOLDER"), help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.bare:
        run_bare(arguments.bare[0])
        return
    if arguments.plain:
        run_plain(arguments.plain[0], Path(arguments.plain[1]))
        return
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
