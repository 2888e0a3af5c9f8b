"""The walk over numbers of trials at once: it stays in bounds, moves by one, and ends where throughput is."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.concurrency_walk import WORTH_IT, ConcurrencyWalk

RATES = st.floats(0.0, 1e15, allow_nan=False)


@given(most=st.integers(1, 40), start=st.integers(1, 40), rates=st.lists(RATES, max_size=60))
def test_it_stays_in_bounds_and_moves_by_one(most: int, start: int, rates: list[float]) -> None:
    walk = ConcurrencyWalk(min(start, most), most)
    for rate in rates:
        before, walk = walk.at, walk.after(rate)
        assert 1 <= walk.at <= most
        assert abs(walk.at - before) <= 1


@given(peak=st.integers(1, 20), most=st.integers(1, 20), start=st.integers(1, 20), data=st.data())
def test_it_ends_where_one_more_or_one_less_gives_nothing(
    peak: int, most: int, start: int, data: st.DataObject
) -> None:
    """Throughput that rises to a peak and falls after it, by steps that are worth a move."""
    slope = data.draw(st.floats(1.06, 3.0))
    walk = ConcurrencyWalk(min(start, most), most)
    for _ in range(2 * most + 4):
        walk = walk.after(1000.0 * slope ** -abs(walk.at - peak))
    assert walk.at == walk.after(1000.0 * slope ** -abs(walk.at - peak)).at == min(peak, most)


def test_of_equal_rates_fewer_trials_are_taken() -> None:
    walk = ConcurrencyWalk(3, 3)
    for _ in range(8):
        walk = walk.after(100.0)
    assert walk.at == 1


def test_a_gain_that_is_not_worth_it_is_given_back() -> None:
    walk = ConcurrencyWalk(2, 4).after(100.0)
    assert walk.at == 3
    walk = walk.after(100.0 * WORTH_IT - 1.0)
    assert walk.at == 2


def test_a_machine_that_has_changed_is_measured_anew() -> None:
    walk = ConcurrencyWalk(2, 2)
    for rate in (100.0, 50.0, 100.0):
        walk = walk.after(rate)
    assert walk.at == 2, "one at a time gave half"
    slower = walk.after(40.0)
    assert slower.at == 1, "what one at a time gave before says nothing now"


def test_the_reason_has_every_rate() -> None:
    assert ConcurrencyWalk(2, 2, {2: 4e9, 1: 3.5e9}).reason() == (
        "3.5e+09 parameter-windows/s with 1, 4e+09 parameter-windows/s with 2"
    )


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_a_single_trial_stays(rate: float) -> None:
    assert ConcurrencyWalk(1, 1).after(rate).at == 1
