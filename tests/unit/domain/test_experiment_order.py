"""Test the order in which experiments begin."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.experiment_order import Waiting, in_order, why_not_next
from supervisor.domain.lifecycle import ProcessState

STOPPED, RUNNING, EXITED = ProcessState.STOPPED, ProcessState.RUNNING, ProcessState.EXITED


def waiting(name: str, state: ProcessState = STOPPED, *, begun: bool = False, put_next: int | None = None) -> Waiting:
    return Waiting(name, state, begun, put_next)


@pytest.mark.parametrize(
    ("experiments", "order"),
    [
        ([waiting("a"), waiting("b"), waiting("c")], "abc"),
        ([waiting("a", EXITED, begun=True), waiting("b"), waiting("c", put_next=9)], "cb"),
        ([waiting("a", RUNNING, begun=True), waiting("b"), waiting("c", put_next=9)], "acb"),
        ([waiting("a"), waiting("b", put_next=7), waiting("c", put_next=9)], "cba"),
        ([waiting("a"), waiting("b", begun=True), waiting("c", put_next=9)], "bca"),
        ([waiting("a"), waiting("b", begun=True, put_next=9)], "ab"),
    ],
)
def test_the_plans_order_holds_unless_a_person_puts_one_next(experiments: list[Waiting], order: str) -> None:
    """What has begun goes on first, also after a restart."""
    assert in_order(experiments) == list(order)


@given(
    facts=st.lists(
        st.tuples(st.sampled_from(ProcessState), st.booleans(), st.none() | st.integers(1, 99)), max_size=8
    )
)  # fmt: skip
def test_none_is_lost_and_none_comes_twice(facts: list[tuple[ProcessState, bool, int | None]]) -> None:
    experiments = [Waiting(str(place), *each) for place, each in enumerate(facts)]
    left = [each.name for each in experiments if each.state not in (EXITED, ProcessState.FATAL, ProcessState.SKIPPED)]
    assert sorted(in_order(experiments)) == sorted(left)


def test_what_has_begun_or_ended_is_not_put_next() -> None:
    assert why_not_next(waiting("a"), at_work=False) is None
    assert "begun" in (why_not_next(waiting("a"), at_work=True) or "")
    assert "begun" in (why_not_next(waiting("a", RUNNING, begun=True), at_work=False) or "")
    assert "it has ended (EXITED)" in (why_not_next(waiting("a", EXITED, begun=True), at_work=False) or "")
