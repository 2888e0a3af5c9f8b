"""The Optuna study of one experiment: a cache of the daemon's truth, deleted and built again at each driver start.

A study that outlives its driver runs ahead of or behind the store at every crash; one that is rebuilt cannot. The file
is there for optuna-dashboard to look at.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import (
    BaseDistribution,
    CategoricalDistribution,
    FloatDistribution,
    IntDistribution,
)
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from actors.driver.study_journal import CopiedJournal
from actors.driver.trial_registry import ended
from supervisor.domain.lifecycle import EndReason

FILE = "study.journal"

LARGEST_TOLD = 1e30
"""Finite losses beyond this are told as this: their squares, which a Gaussian process needs, must stay finite."""


def told_value(value: float) -> float:
    return max(-LARGEST_TOLD, min(LARGEST_TOLD, value))


def derive_seed(seed: int, number: int) -> int:
    """A 32-bit seed of one trial's sampling, from the experiment's seed and the trial's number."""
    digest = hashlib.sha256(f"sampler {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def distribution(dimension: Mapping[str, Any]) -> BaseDistribution:
    """Optuna's distribution of one dimension of a plan's space. Raises ValueError for a type that is none."""
    kind = dimension["type"]
    if kind == "float":
        return FloatDistribution(dimension["low"], dimension["high"], log=dimension.get("log", False))
    if kind == "int":
        return IntDistribution(
            dimension["low"], dimension["high"], log=dimension.get("log", False), step=dimension.get("step") or 1
        )
    if kind == "categorical":
        return CategoricalDistribution(dimension["choices"])
    raise ValueError(f"a dimension cannot be of type {kind!r}: float, int and categorical are")


def sampler_factory(kind: str, startup_trials: int, seed: int) -> Callable[[int], BaseSampler]:
    """What makes the sampler of a trial number. Raises ValueError for an unknown kind."""
    if kind == "tpe":
        return lambda number: TPESampler(n_startup_trials=startup_trials, seed=derive_seed(seed, number))
    if kind == "gp":
        return lambda number: GPSampler(n_startup_trials=startup_trials, seed=derive_seed(seed, number))
    if kind == "random":
        return lambda number: RandomSampler(seed=derive_seed(seed, number))
    raise ValueError(f"a sampler cannot be {kind!r}: tpe, gp and random are")


class SamplerPerTrial(BaseSampler):
    """A fresh sampler for each trial, seeded by its number.

    A sampler's random state is lost with its process. Seeded by number, a search that was interrupted goes on with the
    draws of one that was not (exactly so at concurrency 1, where also the trials that it learns from are the same).
    """

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._number = -1
        self._sampler = make(0)

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number != self._number:
            self._number, self._sampler = trial.number, self._make(trial.number)
        return self._sampler

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._of(trial).infer_relative_search_space(study, trial)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        return self._of(trial).sample_relative(study, trial, search_space)

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._of(trial).sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._of(trial).before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._make(trial.number).after_trial(study, trial, state, values)


def open_storage(folder: Path) -> BaseStorage:
    """An empty journal with its copy in the experiment's folder; what was there is deleted."""
    file = folder / FILE
    file.unlink(missing_ok=True)
    return JournalStorage(CopiedJournal(file))


def build_study(
    storage: BaseStorage,
    name: str,
    mode: str,
    distributions: Mapping[str, BaseDistribution],
    trials: Sequence[Mapping[str, Any]],
    enqueue: Iterable[Mapping[str, Any]],
) -> Study:
    """The study as the daemon's truth has it: finished trials told, unfinished ones waiting at their own numbers.

    `ask()` then gives each unfinished trial back with its own parameters, after them the plan's points that were not
    used yet, then samples. Raises ValueError unless the trials' numbers are 0, 1, 2 ...
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize" if mode == "min" else "maximize")
    for place, trial in enumerate(trials):
        if trial["number"] != place:
            raise ValueError(f"trial {trial['number']} stands where trial {place} should: the store has a gap")
        if ended(trial):
            study.add_trial(_finished(trial, distributions))
        else:
            study.enqueue_trial(dict(trial["params"]))
    for point in enqueue:
        study.enqueue_trial(dict(point))
    return study


def _finished(trial: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    reported = {int(step): told_value(value) for step, value in trial["results"] if value is not None}
    state, value = TrialState.FAIL, None
    if trial["end_reason"] == EndReason.PRUNED and reported:
        # What Optuna itself makes of a pruned trial: its last value.
        state, value = TrialState.PRUNED, reported[max(reported)]
    elif trial["end_reason"] in (EndReason.FINISHED, EndReason.EARLY_STOPPED) and trial["value"] is not None:
        state, value = TrialState.COMPLETE, told_value(trial["value"])
    params = dict(trial["params"])
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions={key: distributions[key] for key in params},
        intermediate_values=reported,
    )
