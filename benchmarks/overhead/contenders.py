"""Run a search without this system, for benchmarks/overhead: a bare Optuna loop, and plain Ray Tune.

    python -m benchmarks.overhead.contenders KIND TRIALS CONCURRENCY FOLDER [ADDRESS]

Prints the moments at which its trials ended, as JSON: seconds of one clock.
"""

from __future__ import annotations

import json
import sys
import time
from pathlib import Path
from typing import Any

MEMORY, JOURNAL = "optuna-memory", "optuna-journal"
FUNCTION, CLASS, REUSED = "tune-function", "tune-class", "tune-class-reused"


def bare_optuna(storage: Any, trials: int, concurrency: int) -> list[float]:
    """Run a study's own loop; its trials in parallel are threads."""
    import optuna

    optuna.logging.set_verbosity(optuna.logging.ERROR)
    study = optuna.create_study(storage=storage, sampler=optuna.samplers.TPESampler(n_startup_trials=10, seed=1))
    ended: list[float] = []
    study.optimize(
        lambda trial: trial.suggest_float("x", -1.0, 1.0) ** 2, n_trials=trials, n_jobs=concurrency,
        callbacks=[lambda *_: ended.append(time.perf_counter())],
    )  # fmt: skip
    return ended


def journal(folder: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(folder / "journal")))


def plain_tune(kind: str, address: str, folder: Path, trials: int, concurrency: int) -> list[float]:
    """Run a Tuner with OptunaSearch, on the head at `address`."""
    import optuna
    import ray
    from ray import tune
    from ray.tune.search.optuna import OptunaSearch

    from benchmarks.overhead.trainables import Noop, noop

    ended: list[float] = []

    class Ends(tune.Callback):
        def on_trial_complete(self, iteration: int, trials: Any, trial: Any, **info: Any) -> None:
            ended.append(time.perf_counter())

    ray.init(address=address, log_to_driver=False, logging_level="ERROR")
    search = OptunaSearch(sampler=optuna.samplers.TPESampler(n_startup_trials=10, seed=1))
    tune.Tuner(
        noop if kind == FUNCTION else Noop,
        param_space={"x": tune.uniform(-1.0, 1.0)},
        tune_config=tune.TuneConfig(
            metric="loss", mode="min", search_alg=search, num_samples=trials, max_concurrent_trials=concurrency,
            reuse_actors=kind == REUSED,
        ),
        run_config=tune.RunConfig(storage_path=str(folder / "tune"), verbose=0, callbacks=[Ends()]),
    ).fit()  # fmt: skip
    ray.shutdown()
    return ended


def main(arguments: list[str]) -> int:
    kind, trials, concurrency, folder, *address = arguments
    if kind in (MEMORY, JOURNAL):
        storage = journal(Path(folder)) if kind == JOURNAL else None
        ended = bare_optuna(storage, int(trials), int(concurrency))
    else:
        ended = plain_tune(kind, address[0], Path(folder), int(trials), int(concurrency))
    print(json.dumps(ended))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
