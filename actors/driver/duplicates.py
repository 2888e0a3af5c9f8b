"""Keeps a search from training a configuration twice: draws again, and tells what is known of the rest.

A suggestion that equals a trial of the same search is drawn anew, under the same number, up to DRAWS times. One that
still equals a trial with a value is not trained: it gets that trial's end, and counts as a trial, so that the search of
a small space ends.
"""

from __future__ import annotations

import json
import math
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from optuna.distributions import BaseDistribution, CategoricalDistribution, IntDistribution
from optuna.samplers import BaseSampler
from optuna.study import Study
from optuna.trial import FrozenTrial, TrialState

from actors.driver.trial_registry import ended
from supervisor.domain.lifecycle import SUCCEEDED
from supervisor.domain.trials.duplicates import DUPLICATE_OF
from supervisor.domain.trials.extension import extension_of

DRAWS = 10
"""A suggestion is drawn at most so many times."""


class Tried:
    """Knows the configurations of a search whose trials have a value, or are at work. Tune's thread only."""

    def __init__(self, distributions: Mapping[str, BaseDistribution]) -> None:
        self.drawn = {name: found for name, found in distributions.items() if not found.single()}
        """The parameters that a sampler draws: those with more than one value."""
        self._with_value: dict[str, int] = {}
        self._at_work: Counter[str] = Counter()
        self._cells = math.prod(map(_values, self.drawn.values()))

    def _key(self, params: Mapping[str, Any]) -> str:
        # As JSON 1, 1.0 and true differ.
        return json.dumps([params.get(name) for name in self.drawn], default=str)

    def begin(self, params: Mapping[str, Any]) -> None:
        """Note that a trial with these params begins."""
        self._at_work[self._key(params)] += 1

    def end(self, params: Mapping[str, Any], number: int, *, counts: bool) -> None:
        """Note that trial `number` has ended; it `counts` if its value is that of all its epochs."""
        key = self._key(params)
        self._at_work[key] -= 1
        if self._at_work[key] <= 0:
            del self._at_work[key]
        if counts:
            self._with_value.setdefault(key, number)

    def of(self, params: Mapping[str, Any]) -> int | None:
        """Return the number of the first trial with these params that has a value; None without one."""
        return self._with_value.get(self._key(params))

    def has(self, params: Mapping[str, Any]) -> bool:
        """Return whether a trial with these params has a value, or is at work."""
        key = self._key(params)
        return key in self._with_value or key in self._at_work

    def leaves_any(self) -> bool:
        """Return whether the space has a configuration that no trial has, or is about to have."""
        return len(self._with_value.keys() | self._at_work.keys()) < self._cells


def _values(found: BaseDistribution) -> float:
    """Return how many values a distribution has; infinity for real numbers."""
    if isinstance(found, CategoricalDistribution):
        return len(found.choices)
    if isinstance(found, IntDistribution):
        return (found.high - found.low) // found.step + 1
    return math.inf


def tried_before(
    spec: Mapping[str, Any], distributions: Mapping[str, BaseDistribution], trials: Iterable[Mapping[str, Any]]
) -> Tried | None:
    """Return what the ended `trials` of a search have tried; None where the plan trains duplicates.

    A trial that a person ended or extended has a value of other epochs: it counts for no other one.
    """
    if spec.get("duplicates") != "reuse":
        return None
    tried = Tried(distributions)
    for trial in trials:
        number = int(trial["number"])
        own = extension_of(spec, number) is None and str(number) not in spec.get("ending", {})
        if ended(trial) and own and trial["end_reason"] in SUCCEEDED and trial["value"] is not None:
            tried.end(trial["params"], number, counts=True)
    return tried


def with_known_results(trials: Sequence[Mapping[str, Any]]) -> list[Mapping[str, Any]]:
    """Return the trials of a search, each duplicate with the results of the trial that it repeats."""
    results = {int(trial["number"]): trial["results"] for trial in trials}
    return [
        {**trial, "results": results[trial[DUPLICATE_OF]]} if trial.get(DUPLICATE_OF) in results else trial
        for trial in trials
    ]


def known_end(study: Study, number: int) -> tuple[Mapping[int, float], float | None]:
    """Return the reports of an ended trial as its study has them, and its value; None for one that was pruned."""
    found = study.get_trials(deepcopy=False)[number]
    return found.intermediate_values, found.value if found.state is TrialState.COMPLETE else None


class FreshDraws(BaseSampler):
    """Draws by `inner` until a configuration was not tried before, DRAWS times at most.

    A first draw that is fresh has the same random numbers as without this class: first what `inner` draws together,
    then the other parameters, in the order of the space.
    """

    def __init__(self, inner: BaseSampler, tried: Tried) -> None:
        self._inner, self._tried = inner, tried

    def infer_relative_search_space(self, study: Study, trial: FrozenTrial) -> dict[str, BaseDistribution]:
        return dict(self._tried.drawn)

    def sample_relative(
        self, study: Study, trial: FrozenTrial, search_space: dict[str, BaseDistribution]
    ) -> dict[str, Any]:
        together = self._inner.infer_relative_search_space(study, trial)
        fixed: Mapping[str, Any] = trial.system_attrs.get("fixed_params", {})
        drawn: dict[str, Any] = {}
        for _ in range(DRAWS if self._tried.leaves_any() else 1):
            drawn = dict(self._inner.sample_relative(study, trial, together))
            for name, one in self._tried.drawn.items():
                if name not in drawn and name not in fixed:
                    drawn[name] = self._inner.sample_independent(study, trial, name, one)
            if not self._tried.has({**drawn, **fixed}):
                break
        return drawn

    def sample_independent(
        self, study: Study, trial: FrozenTrial, param_name: str, param_distribution: BaseDistribution
    ) -> Any:
        return self._inner.sample_independent(study, trial, param_name, param_distribution)

    def before_trial(self, study: Study, trial: FrozenTrial) -> None:
        self._inner.before_trial(study, trial)

    def after_trial(self, study: Study, trial: FrozenTrial, state: TrialState, values: Sequence[float] | None) -> None:
        self._inner.after_trial(study, trial, state, values)
