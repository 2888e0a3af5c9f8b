"""Run the trials of benchmarks/pause.py under plain Ray: `--plain` its own PAUSE, `--idle` an idle actor."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import ray
from ray import tune
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from benchmarks.trials.pause import TRIALS, Batches


class PausesByFile(FIFOScheduler):
    """Pauses each trial at its next result while a file exists."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def on_trial_result(self, tune_controller: Any, trial: Any, result: dict[str, Any]) -> str:
        return TrialScheduler.PAUSE if self.file.exists() else TrialScheduler.CONTINUE

    def choose_trial_to_run(self, tune_controller: Any) -> Any:
        return None if self.file.exists() else super().choose_trial_to_run(tune_controller)


def run_idle(address: str) -> None:
    """Run an idle actor and print its pid."""
    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    actor = ray.remote(Idle).options(num_cpus=0).remote()  # the name keeps it alive
    print(ray.get(actor.pid.remote()), flush=True)
    time.sleep(600)


class Idle:
    """An actor that does nothing."""

    def pid(self) -> int:
        return os.getpid()


def run_plain(address: str, folder: Path) -> None:
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
    """Run the mode, Ray's address and the folder that the command line names."""
    mode, address, folder = sys.argv[1:]
    if mode == "--idle":
        run_idle(address)
    else:
        run_plain(address, Path(folder))
