"""Search as Ray's documentation shows: Tune with OptunaSearch, ASHA, a function as trainable, two trials at once.

    python -m benchmarks.time_to_answer.plain_ray PROBLEM.json TALE.jsonl

The pruner has the plan's grace period and reduction factor; all else is Ray's default. Epochs are told when Tune's
callback hears of them, as this system's recorder does.
"""

from __future__ import annotations

import json
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import ray
from optuna.samplers import BaseSampler
from ray import tune
from ray.tune.schedulers import ASHAScheduler
from ray.tune.search.optuna import OptunaSearch

from actors.driver.study import SamplerPerTrial, sampler_factory
from benchmarks.time_to_answer.problem import Spec, Tale, config_of, suggest

AT_ONCE = 2


def train(config: dict[str, Any], spec: Spec) -> None:
    """Train one trial on one core; report each epoch."""
    from training.session import TrainingSession

    params = {name: config[name] for name in spec["space"]}
    session = TrainingSession(config_of(spec, params, config["number"], 1), gate=lambda: 0.0)
    while True:
        epoch = session.step()
        tune.report({"val_loss": epoch.val_loss, "train_s": epoch.seconds})
        if epoch.finished:
            return


class Telling(tune.Callback):
    """Tells the ends of epochs and trials."""

    def __init__(self, tale: Tale) -> None:
        self._tale = tale

    def on_trial_result(
        self, iteration: int, trials: list[Any], trial: Any, result: dict[str, Any], **info: Any
    ) -> None:
        number = trial.config["number"]
        self._tale.epoch(number, result["training_iteration"], result["val_loss"], result["train_s"])

    def on_trial_complete(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tale.trial(trial.config["number"])

    def on_trial_error(self, iteration: int, trials: list[Any], trial: Any, **info: Any) -> None:
        self._tale.trial(trial.config["number"])


@dataclass(frozen=True)
class Space:
    """The space as Optuna's define-by-run function. No closure: Tune pickles its searcher every few seconds."""

    space: dict[str, Any]

    def __call__(self, trial: Any) -> dict[str, Any]:
        suggest(trial, self.space)
        return {"number": trial.number}


@dataclass(frozen=True)
class SamplerOf:
    """Makes the sampler of a trial by its number. No closure, as Space."""

    kind: str
    startup_trials: int
    seed: int

    def __call__(self, number: int) -> BaseSampler:
        return sampler_factory(self.kind, self.startup_trials, self.seed)(number)


def search(spec: Spec, tale: Tale, folder: Path) -> None:
    """Run all trials on a cluster of this machine's own."""
    sampler, pruner = spec["sampler"], spec["pruner"]
    drawn = SamplerPerTrial(SamplerOf(sampler["kind"], sampler["startup_trials"], spec["seed"]))
    ray.init(address="local", num_cpus=AT_ONCE, log_to_driver=False)
    tune.Tuner(
        tune.with_parameters(train, spec=spec),
        tune_config=tune.TuneConfig(
            search_alg=OptunaSearch(
                space=Space(spec["space"]), metric="val_loss", mode="min", sampler=drawn,
                points_to_evaluate=list(spec["enqueue"]),
            ),
            scheduler=ASHAScheduler(
                metric="val_loss", mode="min", max_t=pruner["max_t"], grace_period=pruner["grace_period"],
                reduction_factor=pruner["reduction_factor"],
            ),
            num_samples=spec["max_trials"],
            max_concurrent_trials=AT_ONCE,
        ),
        run_config=tune.RunConfig(name="plain", storage_path=str(folder), verbose=0, callbacks=[Telling(tale)]),
    ).fit()  # fmt: skip
    ray.shutdown()


def main() -> None:
    problem, told = map(Path, sys.argv[1:])
    search(json.loads(problem.read_text()), Tale(told), told.parent / "results")


if __name__ == "__main__":
    main()
