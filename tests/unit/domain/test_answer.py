"""The exit code of a run says when a trial failed or an answer is missing, and which test repeats itself."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain import answer
from supervisor.domain.lifecycle import ProcessState

FINALIZED = {"from_trial": 0}
SPEC = {"finalize": {"top": 1, "seeds": 1}, "trainable": "patchtst"}


def view(state: str = "EXITED", missing: str | None = None, **counts: int) -> dict[str, Any]:
    return {"state": state, "missing": missing, "counts": counts}


def opened(openings: int = 1, failure: dict[str, Any] | None = None, *, scored: bool = False, tries: int = 1) -> Any:
    return {"openings": openings, "tries": tries, "failure": failure, "scored": scored}


@pytest.mark.parametrize(
    ("views", "code"),
    [
        ([view(), view("SKIPPED")], 0),
        ([view(finished=3, pruned=2, diverged=1, operator=1)], 0),
        ([view(), view("FATAL")], 1),
        ([view(), view("STOPPED")], 1),
        ([], 1),
        ([view(finished=3, error=1)], 3),
        ([view(), view(oom=2)], 3),
        ([view(missing="its test has no result")], 3),
        ([view("FATAL", hung=1), view(missing="no test")], 1),
    ],
)
def test_the_exit_code_is_0_only_when_nothing_failed_and_no_answer_is_missing(views: list[Any], code: int) -> None:
    assert answer.exit_code(views) == code


def test_an_experiment_without_its_answer_does_not_count_as_passed() -> None:
    found = answer.counts([view(), view(missing="no test"), view("FATAL", error=2), view("SKIPPED"), view(hung=1)])
    assert found == {"passed": 2, "failed": 1, "skipped": 1, "incomplete": 1, "failed_trials": 3}


@pytest.mark.parametrize(
    ("changes", "finalized", "test", "missing"),
    [
        ({}, FINALIZED, opened(scored=True), None),
        ({"finalize": None}, None, None, None),
        ({"trainable": "mine:function"}, FINALIZED, None, None),
        ({"trainable": "mine:function"}, None, None, "no configuration was finalised"),
        ({}, None, None, "no configuration was finalised"),
        ({}, FINALIZED, None, "not opened"),
        (
            {},
            FINALIZED,
            opened(failure={"error": "no disk", "outside": True}),
            "opened once and has no result: no disk",
        ),
        ({}, FINALIZED, opened(2), "opened 2 times and has no result: its process ended"),
    ],
)
def test_a_missing_answer_has_its_reason(changes: Any, finalized: Any, test: Any, missing: str | None) -> None:
    found = answer.missing_answer({**SPEC, **changes}, ProcessState.EXITED, finalized, test)
    assert found is None if missing is None else missing in (found or "")
    assert answer.missing_answer({**SPEC, **changes}, ProcessState.RUNNING, finalized, test) is None


def test_a_test_repeats_itself_after_a_fault_from_outside_three_times_at_most() -> None:
    outside, own = ({"error": "e", "outside": flag} for flag in (True, False))
    assert [answer.repeats_itself(opened(failure=outside, tries=tries)) for tries in (1, 2, 3)] == [True, True, False]
    assert answer.repeats_itself(opened(9, tries=1)), "its process died; a person asked for it again after the third"
    assert not answer.repeats_itself(opened(failure=own))
    assert not answer.repeats_itself(opened(scored=True))


@pytest.mark.parametrize(
    ("state", "missing", "word"),
    [
        ("EXITED", None, "passed"), ("EXITED", "no test", "incomplete"), ("FATAL", None, "failed"),
        ("SKIPPED", None, "skipped"), ("RUNNING", None, "unfinished"), ("STOPPED", None, "unfinished"),
    ],
)  # fmt: skip
def test_the_verdict_of_an_experiment(state: str, missing: str | None, word: str) -> None:
    assert answer.verdict(ProcessState(state), missing) == word


RATES = st.floats(0.01, 0.99)


@given(RATES, RATES)
def test_the_priors_loss_is_least_where_both_rates_agree(train: float, val: float) -> None:
    """Gibbs' inequality; equal rates of a half have the loss log 2."""
    loss = answer.prior_loss({"base_rate_train": train, "base_rate_val": val})
    own = answer.prior_loss({"base_rate_train": val, "base_rate_val": val})
    assert loss is not None
    assert own is not None
    assert own <= loss + 1e-12
    half = answer.prior_loss({"base_rate_train": 0.5, "base_rate_val": val})
    assert half == pytest.approx(math.log(2.0))


@pytest.mark.parametrize("record", [{}, {"base_rate_train": 0.5}, {"base_rate_train": 1.0, "base_rate_val": 0.5}])
def test_a_record_without_rates_has_no_prior(record: dict[str, float]) -> None:
    assert answer.prior_loss(record) is None
