"""Chooses the answer of a search: its best configurations are trained again on fresh seeds, and the best mean wins.

The best of many noisy losses is partly luck: at a noise of .02 the best of 50 looks .04 better than it is. Fresh seeds
take that luck out. With folds (training.data.blocks) the finalisation trains on the last one, and the winner is then
trained walk-forward: on the same seeds, once more for each earlier fold, so that it can be tested on every fold.

Both are part of `max_trials` and follow the search in number. Everything here is a pure function of an experiment's
spec and its trials, so a driver that starts anew goes on with the same choice and the same seeds. Standard library
only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason, TrialState

SOURCE = "finalize"
"""The source of a finalisation trial, beside sampled and enqueued."""
WALK_FORWARD = "walk_forward"
"""The source of a trial that trains the winner for a fold before the last."""
AFTER_SEARCH = (SOURCE, WALK_FORWARD)
"""The sources of trials that no sampler learns from and no pruner judges, in the order of their begin."""
SET_ASIDE = "set_aside"
"""The source of a trial whose finalisation was set aside: it counts as one of the search that left no value."""
SEED = "seed"
"""The key of a finalisation trial's params under which its trainable finds the seed."""
FOLD = "fold"
"""The key under which it finds the fold that it is trained and judged on; left out if there is one block only."""

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Finalist:
    """Holds a configuration that is trained again: trial `numbers[i]` on `seeds[i]`, all on `fold` (None: no folds)."""

    from_trial: int
    search_value: float
    params: Mapping[str, Any]
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]
    fold: int | None = None

    def trials(self) -> dict[int, dict[str, Any]]:
        """Return the params of the finalist's trials by number, each with its own seed."""
        shared = self.params if self.fold is None else {**self.params, FOLD: self.fold}
        return {number: {**shared, SEED: seed} for number, seed in zip(self.numbers, self.seeds, strict=True)}


@dataclass(frozen=True)
class Outcome:
    """Holds a finalist's values. One is None until its trial has a value; `mean` is None unless all have."""

    finalist: Finalist
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


def phase(source: str) -> int:
    """Return 0 for a trial of the search, 1 for the finalisation, 2 for the walk-forward: each chooses for the next."""
    return AFTER_SEARCH.index(source) + 1 if source in AFTER_SEARCH else 0


def folds_of(spec: Spec) -> int:
    """Return on how many folds the winner is tested; 1 without folds."""
    finalize = spec.get("finalize")
    return 1 if finalize is None else int(finalize.get("folds", 1))


def finalisation_trials(spec: Spec) -> int:
    """Return how many trials are reserved for the finalisation."""
    finalize = spec.get("finalize")
    return 0 if finalize is None else int(finalize["top"]) * int(finalize["seeds"])


def walk_forward_trials(spec: Spec) -> int:
    """Return how many trials are reserved for the winner on the folds before the last."""
    finalize = spec.get("finalize")
    return 0 if finalize is None else int(finalize["seeds"]) * (folds_of(spec) - 1)


def search_trials(spec: Spec) -> int:
    """Return how many trials of an experiment are the search's; their numbers begin at 0.

    A search that ended before its last trial has its own number (domain.search_time).
    """
    searched = spec.get("searched")
    own = int(spec["max_trials"]) - finalisation_trials(spec) - walk_forward_trials(spec)
    return own if searched is None else int(searched)


def planned_trials(spec: Spec) -> int:
    """Return how many trials an experiment has at most: `max_trials`, or fewer once its search has ended early."""
    return search_trials(spec) + finalisation_trials(spec) + walk_forward_trials(spec)


