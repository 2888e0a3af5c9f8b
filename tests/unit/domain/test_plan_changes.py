"""Test where a change of the plan cannot hold, and the words for its effect."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.finalists import search_trials, set_aside_trials
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.plan_changes import (
    effect,
    extended,
    waiting_points,
    why_not_change,
    why_not_enqueue,
    why_not_extend,
)
from supervisor.domain.spec_changes import with_more, with_search_ended, with_set_aside

SPEC = {"max_trials": 10, "finalize": None, "concurrency": 2, "max_hours": None}
FINALIZE = {"top": 1, "seeds": 2, "folds": 1}


def trials(*states: str, source: str = "sampled") -> list[dict[str, Any]]:
    return [{"state": state, "source": source} for state in states]


ONE = "1 more trial starts now where cores are free"
TWO = "2 more trials start now where cores are free"


@pytest.mark.parametrize(
    ("state", "spec", "changes", "found", "why"),
    [
        ("RUNNING", {}, {"concurrency": 4}, trials("RUNNING"), None),
        ("RUNNING", {}, {"max_trials": 60}, trials("RUNNING"), None),
        ("STOPPED", {}, {"max_trials": 1}, [], None),
        ("RUNNING", {}, {"max_hours": 3.0}, [], None),
        ("EXITED", {}, {"concurrency": 4}, [], "it has ended (EXITED)"),
        ("RUNNING", {}, {"max_hours": 1.9}, [], "1.9 h are too few"),
        ("RUNNING", {}, {"max_trials": 1}, trials("TERMINATED", "RUNNING"), "2 trials of its search have begun"),
        ("RUNNING", {"searched": 2}, {"max_trials": 60}, trials("TERMINATED"), "its search has ended"),
        ("RUNNING", {"finish_asked": True}, {"max_trials": 60}, trials("RUNNING"), "it finishes"),
        (
            "RUNNING", {"finalize": FINALIZE}, {"max_trials": 60},
            [*trials("TERMINATED"), *trials("RUNNING", source="finalize")], "its finalisation has begun",
        ),
    ],
)  # fmt: skip
def test_a_change_is_refused_where_it_cannot_hold(
    state: str, spec: dict[str, Any], changes: dict[str, Any], found: list[dict[str, Any]], why: str | None
) -> None:
    said = why_not_change(ProcessState(state), {**SPEC, **spec}, changes, found, spent_s=7200.0)
    assert said is None if why is None else why in (said or "")


@pytest.mark.parametrize(
    ("state", "changes", "found", "words"),
    [
        ("RUNNING", {"concurrency": 4}, trials(*["RUNNING"] * 2), f"4 at once instead of 2, {TWO}"),
        ("RUNNING", {"concurrency": 3}, trials("RUNNING", "PAUSED"), f"3 at once instead of 2, {ONE}"),
        ("RUNNING", {"concurrency": 4}, trials(*["TERMINATED"] * 9), f"4 at once instead of 2, {ONE}"),
        (
            "RUNNING", {"concurrency": 1}, trials("RUNNING", "RUNNING"),
            "1 at once instead of 2, no other starts before fewer than 1 run",
        ),
        ("RUNNING", {"concurrency": 4}, trials(*["TERMINATED"] * 10), "4 at once instead of 2, none starts now"),
        ("STOPPED", {"concurrency": 4}, [], "4 at once instead of 2"),
        ("RUNNING", {"max_trials": 60}, [], "60 trials instead of 10"),
        ("RUNNING", {"max_hours": 12.0}, [], "12 h instead of no limit"),
        ("RUNNING", {"max_failures": 5}, [], "max_failures 5 from its next driver on"),
        ("STOPPED", {"checkpoint_every_s": 60.0}, [], "checkpoint_every_s 60"),
    ],
)  # fmt: skip
def test_the_effect_is_said(state: str, changes: dict[str, Any], found: list[dict[str, Any]], words: str) -> None:
    assert effect(ProcessState(state), SPEC, changes, found) == words


def numbered(*sources: str) -> list[dict[str, Any]]:
    return [{"number": n, "state": "TERMINATED", "source": source} for n, source in enumerate(sources)]


@pytest.mark.parametrize(
    ("plans", "asked", "sources", "waiting"),
    [
        (0, 2, [], [0, 1]),
        (1, 2, ["enqueued"], [0, 1]),
        (1, 2, ["enqueued", "enqueued"], [1]),
        (1, 2, ["enqueued", "sampled", "enqueued", "enqueued"], []),
        (0, 1, ["sampled"] * 5, [0]),
        (3, 1, ["enqueued"], [0]),
    ],
)
def test_a_point_waits_until_a_trial_after_the_plans_own_has_tried_it(
    plans: int, asked: int, sources: list[str], waiting: list[int]
) -> None:
    points = [{"x": float(place)} for place in range(asked)]
    spec = {**SPEC, "enqueue": [{"x": 0.5}] * plans, "asked": points}
    assert waiting_points(spec, numbered(*sources)) == [points[place] for place in waiting]


@pytest.mark.parametrize(
    ("state", "spec", "sources", "why"),
    [
        ("RUNNING", {}, ["sampled"] * 9, None),
        ("STOPPED", {}, [], None),
        ("RUNNING", {}, ["sampled"] * 10, "no trial left"),
        ("RUNNING", {"asked": [{"x": 1.0}]}, ["sampled"] * 9, "no trial left"),
        ("RUNNING", {"enqueue": [{}] * 10}, [], "no trial left"),
        ("EXITED", {}, ["sampled"], "it has ended (EXITED); `supervisorctl extend e --trials 1`"),
        ("RUNNING", {"finish_asked": True}, ["sampled"], "its search has ended"),
        ("RUNNING", {"searched": 1}, ["sampled"], "its search has ended"),
    ],
)
def test_a_point_is_refused_where_no_trial_can_try_it(
    state: str, spec: dict[str, Any], sources: list[str], why: str | None
) -> None:
    said = why_not_enqueue(ProcessState(state), {**SPEC, **spec}, numbered(*sources), "e")
    assert said is None if why is None else why in (said or "")


@pytest.mark.parametrize(
    ("state", "spec", "sources", "hours", "left_s", "why"),
    [
        ("RUNNING", {}, ["sampled"], 0.0, None, None),
        ("EXITED", {}, ["sampled"] * 10, 0.0, None, None),
        ("FATAL", {"searched": 1, "max_hours": 1.0}, ["sampled"], 1.0, 0.0, None),
        ("EXITED", {}, ["sampled", "finalize"], 0.0, None, None),
        ("RUNNING", {"searched": 1, "finish_asked": True}, ["sampled", "finalize"], 0.0, None, None),
        ("RUNNING", {"searched": 1}, ["sampled", "set_aside"], 0.0, None, "its search ends now"),
        ("SKIPPED", {}, [], 0.0, None, "it was skipped"),
        ("RUNNING", {"finish_asked": True}, ["sampled"], 0.0, None, "its search ends now"),
        ("RUNNING", {}, ["sampled"], 1.0, None, "it has no limit of hours"),
        ("EXITED", {"max_hours": 1.0}, ["sampled"], 0.0, 0.0, "its max_hours are used up"),
    ],
)
def test_a_search_is_extended_unless_a_reason_forbids_it(
    state: str, spec: dict[str, Any], sources: list[str], hours: float, left_s: float | None, why: str | None
) -> None:
    said = why_not_extend(ProcessState(state), {**SPEC, **spec}, numbered(*sources), 1, hours, left_s)
    assert said is None if why is None else why in (said or "")


def test_a_search_is_not_extended_where_its_experiment_cannot_choose_anew() -> None:
    said = why_not_extend(ProcessState.EXITED, SPEC, numbered("sampled", "finalize"), 1, 0.0, None, "its test is open")
    assert said == "its test is open"


@given(
    begun=st.integers(1, 20), own=st.integers(1, 20), aside=st.integers(1, 6), more=st.integers(0, 9),
    points=st.integers(0, 20),
)  # fmt: skip
def test_a_search_whose_finalisation_was_set_aside_tries_what_it_had_left(
    begun: int, own: int, aside: int, more: int, points: int
) -> None:
    """Each configuration and each point as before: the numbers that the others took are added."""
    begun, finalize = min(begun, own), {"top": 3, "seeds": 2, "folds": 1}
    plan = [{"x": float(place)} for place in range(points)]
    spec = {**SPEC, "max_trials": own + 6, "finalize": finalize, "enqueue": plan, "asked": [{"x": 9.5}]}
    early = with_search_ended(spec, "hours", begun, 1, 1)
    rows = numbered(*["enqueued" if place < points else "sampled" for place in range(begun)])
    waiting = [*plan[begun:], *waiting_points(spec, rows)]
    after = with_set_aside(early, range(begun, begun + aside), finalize)
    assert search_trials(after) - aside == own
    assert set_aside_trials(after) == aside
    rows += numbered(*["sampled"] * begun, *["set_aside"] * aside)[begun:]
    assert [*after["enqueue"][len(rows) :], *waiting_points(after, rows)] == waiting
    total = extended({**after, "searched": begun}, rows, more)
    assert search_trials(with_more(after, total, 0.0)) == begun + aside + more


def test_a_search_has_a_largest_number_of_trials() -> None:
    said = why_not_extend(ProcessState.RUNNING, {**SPEC, "max_trials": 99_999}, [], 2, 0.0, None)
    assert said == "expected at most 100000 trials in all, found 100001"


@given(own=st.integers(4, 50), begun=st.integers(0, 50), more=st.integers(1, 30), early=st.booleans())
def test_an_extended_search_tries_so_many_more_than_it_had_or_would_have(
    own: int, begun: int, more: int, early: bool
) -> None:
    begun = min(begun, own)
    finalize = {"top": 1, "seeds": 2, "folds": 1}
    spec = {**SPEC, "max_trials": own + 2, "finalize": finalize, **({"searched": begun} if early else {})}
    total = extended(spec, numbered(*["sampled"] * begun), more)
    assert search_trials(with_more(spec, total, 0.0)) == (begun if early else own) + more
