"""Says whether a run has what its plan asks for: its trials, and the answer of each experiment. Pure.

The answer is a configuration that was finalised and, for the built-in trainable, the result of its test. Standard
library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain.lifecycle import ENDED, MAY_BE_RETRIED, ProcessState
from supervisor.errors import INCOMPLETE

TESTED = "patchtst"
"""The trainable whose answers are tested; the test days of a user's own are unknown here."""
MAX_TRIES = 3
"""A test that was opened this often without a result is not opened again before a person asks for it."""

View = Mapping[str, Any]


def missing_answer(spec: View, state: ProcessState, finalized: View | None, test: View | None) -> str | None:
    """Return why an experiment that ended well has no answer; None when it has one, or its plan asks for none.

    `test` is the state of its test (answer_queries.test_of), None when it was never opened.
    """
    if spec.get("finalize") is None or state is not ProcessState.EXITED:
        return None
    if finalized is None:
        return "no configuration was finalised on all its seeds"
    if spec["trainable"] != TESTED or (test is not None and test["scored"]):
        return None
    if test is None:
        return "its test was not opened; the event test.failed says why"
    times = "once" if test["openings"] == 1 else f"{test['openings']} times"
    failure = test["failure"]
    why = failure["error"] if failure is not None else "its process ended without a result"
    return f"its test was opened {times} and has no result: {why}"


def prior_loss(record: Mapping[str, Any]) -> float | None:
    """Return the validation loss of a trial that forecasts the train days' class rate; None where it has no rates.

    It is the cross-entropy of the two rates, in nats, which a model must stay below to be of use.
    """
    train, val = record.get("base_rate_train"), record.get("base_rate_val")
    if train is None or val is None or not 0.0 < train < 1.0:
        return None
    return float(-(val * math.log(train) + (1.0 - val) * math.log(1.0 - train)))


def repeats_itself(test: View) -> bool:
    """Return whether the next start opens a test again without being asked.

    It does after a fault from outside, and after a process that ended with its daemon.
    """
    failure = test["failure"]
    return not test["scored"] and test["tries"] < MAX_TRIES and (failure is None or bool(failure["outside"]))


def verdict(state: ProcessState, missing: str | None) -> str:
    """Return passed, incomplete (it has no answer), failed, skipped or unfinished, of an experiment."""
    if state is ProcessState.EXITED and missing is not None:
        return "incomplete"
    words = {ProcessState.EXITED: "passed", ProcessState.FATAL: "failed", ProcessState.SKIPPED: "skipped"}
    return words.get(state, "unfinished")


def counts(experiments: Iterable[View]) -> dict[str, int]:
    """Return how many experiments passed, failed, were skipped, lack an answer (incomplete), and their failed trials.

    `experiments` are views (queries.experiment_view).
    """
    views = list(experiments)
    of = {state: [view for view in views if view["state"] == state] for state in ENDED}
    incomplete = sum(view["missing"] is not None for view in of[ProcessState.EXITED])
    return {
        "passed": len(of[ProcessState.EXITED]) - incomplete,
        "failed": len(of[ProcessState.FATAL]),
        "skipped": len(of[ProcessState.SKIPPED]),
        "incomplete": incomplete,
        "failed_trials": sum(view["counts"].get(reason, 0) for view in views for reason in MAY_BE_RETRIED),
    }


def exit_code(experiments: Iterable[View]) -> int:
    """Return a run's exit code from the views of its experiments (queries.experiment_view).

    1 when one of them failed or has not ended, or there is none; INCOMPLETE when an answer is missing or trials failed;
    else 0.
    """
    views = list(experiments)
    found = counts(views)
    if not views or found["passed"] + found["incomplete"] + found["skipped"] < len(views):
        return 1
    return INCOMPLETE if found["incomplete"] or found["failed_trials"] else 0
