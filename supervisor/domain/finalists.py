"""Chooses the answer of a search: its best configurations are trained again on fresh seeds, and the best mean wins.

The best of many noisy losses is partly luck: at a noise of .02 the best of 50 looks .04 better than it is. Fresh seeds
take that luck out. Finalisation trials are part of `max_trials` and follow the search in number. Everything here is a
pure function of an experiment's spec and its trials, so a driver that starts anew goes on with the same choice and
the same seeds. Standard library only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.lifecycle import SUCCEEDED, TRIAL_ENDED, EndReason

SOURCE = "finalize"
"""The source of a finalisation trial, beside sampled and enqueued."""
SEED = "seed"
"""The key of a finalisation trial's params under which its trainable finds the seed."""

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Finalist:
    """Holds a configuration that is trained again: trial `numbers[i]` on `seeds[i]`."""

    from_trial: int
    search_value: float
    params: Mapping[str, Any]
    numbers: tuple[int, ...]
    seeds: tuple[int, ...]

    def trials(self) -> dict[int, dict[str, Any]]:
        """Return the params of the finalist's trials by number, each with its own seed."""
        return {
            number: {**self.params, SEED: seed} for number, seed in zip(self.numbers, self.seeds, strict=True)
        }  # fmt: skip


@dataclass(frozen=True)
class Outcome:
    """Holds a finalist's values. One is None until its trial has a value; `mean` is None unless all have."""

    finalist: Finalist
    values: tuple[float | None, ...]

    @property
    def mean(self) -> float | None:
        known = [value for value in self.values if value is not None]
        return sum(known) / len(known) if len(known) == len(self.values) else None


def search_trials(spec: Spec) -> int:
    """Return how many trials of an experiment are the search's; their numbers begin at 0."""
    finalize = spec.get("finalize")
    return int(spec["max_trials"]) - (0 if finalize is None else int(finalize["top"]) * int(finalize["seeds"]))


def is_final(spec: Spec, number: int) -> bool:
    """Return whether a trial of this number belongs to the finalisation."""
    return number >= search_trials(spec)


def finalists(spec: Spec, trials: Iterable[Trial]) -> list[Finalist]:
    """Return the best `top` different configurations of the search, best first.

    Empty without finalisation, and before the search's last trial has ended: until then the choice could change.
    """
    finalize, search = spec.get("finalize"), search_trials(spec)
    own = [trial for trial in trials if int(trial["number"]) < search]
    if finalize is None or len(own) < search or not all(trial["state"] in TRIAL_ENDED for trial in own):
        return []
    top, seeds = int(finalize["top"]), int(finalize["seeds"])
    drawn = tuple(_seed(int(spec["seed"]), place) for place in range(seeds))
    return [
        Finalist(
            from_trial=int(trial["number"]),
            search_value=float(trial["value"]),
            params=dict(trial["params"]),
            numbers=tuple(range(search + place * seeds, search + (place + 1) * seeds)),
            seeds=drawn,
        )
        for place, trial in enumerate(best_different(own, str(spec["mode"]), top))
    ]


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
    search = search_trials(spec)
    own = [trial for trial in trials if int(trial["number"]) < search]
    if len(own) < search or not all(trial["state"] in TRIAL_ENDED for trial in own):
        return int(spec["max_trials"])
    return search + sum(len(finalist.numbers) for finalist in finalists(spec, trials))


def trials_left(spec: Spec, trials: Sequence[Trial]) -> int:
    """Return how many trials of the experiment have not ended."""
    return trials_in_all(spec, trials) - sum(trial["state"] in TRIAL_ENDED for trial in trials)


def outcomes(spec: Spec, trials: Sequence[Trial]) -> list[Outcome]:
    """Return each finalist with its trials' values, in the order of the search's ranking."""
    value_of = {int(trial["number"]): trial["value"] for trial in trials if _succeeded(trial)}
    return [
        Outcome(finalist, tuple(value_of.get(number) for number in finalist.numbers))
        for finalist in finalists(spec, trials)
    ]


def chosen(spec: Spec, trials: Sequence[Trial]) -> Outcome | None:
    """Return the finalist with the best mean of those with a value for every seed; None before there is one.

    A configuration that fails on one of its seeds is not one to rely on, so it is out.
    """
    if trials_left(spec, trials) > 0:
        return None
    sign = 1.0 if spec["mode"] == "min" else -1.0
    complete = [outcome for outcome in outcomes(spec, trials) if outcome.mean is not None]
    return min(complete, key=lambda outcome: sign * (outcome.mean or 0.0), default=None)


def describe(spec: Spec, trials: Sequence[Trial]) -> dict[str, Any] | None:
    """Return the choice as JSON, with every candidate; None before a choice can be made."""
    choice = chosen(spec, trials)
    if choice is None:
        return None
    record_of = {int(trial["number"]): trial.get("record") or {} for trial in trials}
    candidates = outcomes(spec, trials)
    as_json = [outcome_json(outcome, record_of[outcome.finalist.from_trial]) for outcome in candidates]
    return {**as_json[candidates.index(choice)], "candidates": as_json}


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
        "trials": list(finalist.numbers),
        "seeds": list(finalist.seeds),
        "val_losses": list(outcome.values),
        "val_loss": outcome.mean,
    }


def _seed(experiment_seed: int, place: int) -> int:
    """Return a seed of 32 bits, the same for every finalist: its luck is then the same for all."""
    digest = hashlib.sha256(f"{SOURCE} {experiment_seed} {place}".encode()).digest()
    return int.from_bytes(digest[:4], "big")
