"""Test what pauses and lost attempts are expected to take."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.eta.stalls import MOST, Stalls, stalls


def lost(seconds: float) -> list[dict[str, float]]:
    return [{"seconds": seconds}]


@given(st.floats(0.0, 1e6), st.integers(0, 100), st.floats(0.0, 1e6), st.floats(0.0, 1e6))
def test_they_take_no_time_back_and_a_bounded_share(lost_s: float, times: int, done_s: float, left_s: float) -> None:
    found = stalls(lost(lost_s), times, done_s, left_s)
    assert 0.0 <= found.mean <= MOST
    assert 0.0 <= found.high <= 3.0 * MOST


@given(st.floats(0.0, 1.0), st.floats(0.0, 3.0), st.floats(1.0, 1e6), st.floats(1.0, 5.0))
def test_an_interval_with_them_holds_its_median_and_is_not_narrower(
    mean: float, high: float, median_s: float, step: float
) -> None:
    found = Stalls(mean, high)
    middle, low, late = found.stretched(median_s, median_s / step, median_s * step)
    assert low <= middle <= late * (1.0 + 1e-9)
    assert middle >= median_s
    assert low == pytest.approx(median_s / step), "pauses make nothing end earlier"
    assert math.log(late / middle) >= math.log(step) - 1e-9


def test_many_say_more_of_the_future_than_one() -> None:
    one, many = (stalls(lost(500.0), times, 1000.0, 1000.0) for times in (1, 20))
    none = stalls([], 0, 1000.0, 1000.0)
    assert none.mean < one.mean < many.mean
    assert many.high / many.mean < one.high / one.mean, "the sum of many is the less doubtful"


def test_hours_end_later_by_what_is_usual_until_a_pause_is_seen() -> None:
    none, some = stalls([], 0, 1000.0, 1000.0), stalls(lost(200.0), 2, 1000.0, 1000.0)
    assert none.latest(100.0) == pytest.approx(100.0 * (1.0 + none.mean))
    assert some.latest(100.0) == pytest.approx(100.0 * (1.0 + some.high))
