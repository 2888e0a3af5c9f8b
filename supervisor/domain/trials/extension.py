"""Decides whether a trial that has ended may train on, and says how it had ended. Pure; standard library only.

An extended trial is PENDING again. Neither sampler nor pruner sees its extension: to them it stays as it had ended,
until the next driver learns its new value. If the extension fails, the trial keeps its end.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from supervisor.domain.early_ends import TEST_OPENED
from supervisor.domain.finalists import is_discarded, phase
from supervisor.domain.lifecycle import FAILED, SUCCEEDED, TRIAL_ENDED, EndReason, ProcessState, TrialState

MAX_EPOCHS = 100_000
"""The last epoch that a trial may have, as in a plan."""

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


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
        return "it was set aside with its finalisation, and counts no more"
    if phase(trial["source"]) > 0:
        return "it follows the search: such trials are compared on the same epochs"
    if is_discarded(found.search.spec, number):
        return f"it is discarded; `supervisorctl restore {found.name}` takes it back first"
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


def extension_of(spec: Spec, number: int) -> Mapping[str, Any] | None:
    """Return what a person asked of trial `number`, as with_extension keeps it; None if it was never extended."""
    found: Mapping[str, Any] | None = spec.get("extended", {}).get(str(number))
    return found


def last_epoch(spec: Spec, number: int) -> int | None:
    """Return the epoch at which trial `number` ends at the latest; None where that is not known.

    It is not after an extension that failed: the trial has the end of before it.
    """
    extension = extension_of(spec, number)
    last = spec.get("max_epochs") if extension is None else extension["last_step"]
    return None if last is None or (extension is not None and extension["failed"]) else int(last)


def more_epochs(spec: Spec, number: int) -> int | None:
    """Return by how many epochs a person has extended trial `number` in all; None without an extension that holds."""
    extension = extension_of(spec, number)
    return None if extension is None else int(extension["more"]) or None


def with_extension(spec: Spec, fields: Mapping[str, Any]) -> dict[str, Any]:
    """Return the spec of an experiment whose trial `fields["trial"]` trains on, from the fields of `trial.extended`."""
    number, before = str(fields["trial"]), spec.get("extended", {}).get(str(fields["trial"]), {})
    extension = {
        **{key: fields[key] for key in ("epochs", "last_step", "anew", "end_reason", "value")},
        "more": before.get("more", 0) + fields["epochs"],
        "failed": False,
        # A search that was asked to finish has done so: this wish is newer.
        "finishing": bool(spec.get("finish_asked")),
        # A pruner judges no epoch of an extension, also of an earlier one.
        "judged": before.get("judged", fields["after"]),
    }
    ending = {key: who for key, who in spec.get("ending", {}).items() if key != number}
    return {**spec, "extended": {**spec.get("extended", {}), number: extension}, "ending": ending}


def with_failed_extension(spec: Spec, number: int) -> dict[str, Any]:
    """Return the spec of an experiment whose trial `number` could not train on: it keeps the end that it had."""
    extension = spec["extended"][str(number)]
    failed = {**extension, "more": extension["more"] - extension["epochs"], "failed": True}
    return {**spec, "extended": {**spec["extended"], str(number): failed}}


def as_it_had_ended(spec: Spec, trial: Trial) -> Trial:
    """Return a trial that trains on as it had ended before; any other one as it is."""
    extension = None if trial["end_reason"] is not None else extension_of(spec, int(trial["number"]))
    return trial if extension is None else {**trial, **end_before(extension)}


def end_before(extension: Mapping[str, Any]) -> dict[str, Any]:
    """Return the end of an extended trial before its extension: state, end reason and value."""
    good = EndReason(extension["end_reason"]) in SUCCEEDED
    state = TrialState.TERMINATED if good else TrialState.ERROR
    return {"state": state, "end_reason": extension["end_reason"], "value": extension["value"]}


def as_searched(spec: Spec, trial: Trial) -> Trial:
    """Return a trial as sampler and pruner know it: its end, and its `results` without those of an extension."""
    extension = extension_of(spec, int(trial["number"]))
    if extension is None:
        return trial
    judged = 0 if extension["anew"] else extension["judged"]
    return {
        **as_it_had_ended(spec, trial),
        "results": [result for result in trial["results"] if result[0] <= judged],
    }