def shrunk(top: int, seeds: int, folds: int, room: int) -> tuple[int, int]:
    """Return the `top` and `seeds` of which the trials after the search are at most `room`, one of each at least."""
    fewer = max(1, min(seeds, room // folds))
    return max(1, min(top, room // fewer - (folds - 1))), fewer


def is_final(spec: Spec, number: int) -> bool:
    """Return whether a trial of this number follows the search: finalisation or walk-forward."""
    return number >= search_trials(spec)


def set_aside_trials(spec: Spec) -> int:
    """Return how many trials of the search are those of finalisations that were set aside."""
    return len(spec.get("set_aside", ()))


def is_discarded(spec: Spec, number: int) -> bool:
    """Return whether a person took trial `number` out of what the search knows."""
    return str(number) in spec.get("discarded", {})


def known_to_the_search(spec: Spec, trials: Iterable[Trial]) -> list[dict[str, Any]]:
    """Return the trials as a driver gets them: one that was discarded or set aside has failed, and keeps its number.

    Optuna numbers by order, so it cannot be left out.
    """
    gone: dict[str, Any] = {"state": TrialState.ERROR, "end_reason": EndReason.OPERATOR, "value": None, "results": []}

    def known(trial: Trial) -> dict[str, Any]:
        if trial["end_reason"] == EndReason.SET_ASIDE:
            return {**trial, **gone, "params": configuration(trial)}
        return {**trial, **gone} if is_discarded(spec, int(trial["number"])) else {**trial}

    return [known(trial) for trial in trials]


def configuration(trial: Trial) -> dict[str, Any]:
    """Return the params of a trial without those that the finalisation adds: seed and fold."""
    return {key: value for key, value in trial["params"].items() if key not in (SEED, FOLD)}


def finalists(spec: Spec, trials: Iterable[Trial]) -> list[Finalist]:
    """Return the best `top` different configurations of the search, best first.

    Empty without finalisation, and before the search's last trial has ended: until then the choice could change.
    """
    trials = list(trials)
    if spec.get("finalize") is None or _searching(spec, trials) > 0:
        return []
    return _best(spec, trials, int(spec["finalize"]["top"]))


def certain_finalists(spec: Spec, trials: Iterable[Trial]) -> list[Finalist]:
    """Return the configurations that will be finalists however the search's last trials end.

    Each of those takes at most one place. So the finalisation begins beside them, where it would leave cores idle.
    """
    trials = list(trials)
    searching = _searching(spec, trials)
    if spec.get("finalize") is None or searching == 0:
        return []
    return _best(spec, trials, int(spec["finalize"]["top"]) - searching)


def _searching(spec: Spec, trials: Sequence[Trial]) -> int:
    """Return how many trials of the search have not ended, those that have not begun among them."""
    search = search_trials(spec)
    return search - sum(int(trial["number"]) < search and trial["state"] in TRIAL_ENDED for trial in trials)


def _best(spec: Spec, trials: Sequence[Trial], count: int) -> list[Finalist]:
    """Return the best `count` configurations of the search trials that have ended, best first.

    A configuration whose trials have begun keeps their numbers; the others take those that are free, in their order.
    """
    search, seeds, folds = search_trials(spec), int(spec["finalize"]["seeds"]), folds_of(spec)
    drawn = tuple(_seed(int(spec["seed"]), place) for place in range(seeds))
    ended = [trial for trial in trials if int(trial["number"]) < search and trial["state"] in TRIAL_ENDED]
    ended = [trial for trial in ended if not is_discarded(spec, int(trial["number"]))]
    best = best_different(ended, str(spec["mode"]), count)
    return [
        Finalist(
            from_trial=int(trial["number"]),
            search_value=float(trial["value"]),
            params=dict(trial["params"]),
            numbers=tuple(range(search + place * seeds, search + (place + 1) * seeds)),
            seeds=drawn,
            fold=folds if folds > 1 else None,
        )
        for trial, place in zip(best, _places(spec, trials, best), strict=True)
    ]


def _places(spec: Spec, trials: Sequence[Trial], best: Sequence[Trial]) -> list[int]:
    """Return the place of each of the `best` configurations among the finalisation's trials, from 0."""
    search, seeds, top = search_trials(spec), int(spec["finalize"]["seeds"]), int(spec["finalize"]["top"])
    begun: dict[int, Mapping[str, Any]] = {}
    for trial in trials:
        place = (int(trial["number"]) - search) // seeds
        if 0 <= place < top:
            begun[place] = configuration(trial)
    own = [
        next((place for place, params in sorted(begun.items()) if params == trial["params"]), None) for trial in best
    ]
    free = iter(place for place in range(top + len(best)) if place not in own)
    return [next(free) if place is None else place for place in own]


def walk_forward(spec: Spec, trials: Sequence[Trial]) -> list[Finalist]:
    """Return the winner for each fold before the last, in order; empty before there is a winner, and without folds."""
    choice = chosen(spec, trials) if folds_of(spec) > 1 else None
    if choice is None:
        return []
    first = 1 + max(max(finalist.numbers) for finalist in finalists(spec, trials))
    seeds = len(choice.finalist.seeds)
    return [
        replace(choice.finalist, fold=fold, numbers=tuple(range(start, start + seeds)))
        for fold, start in enumerate(range(first, first + walk_forward_trials(spec), seeds), 1)
    ]


def after_search(spec: Spec, trials: Sequence[Trial]) -> dict[int, tuple[str, dict[str, Any]]]:
    """Return source and params of each trial after the search that is known by now, by number."""
    final = finalists(spec, trials) or certain_finalists(spec, trials)
    kinds = ((SOURCE, final), (WALK_FORWARD, walk_forward(spec, trials)))
    return {
        number: (source, params)
        for source, found in kinds
        for finalist in found
        for number, params in finalist.trials().items()
    }


def best_different(trials: Iterable[Trial], mode: str, count: int) -> list[Trial]:
    """Return the best trials with a value, no two of the same params; of equal values the earlier first."""
    sign = 1.0 if mode == "min" else -1.0
    valued = [trial for trial in trials if trial["value"] is not None and _succeeded(trial)]
    chosen: list[Trial] = []
    for trial in sorted(valued, key=lambda trial: (sign * trial["value"], trial["number"])):
        if len(chosen) < count and all(trial["params"] != other["params"] for other in chosen):
            chosen.append(trial)
    return chosen


def trials_in_all(spec: Spec, trials: Sequence[Trial]) -> int:
    """Return how many trials the experiment will have: fewer than `max_trials` if too few can be finalised."""
    search, found = search_trials(spec), finalists(spec, trials)
    if not _have_ended(trials, range(search)):
        return planned_trials(spec)
    final = sum(len(finalist.numbers) for finalist in found)
    goes_on = not _have_ended(trials, range(search + final)) or chosen(spec, trials) is not None
    return search + final + (walk_forward_trials(spec) if found and goes_on else 0)


def trials_left(spec: Spec, trials: Sequence[Trial]) -> int:
    """Return how many trials of the experiment have not ended."""
    return trials_in_all(spec, trials) - sum(trial["state"] in TRIAL_ENDED for trial in trials)


def outcomes(spec: Spec, trials: Sequence[Trial]) -> list[Outcome]:
    """Return each finalist with its trials' values, in the order of the search's ranking."""
    value_of = _values(trials)
    return [
        Outcome(finalist, tuple(value_of.get(number) for number in finalist.numbers))
        for finalist in finalists(spec, trials)
    ]


def chosen(spec: Spec, trials: Sequence[Trial]) -> Outcome | None:
    """Return the finalist with the best mean of those with a value for every seed; None before there is one.

    A configuration that fails on one of its seeds is not one to rely on, so it is out.
    """
    found = outcomes(spec, trials)
    if not _have_ended(trials, [number for outcome in found for number in outcome.finalist.numbers]):
        return None
    sign = 1.0 if spec["mode"] == "min" else -1.0
    complete = [outcome for outcome in found if outcome.mean is not None]
    return min(complete, key=lambda outcome: sign * (outcome.mean or 0.0), default=None)


def tested_trials(spec: Spec, trials: Sequence[Trial]) -> list[tuple[int, ...]]:
    """Return the winner's trials, for each seed one of every fold in order; empty before there is a winner.

    A seed that failed on a fold is left out. It was trained there on fewer days, so the configuration stays.
    """
    choice = chosen(spec, trials)
    if choice is None:
        return []
    succeeded = {number for number, value in _values(trials).items() if value is not None}
    by_fold = [finalist.numbers for finalist in (*walk_forward(spec, trials), choice.finalist)]
    return [numbers for numbers in zip(*by_fold, strict=True) if succeeded.issuperset(numbers)]


def describe(spec: Spec, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the choice as JSON, with every candidate; None before a choice can be made."""
    choice = chosen(spec, trials)
    if choice is None:
        return None
    record_of = {int(trial["number"]): trial.get("record") or {} for trial in trials}
    candidates = outcomes(spec, trials)
    as_json = [outcome_json(outcome, record_of[outcome.finalist.from_trial]) for outcome in candidates]
    value_of = _values(trials)
    return {
        **as_json[candidates.index(choice)],
        "candidates": as_json,
        "walk_forward": [
            {
                "fold": finalist.fold,
                "trials": list(finalist.numbers),
                "val_losses": [value_of.get(number) for number in finalist.numbers],
            }
            for finalist in walk_forward(spec, trials)
        ],
    }


def _have_ended(trials: Iterable[Trial], numbers: Collection[int]) -> bool:
    return {int(trial["number"]) for trial in trials if trial["state"] in TRIAL_ENDED}.issuperset(numbers)


def _values(trials: Iterable[Trial]) -> dict[int, float | None]:
    return {int(trial["number"]): trial["value"] for trial in trials if _succeeded(trial)}


def _succeeded(trial: Trial) -> bool:
    return trial["end_reason"] is not None and EndReason(trial["end_reason"]) in SUCCEEDED


def outcome_json(outcome: Outcome, record: Mapping[str, Any]) -> dict[str, Any]:
    """Return an outcome as JSON, with the size and shape of the model from a trial's `record`."""
    finalist = outcome.finalist
    return {
        "from_trial": finalist.from_trial,
        "search_value": finalist.search_value,
        "params": dict(finalist.params),
        "param_count": record.get("param_count"),
        "architecture": record.get("architecture"),
        "fold": finalist.fold,
        "trials": list(finalist.numbers),
        "seeds": list(finalist.seeds),
        "val_losses": list(outcome.values),
        "val_loss": outcome.mean,
    }


def _seed(experiment_seed: int, place: int) -> int:
    """Return a seed of 32 bits, the same for every finalist: its luck is then the same for all."""
    digest = hashlib.sha256(f"{SOURCE} {experiment_seed} {place}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
