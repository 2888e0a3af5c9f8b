"""Search as a hand-written script does: one process with all threads, one trial after another to its early stop.

python -m benchmarks.time_to_answer.sequential PROBLEM.json TALE.jsonl
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path

import optuna

from actors.driver.study import SamplerPerTrial, sampler_factory
from benchmarks.time_to_answer.problem import Spec, Tale, config_of, suggest
from training.errors import Diverged
from training.session import TrainingSession


def search(spec: Spec, tale: Tale) -> None:
    """Run all trials, each until its early stop or its last epoch."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    sampler = spec["sampler"]
    study = optuna.create_study(
        direction="minimize",
        sampler=SamplerPerTrial(sampler_factory(sampler["kind"], sampler["startup_trials"], spec["seed"])),
    )
    for point in spec["enqueue"]:
        study.enqueue_trial(point)

    def objective(trial: optuna.Trial) -> float:
        params = suggest(trial, spec["space"])
        session = TrainingSession(config_of(spec, params, trial.number, os.cpu_count() or 1), gate=lambda: 0.0)
        try:
            while True:
                epoch = session.step()
                tale.epoch(trial.number, epoch.number, epoch.val_loss, epoch.seconds)
                if epoch.finished:
                    return epoch.best_val_loss
        finally:
            session.close()
            tale.trial(trial.number)

    study.optimize(objective, n_trials=spec["max_trials"], catch=(Diverged,))


def main() -> None:
    problem, told = map(Path, sys.argv[1:])
    search(json.loads(problem.read_text()), Tale(told))


if __name__ == "__main__":
    main()
