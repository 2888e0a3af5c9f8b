"""The Optuna study of one experiment: a cache of the store, deleted and built again at each driver start.

A study that outlives its driver would be ahead of the store or behind it after every crash. The file `study.journal` is
a copy for optuna-dashboard; the search never reads it.
"""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.distributions import BaseDistribution, CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import BaseSampler, GPSampler, RandomSampler, TPESampler
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState, create_trial

from actors.driver.trial_registry import ended
from supervisor.domain.lifecycle import EndReason
from supervisor.filesystem import write_atomically

LOG = logging.getLogger("study")
FILE = "study.journal"

MAX_SAMPLERS = 64
"""Bound of samplers that are kept from a trial's begin to its end."""

LARGEST_VALUE = 1e30
"""Larger losses are cut to this: their squares, which a Gaussian process needs, must stay finite."""


def bounded(value: float) -> float:
    """Return `value`, cut to LARGEST_VALUE either way."""
    return max(-LARGEST_VALUE, min(LARGEST_VALUE, value))


def derive_seed(seed: int, number: int) -> int:
    """Return a 32-bit seed for the sampling of trial `number`, from the experiment's `seed`."""
    digest = hashlib.sha256(f"sampler {seed} {number}".encode()).digest()
    return int.from_bytes(digest[:4], "big")


def distribution(dimension: Mapping[str, Any]) -> BaseDistribution:
    """Return Optuna's distribution of one dimension of a plan's space. Raises ValueError for an unknown type."""
    kind = dimension["type"]
    if kind == "float":
        return FloatDistribution(dimension["low"], dimension["high"], log=dimension.get("log", False))
    if kind == "int":
        return IntDistribution(
            dimension["low"], dimension["high"], log=dimension.get("log", False), step=dimension.get("step") or 1
        )
    if kind == "categorical":
        return CategoricalDistribution(dimension["choices"])
    raise ValueError(f"expected a dimension of type float, int or categorical, found {kind!r}")


def sampler_factory(kind: str, startup_trials: int, seed: int) -> Callable[[int], BaseSampler]:
    """Return a function from a trial's number to its sampler. Raises ValueError for an unknown kind."""
    if kind == "tpe":
        return lambda number: TPESampler(n_startup_trials=startup_trials, seed=derive_seed(seed, number))
    if kind == "gp":
        return lambda number: GPSampler(n_startup_trials=startup_trials, seed=derive_seed(seed, number))
    if kind == "random":
        return lambda number: RandomSampler(seed=derive_seed(seed, number))
    raise ValueError(f"expected a sampler of kind tpe, gp or random, found {kind!r}")


class SamplerPerTrial(BaseSampler):
    """A fresh sampler for each trial, seeded by its number.

    A sampler's random state is lost with its process. Seeded by number, an interrupted search resumes with the draws of
    one that was not interrupted (exactly so at concurrency 1, where it also learns from the same trials).
    """

    def __init__(self, make: Callable[[int], BaseSampler]) -> None:
        self._make = make
        self._live: dict[int, BaseSampler] = {}
        self._spaces = make(0)
        """Finds the space of the parameters: it looks at the trials since its last call, a fresh sampler at all."""

    def _of(self, trial: FrozenTrial) -> BaseSampler:
        if trial.number not in self._live:
            self._live[trial.number] = self._make(trial.number)
            for number in sorted(self._live)[:-MAX_SAMPLERS]:
                del self._live[number]
        return self._live[trial.number]

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return self._spaces.infer_relative_search_space(study, trial)

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
        self._of(trial).after_trial(study, trial, state, values)
        self._live.pop(trial.number, None)


class CopiedJournal(BaseJournalBackend):
    """Keeps the journal in memory, and a copy at `file`. The copy may be damaged or deleted without harm.

    With Optuna's own file backend a search whose file was deleted gives numbers twice, and one whose disk is full ends.
    Here the copy is written anew when its size is not as this class left it.
    """

    def __init__(self, file: Path) -> None:
        self._file, self._lines, self._copied_bytes, self._failing = file, list[bytes](), 0, False

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return [json.loads(line) for line in self._lines[log_number_from:]]

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        added = [json.dumps(entry, separators=(",", ":")).encode() + b"\n" for entry in logs]
        self._lines += added
        try:
            self._copy(b"".join(added))
        except OSError as error:
            # Once for each outage, not once for each line.
            if not self._failing:
                LOG.warning("%s cannot be written; the search continues without it: %s", self._file, error)
            self._failing = True
        else:
            self._failing = False

    def _copy(self, added: bytes) -> None:
        as_left = self._file.exists() and self._file.stat().st_size == self._copied_bytes
        if as_left:
            with self._file.open("ab") as copy:
                copy.write(added)
            self._copied_bytes += len(added)
        else:
            everything = b"".join(self._lines)
            write_atomically(self._file, everything, durable=False)
            self._copied_bytes = len(everything)


def open_storage(folder: Path) -> BaseStorage:
    """Return an empty journal with its copy in the experiment's `folder`; delete the copy of before."""
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
    """Return the study of the daemon's `trials`: ended ones are complete, unfinished ones wait at their own numbers.

    `ask()` then gives each unfinished trial again with its own parameters, then the points of `enqueue`, then samples.
    Raises ValueError unless the trials' numbers are 0, 1, 2 ...
    """
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    study = optuna.create_study(storage=storage, study_name=name, direction="minimize" if mode == "min" else "maximize")
    for place, trial in enumerate(trials):
        if trial["number"] != place:
            raise ValueError(f"expected trial {place}, found {trial['number']}: trial numbers are not contiguous")
        if ended(trial):
            study.add_trial(_finished(trial, distributions))
        else:
            study.enqueue_trial(dict(trial["params"]))
    for point in enqueue:
        study.enqueue_trial(dict(point))
    return study


def _finished(trial: Mapping[str, Any], distributions: Mapping[str, BaseDistribution]) -> FrozenTrial:
    reported = {int(step): bounded(value) for step, value in trial["results"] if value is not None}
    state, value = TrialState.FAIL, None
    if trial["end_reason"] == EndReason.PRUNED and (reported or trial["value"] is not None):
        # As Optuna does for a pruned trial: its last value. One that was extended anew has lost its epochs.
        state, value = TrialState.PRUNED, reported[max(reported)] if reported else bounded(trial["value"])
    elif trial["end_reason"] in (EndReason.FINISHED, EndReason.EARLY_STOPPED) and trial["value"] is not None:
        state, value = TrialState.COMPLETE, bounded(trial["value"])
    params = dict(trial["params"])
    return create_trial(
        state=state,
        value=value,
        params=params,
        distributions={key: distributions[key] for key in params},
        intermediate_values=reported,
    )
