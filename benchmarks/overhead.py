"""Measure the cost of supervision: milliseconds of an empty trial, beside a bare Optuna loop and plain Ray Tune.

    python -m benchmarks.overhead [--trials 20]

The driver is the real one. In the daemon's place a loop commits each message to a SQLite file with synchronous=FULL
before it acknowledges it, like the daemon. The first three trials, which start the worker processes, do not count.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import signal
import sqlite3
import tempfile
import time
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.ray_stage import experiment, start_driver, start_head, watchdog

LEFT_OUT = 3


def noop(config: dict[str, Any]) -> None:
    """Report once, as the trainable of the benchmark."""
    from ray import tune

    tune.report({"loss": config["x"] ** 2})


def steady_ms(ended_s: list[float]) -> float:
    """Return the milliseconds a trial, from the end of the third to the end of the last."""
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
    from supervisor.domain.codec import decode, encode
    from supervisor.domain.messages import Ack, Begin, Hello, TrialEnded

    driver, read_fd, write_fd = start_driver(folder, environment)
    spec = experiment("overhead", "benchmarks.overhead:noop", max_trials=trials)
    begin = Begin("run", spec, [], [], address, str(folder / "experiment"), watchdog(folder))
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
