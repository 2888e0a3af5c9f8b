"""Decides whether a trial that has ended may train on. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.domain.early_ends import GONE, TEST_OPENED
from supervisor.domain.finalists import is_discarded, phase
from supervisor.domain.lifecycle import FAILED, TRIAL_ENDED, EndReason, ProcessState, TrialState
from supervisor.domain.plan_changes import MAX_EPOCHS
from supervisor.domain.trials.duplicates import duplicate_of
from supervisor.domain.trials.extension import Spec, Trial, last_epoch


@dataclass(frozen=True)
class Searched:
    """Holds what of an experiment decides whether its trials train on.

    `test` is as answer_queries.test_of, `chooses_anew` says why it cannot choose anew (early_ends.why_not_set_aside),
    None when it can; `left_s` are the seconds that it has left, None without a limit.
    """

    experiment: str
    state: ProcessState
    spec: Spec
    test: Mapping[str, Any] | None
    chooses_anew: str | None
    left_s: float | None


@dataclass(frozen=True)
class Candidate:
    """Holds what decides whether a trial trains on.

    `reached` is its last epoch that was reported, `checkpoint` the epoch of its newest checkpoint that is left, None
    without one.
    """

    search: Searched
    trial: Trial
    reached: int
    checkpoint: int | None

    @property
    def name(self) -> str:
        return f"{self.search.experiment}/{self.trial['number']}"


def why_not_train_on(found: Candidate, epochs: int, *, anew: bool) -> str | None:
    """Return why a trial cannot train `epochs` more, from its newest checkpoint or `anew`; None when it can."""
    refusal = _why_not_itself(found, epochs) or _why_not_there(found.search)
    if refusal is not None or anew or found.checkpoint is not None:
        return refusal
    return f"no checkpoint of it is left; with --anew it trains from epoch 0 to {found.reached + epochs}"


def _why_not_itself(found: Candidate, epochs: int) -> str | None:
    """Return what of the trial itself forbids it."""
    trial, number = found.trial, int(found.trial["number"])
    if TrialState(trial["state"]) not in TRIAL_ENDED:
        return f"it is {trial['state']}; only a trial that has ended trains on"
    if trial["end_reason"] == EndReason.SET_ASIDE:
        return GONE
    if phase(trial["source"]) > 0:
        return "it follows the search: such trials are compared on the same epochs"
    if is_discarded(found.search.spec, number):
        return f"it is discarded; `supervisorctl restore {found.name}` takes it back first"
    before = duplicate_of(trial.get("record"))
    if before is not None:
        return f"it was not trained: it has the end of trial {before}; extend that one"
    reason = EndReason(trial["end_reason"])
    if reason is EndReason.DIVERGED:
        return "it has diverged, and more epochs would not change that"
    if reason in FAILED:
        return f"it has failed ({reason}); `supervisorctl retry {found.name}` begins it anew"
    last = last_epoch(found.search.spec, number)
    if reason is EndReason.FINISHED and last is not None and found.reached < last:
        return f"its own code ended it after {found.reached} epochs, before epoch {last}"
    if found.reached + epochs > MAX_EPOCHS:
        return f"expected at most {MAX_EPOCHS} epochs in all, found {found.reached + epochs}"
    return None


def _why_not_there(found: Searched) -> str | None:
    """Return what of its experiment forbids it."""
    if found.test is not None:
        return TEST_OPENED
    if found.chooses_anew is not None:
        return found.chooses_anew
    if found.spec.get("left_out") or found.state is ProcessState.SKIPPED:
        return f"its experiment was left out; `supervisorctl retry {found.experiment}` takes it in again"
    if found.left_s == 0.0:
        return f"the max_hours are used up; `supervisorctl extend {found.experiment} --hours 2` gives some more first"
    return None
