"""Pose the problem that all contenders solve: one experiment's space, data and model, and the same random draws.

A trial's parameters are drawn by Optuna's TPE with its defaults, seeded by the trial's number, as this system's driver
does it. So all contenders begin with the same ten configurations, each with the same initial weights; after them each
proposes by what it has learnt.
"""

from __future__ import annotations

import json
import time
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from training.settings import derive_seed

PLAN = "phase6a-mini"
TPE_STARTUP = 10
"""Optuna's default."""
MAX_RAISES = 200

Spec = dict[str, Any]


@dataclass(frozen=True)
class Settings:
    """Holds what is measured: results of other settings are never put into one table."""

    experiment: str
    trials: int
    epochs: int
    enqueued: bool
    finalised: bool

    def sets(self, seed: int, max_trials: int) -> list[str]:
        """Return the `--set` arguments that make the built-in plan this problem's plan."""
        changed = {
            "seed": seed, "max_trials": max_trials, "max_epochs": self.epochs, "sampler.startup_trials": TPE_STARTUP,
            "warm_start": "null", "concurrency": 2,
        }  # fmt: skip
        if not self.enqueued:
            changed["enqueue"] = "[]"
        if not self.finalised:
            changed["finalize"] = "null"
        return [f"{key}={value}" for key, value in changed.items()]


@dataclass(frozen=True)
class Problem:
    """One seed's problem: the resolved experiment, and the `--set` arguments that make it of the built-in plan."""

    spec: Spec
    sets: tuple[str, ...]


def pose(settings: Settings, seed: int, data: Path) -> Problem:
    """Return the problem of `seed`, its dataset built in the folder `data`.

    `settings.trials` are those of the search; trials after it come on top of them. Raises PlanError, DataMissing.
    """
    from supervisor.plan.dataset import choose_dataset
    from supervisor.plan.expansion import expand
    from supervisor.plan.loader import load_plan

    for extra in range(MAX_RAISES):
        sets = settings.sets(seed, settings.trials + extra)
        plan = load_plan(PLAN, sets).plan
        if plan.data is None:
            raise SystemExit(f"{PLAN}: expected a section `data`, found none; name its data in the plan")
        chosen = choose_dataset(plan.data, data)
        (spec,) = expand(plan, chosen.num_features, chosen.path, globs=[settings.experiment])
        if spec.pruner.kind != "asha":
            raise SystemExit(f"{settings.experiment}: expected an experiment with ASHA, found {spec.pruner.kind}")
        if spec.phases[0] == settings.trials:
            return Problem(spec.model_dump(mode="json"), tuple(sets))
    raise SystemExit(f"--trials {settings.trials}: no plan's search has so many; name another number")


def suggest(trial: Any, space: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
    """Draw the parameters of an Optuna trial (or of one that records what is drawn), in the plan's order."""
    params: dict[str, Any] = {}
    for name, dimension in space.items():
        match dimension["type"]:
            case "float":
                params[name] = trial.suggest_float(name, dimension["low"], dimension["high"], log=dimension["log"])
            case "int":
                step = dimension.get("step") or 1
                log = dimension.get("log", False)
                params[name] = trial.suggest_int(name, dimension["low"], dimension["high"], step=step, log=log)
            case "categorical":
                params[name] = trial.suggest_categorical(name, dimension["choices"])
            case kind:
                raise ValueError(f"expected a dimension of type float, int or categorical, found {kind!r}")
    return params


def config_of(spec: Spec, params: Mapping[str, Any], number: int, threads: int) -> dict[str, Any]:
    """Return the whole configuration of trial `number`, as this system's trainable gets it."""
    return {**spec["config"], **params, "threads": threads, "seed": derive_seed(int(spec["seed"]), number)}


@dataclass(frozen=True)
class Tale:
    """Tells in a file of JSON lines when each epoch and each trial ended, by the wall clock."""

    file: Path

    def epoch(self, trial: int, epoch: int, loss: float, train_s: float) -> None:
        self._write({"at": time.time(), "trial": trial, "epoch": epoch, "loss": loss, "train_s": train_s})

    def trial(self, trial: int) -> None:
        self._write({"at": time.time(), "trial": trial})

    def _write(self, line: dict[str, Any]) -> None:
        # Opened for each line: Tune pickles its callbacks, and an open file cannot be.
        with self.file.open("a") as stream:
            stream.write(json.dumps(line) + "\n")
