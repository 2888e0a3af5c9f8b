"""Decides whether a person may end or discard a trial, leave an experiment out, or let it choose anew.

Pure; standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.command import Action
from supervisor.domain.finalists import phase
from supervisor.domain.lifecycle import ENDED, TRIAL_ENDED, EndReason, ProcessState, TrialState

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]

MAX_REASONS = 5
"""Reasons that one refusal quotes."""


@dataclass(frozen=True, order=True)
class Named:
    """An experiment (`trial` None) or a trial that a name means; `exact` False: a pattern or `all` found it."""

    experiment: str
    trial: int | None = None
    exact: bool = True

    def __str__(self) -> str:
        return self.experiment if self.trial is None else f"{self.experiment}/{self.trial}"


def allowed(found: Iterable[Named], why_not: Callable[[Named], str | None]) -> tuple[list[Named], list[str]]:
    """Return those of `found` that may be steered so, and why not, as sentences.

    What a pattern found and `why_not` refuses is left out without a reason; with nothing left over its reason counts.
    A refusal of an exact name leaves nothing over: then nothing at all is to be changed.
    """
    reasons = {one: why_not(one) for one in found}
    taken = [one for one, why in reasons.items() if why is None]
    refused = [one for one, why in reasons.items() if why is not None and (one.exact or not taken)]
    if not refused:
        return taken, []
    said = [f"{one}: {reasons[one]}" for one in refused[:MAX_REASONS]]
    return [], said + ([f"and {len(refused) - MAX_REASONS} more"] if len(refused) > MAX_REASONS else [])


def why_not_end(state: ProcessState, spec: Spec, trial: Trial) -> str | None:
    """Return why a trial cannot be ended at its next report, with the value that it has then; None when it can.

    `state` and `spec` are those of its experiment.
    """
    if TrialState(trial["state"]) in TRIAL_ENDED:
        return f"it has ended ({trial['end_reason']})"
    if state in ENDED:
        return f"its experiment has ended ({state})"
    if str(trial["number"]) in spec.get("ending", {}):
        return "it ends already, at its next report"
    if phase(trial["source"]) > 0:
        return "it follows the search: such trials are compared on all their epochs"
    return None


GONE = "it was set aside with its finalisation, and counts no more"
TEST_OPENED = "the test of its experiment was opened: what is chosen must not depend on what it showed"


def why_not_set_aside(trials: Sequence[Trial], test: Mapping[str, Any] | None) -> str | None:
    """Return why an experiment cannot choose anew; None when it can, or its finalisation has not begun.

    `trials` are those of the experiment, by number; `test` is as answer_queries.test_of.
    """
    if not any(phase(trial["source"]) > 0 for trial in trials):
        return None
    if test is not None:
        return TEST_OPENED
    if [trial["number"] for trial in trials] != list(range(len(trials))):
        # Those of its finalisation begin by rank; the numbers that are missing come within a moment.
        return "its finalisation is just beginning; ask again"
    return None


def why_not_discard(spec: Spec, trial: Trial, chooses_anew: str | None = None) -> str | None:
    """Return why a trial cannot be taken out of what its search knows; None when it can.

    `chooses_anew` says why its experiment cannot choose anew, where it has chosen; None when it can.
    """
    if trial["end_reason"] == EndReason.SET_ASIDE:
        return GONE
    if phase(trial["source"]) > 0:
        return "it follows the search; discard the trial whose configuration it trains again"
    if TrialState(trial["state"]) not in TRIAL_ENDED:
        return f"it is {trial['state']}; `supervisorctl end` ends it first"
    if str(trial["number"]) in spec.get("discarded", {}):
        return "it is discarded already"
    return chooses_anew


def why_not_restore(spec: Spec, trial: Trial, chooses_anew: str | None = None) -> str | None:
    """Return why a trial cannot be taken back into what its search knows; None when it can."""
    if str(trial["number"]) not in spec.get("discarded", {}):
        return "it is not discarded"
    return chooses_anew


def why_not_skip(state: ProcessState, action: str | None, spec: Spec, test: Mapping[str, Any] | None) -> str | None:
    """Return why an experiment cannot be left out; None when it can.

    `action` is that of the command that pauses it, `test` is as answer_queries.test_of.
    """
    if state in ENDED:
        return f"it has ended ({state})"
    if spec.get("left_out"):
        return "it is being left out already"
    if test is not None and test["failure"] is None:
        return "its test is open: the test days were looked at, and its answer stands"
    if action == Action.STOP.name:
        return "the governor has stopped the work here; `supervisorctl resume --force` comes first"
    return None
