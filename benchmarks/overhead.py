"""What supervision costs: milliseconds per trial that does nothing, beside a bare Optuna loop and plain Ray Tune.

    python -m benchmarks.overhead [--trials 20]

The driver is the real one. The daemon is stood in for by a loop that commits each message to a SQLite file with
synchronous=FULL before it acknowledges it, as the daemon does. The first three trials, which pay for the start of
worker processes, are left out of the steady state.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import secrets
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

LEFT_OUT = 3
ROOT = Path(__file__).resolve().parent.parent
SPACE = {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}}


def noop(config: dict[str, Any]) -> None:
    """The trainable: one report."""
    from ray import tune

    tune.report({"loss": config["x"] ** 2})


def steady_ms(ended_s: list[float]) -> float:
    """Milliseconds a trial between the end of the third and the end of the last."""
    return 1e3 * (ended_s[-1] - ended_s[LEFT_OUT - 1]) / (len(ended_s) - LEFT_OUT)


def bare_optuna(storage: Any, trials: int) -> list[float]:
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(seed=1))
    ended = []
    for _ in range(trials):
        trial = study.ask()
        study.tell(trial, trial.suggest_float("x", -1.0, 1.0) ** 2)
        ended.append(time.perf_counter())
    return ended


def plain_tune(address: str, folder: Path, trials: int) -> list[float]:
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    ended: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            ended.append(time.perf_counter())

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    try:
        tune.Tuner(
            noop,
            param_space={"x": tune.uniform(-1.0, 1.0)},
            tune_config=tune.TuneConfig(
                metric="loss", mode="min", search_alg=OptunaSearch(seed=1), num_samples=trials, max_concurrent_trials=1
            ),
            run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0, callbacks=[Ends()]),
        ).fit()
    finally:
        ray.shutdown()
    return ended


def our_driver(address: str, environment: dict[str, str], folder: Path, trials: int) -> list[float]:
    from supervisor.domain.messages import Ack, Begin, Hello, TrialEnded, decode, encode

    to_driver, write_fd = os.pipe()
    read_fd, from_driver = os.pipe()
    with (folder / "driver.log").open("wb") as log:
        driver = subprocess.Popen(
            [sys.executable, "-P", "-m", "actors.driver", f"--read-fd={to_driver}", f"--write-fd={from_driver}"],
            env=environment,
            pass_fds=(to_driver, from_driver),
            stdout=log,
            stderr=log,
        )
    os.close(to_driver)
    os.close(from_driver)
    spec = {
        "name": "overhead", "cell": {}, "trainable": "overhead:noop", "config": {}, "space": SPACE, "metric": "loss",
        "mode": "min", "max_trials": trials, "max_epochs": None, "max_hours": None, "concurrency": 1,
        "resources": {"cpu": 1.0, "gpu": 0.0}, "sampler": {"kind": "tpe", "startup_trials": 10}, "enqueue": [],
        "pruner": {"kind": "none"}, "seed": 1, "max_failures": 3,
    }  # fmt: skip
    watchdog = {"gate": str(folder / "gate"), "policy": {}, "script": None}
    begin = Begin("run", spec, [], [], address, str(folder / "experiment"), watchdog)
    store = sqlite3.connect(folder / "sweep.db", isolation_level=None)
    store.executescript("PRAGMA journal_mode=WAL; PRAGMA synchronous=FULL; CREATE TABLE message (body TEXT);")
    ended = []
    with os.fdopen(read_fd, "rb") as stream:
        for line in stream:
            message, number = decode(line)
            if isinstance(message, Hello):
                os.write(write_fd, encode(begin))
            store.execute("INSERT INTO message VALUES (?)", (line.decode(),))
            if number is not None:
                os.write(write_fd, encode(Ack(number)))
            if isinstance(message, TrialEnded):
                ended.append(time.perf_counter())
    store.close()
    if driver.wait() != 0:
        raise SystemExit((folder / "driver.log").read_text())
    return ended


def start_head(folder: Path) -> tuple[subprocess.Popen[bytes], str, dict[str, str]]:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    token = folder / "token"
    token.touch(0o600)
    token.write_text(secrets.token_hex(16))
    environment = {
        **os.environ,
        "RAY_AUTH_MODE": "token",
        "RAY_AUTH_TOKEN_PATH": str(token),
        "RAY_USAGE_STATS_ENABLED": "0",
        "RAY_memory_monitor_refresh_ms": "0",
        "RAY_CHDIR_TO_TRIAL_DIR": "0",
        "PYTHONPATH": os.pathsep.join([str(ROOT), str(ROOT / "benchmarks")]),
    }
    # plain_tune connects from this process.
    os.environ.update(environment)
    log = folder / "head.log"
    with log.open("wb") as stream:
        head = subprocess.Popen(
            [
                sys.executable, "-m", "ray.scripts.scripts", "start", "--head", "--block", f"--port={port}",
                "--node-ip-address=127.0.0.1", "--include-dashboard=false", "--num-cpus=2",
                "--object-store-memory=100000000", f"--temp-dir={folder}",
            ],
            env=environment, stdout=stream, stderr=stream, start_new_session=True,
        )  # fmt: skip
    deadline = time.monotonic() + 60
    while b"Ray runtime started" not in log.read_bytes():
        if head.poll() is not None or time.monotonic() > deadline:
            raise SystemExit(log.read_text())
        time.sleep(0.1)
    return head, f"127.0.0.1:{port}", environment


def rows(folder: Path, trials: int) -> dict[str, list[float]]:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    found = {
        "bare Optuna loop, in memory": bare_optuna(None, trials),
        "bare Optuna loop, journal": bare_optuna(JournalStorage(JournalFileBackend(str(folder / "j"))), trials),
        "bare Optuna loop, SQLite": bare_optuna(f"sqlite:///{folder}/optuna.db", trials),
    }
    head, address, environment = start_head(folder)
    try:
        found["plain Ray Tune, function API, OptunaSearch"] = plain_tune(address, folder, trials)
        found["our driver, the same function"] = our_driver(address, environment, folder, trials)
    finally:
        os.killpg(head.pid, signal.SIGKILL)
        head.wait()
    return found


def machine() -> str:
    cpu = platform.processor() or platform.machine()
    info = Path("/proc/cpuinfo")
    if info.exists():
        names = [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        cpu = names[0] if names else cpu
    return f"{cpu}, {os.cpu_count()} cores, {platform.system()}, Python {platform.python_version()}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--trials", type=int, default=20)
    parser.add_argument("--json", type=Path, help="also write the figures to this file")
    arguments = parser.parse_args()
    folder = Path(tempfile.mkdtemp(prefix="swo", dir="/tmp"))
    try:
        found = {name: steady_ms(ended) for name, ended in rows(folder, arguments.trials).items()}
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    print(f"{machine()}; {arguments.trials} trials, the first {LEFT_OUT} left out")
    for name, milliseconds in found.items():
        print(f"{name:<46}{milliseconds:>10.1f} ms per trial")
    if arguments.json is not None:
        arguments.json.write_text(json.dumps({"machine": machine(), "ms_per_trial": found}, indent=2) + "\n")


if __name__ == "__main__":
    main()
