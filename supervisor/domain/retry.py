"""Decides what of an experiment is tried again when a person asks, and why the rest is not. Pure.

Trials that failed begin anew, a test without a result may be opened again. What would let a search choose with
knowledge of the test, or after its finalisation has chosen, is refused. Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.answer import repeats_itself
from supervisor.domain.finalists import chosen, phase, trials_left
from supervisor.domain.lifecycle import ENDED, MAY_BE_RETRIED, TRIAL_ENDED, ProcessState, TrialState

Trial = Mapping[str, Any]


@dataclass(frozen=True)
class Experiment:
    """An experiment as the store has it; `test` as answer_queries.test_of, `out_of_time` if no `max_hours` are left."""

    name: str
    state: ProcessState
    spec: Mapping[str, Any]
    trials: Sequence[Trial]
    test: Mapping[str, Any] | None
    out_of_time: bool = False


@dataclass(frozen=True)
class Retry:
    """Holds the trials of an experiment that are tried again, and its test; `reopened`: it has ended and runs again.

    `refused` says of each thing that failed and is not tried again why.
    """

    experiment: str
    trials: tuple[int, ...] = ()
    test: bool = False
    reopened: bool = False
    refused: tuple[str, ...] = ()

    @property
    def empty(self) -> bool:
        return not (self.trials or self.test or self.reopened)


def asked_again(experiment: Experiment, number: int | None = None, *, named: bool = False) -> Retry:
    """Return what a person's request tries again: all that failed in an experiment, or its trial `number`.

    One that a person left out is taken in again only when the request has `named` it.
    """
    if experiment.spec.get("left_out") and not (named and experiment.state in ENDED):
        way_on = f"`supervisorctl retry {experiment.name}` takes it in again"
        return Retry(experiment.name, refused=(f"{experiment.name} was left out: {way_on}",))
    wanted = [trial for trial in experiment.trials if number in (None, int(trial["number"]))]
    failed = [trial for trial in wanted if _failed(trial)]
    refusals = {int(trial["number"]): _why_not(experiment, trial) for trial in failed}
    taken = tuple(each for each, why in refusals.items() if why is None)
    refused = [f"trial {each} of {experiment.name}: {why}" for each, why in refusals.items() if why is not None]
    if number is not None:
        refused += [f"trial {number} of {experiment.name} has not failed: {_words(trial)}" for trial in wanted
                    if not _failed(trial)]  # fmt: skip
    over = experiment.state in ENDED
    test = over and experiment.test is not None and not experiment.test["scored"] and (number is None or bool(taken))
    fails = experiment.state in (ProcessState.FATAL, ProcessState.SKIPPED)
    if fails and number is None and not taken:
        why = _why_no_work(experiment)
        refused += [] if why is None else [f"{experiment.name}: {why}"]
        fails = why is None
    if number is None and not (taken or test):
        refused += _no_finalist(experiment)
    reopened = over and (bool(taken) or test or (fails and number is None))
    return Retry(experiment.name, taken, test, reopened, tuple(refused))


def next_start(name: str, state: ProcessState, test: Mapping[str, Any] | None) -> Retry:
    """Return the retry by a plain start of an experiment that has ended well: of a test that repeats itself."""
    return Retry(name, reopened=state is ProcessState.EXITED and test is not None and repeats_itself(test))


def _failed(trial: Trial) -> bool:
    return trial["end_reason"] in MAY_BE_RETRIED


_CHOSEN = (
    "the finalisation has chosen among the trials of the search",
    "the walk-forward trains what the finalisation has chosen",
)


def _words(trial: Trial) -> str:
    return str(trial["end_reason"]) if TrialState(trial["state"]) in TRIAL_ENDED else f"it is {trial['state']}"


def _why_not(experiment: Experiment, trial: Trial) -> str | None:
    """Return why a failed trial cannot be tried again; None when it can."""
    test = experiment.test
    if test is not None and test["scored"]:
        return "the test of its experiment was read; a search that goes on would know the test days"
    if test is not None and test["failure"] is None and experiment.state not in ENDED:
        return "the test of its experiment is being evaluated"
    if experiment.out_of_time:
        return "the max_hours of its experiment are used up"
    if max(phase(other["source"]) for other in experiment.trials) > phase(trial["source"]):
        return _CHOSEN[phase(trial["source"])]
    return None


def _no_finalist(experiment: Experiment) -> list[str]:
    """Return the reason of an experiment that ended well without a finalised configuration, and has nothing to try."""
    ended_well = experiment.state is ProcessState.EXITED and experiment.spec.get("finalize") is not None
    if not ended_well or chosen(experiment.spec, experiment.trials) is not None:
        return []
    return [f"{experiment.name} has no finalised configuration, and no failed trial that another try may change"]


def _why_no_work(experiment: Experiment) -> str | None:
    """Return why a failed experiment would find nothing to do; None when it has trials left."""
    if experiment.state is ProcessState.SKIPPED:
        return None
    if experiment.out_of_time:
        return "its max_hours are used up"
    if trials_left(experiment.spec, experiment.trials) <= 0:
        return "all its trials have ended, and another try would not change how"
    return None
