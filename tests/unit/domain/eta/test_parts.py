"""Test the parts of a forecast: times of trials together, sums of uncertain times, paces, work."""

from __future__ import annotations

import heapq
import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.eta.log_normal import Moments, uncertain
from supervisor.domain.eta.paces import PRIORS, WITHOUT_RATE, Shown, Weights, paces
from supervisor.domain.eta.trial_times import left_of, searched, share_left, together
from supervisor.domain.eta.trial_work import NO_FIGURES, cost_of, epoch_work, expected_work, measured, searched_epochs
from tests.unit.domain.eta.eta_view import FIGURES, NOW, cost

TIMED = PRIORS["timed here"]


def one_after_another(running: list[float], waiting: int, each_s: float, at_once: int) -> float:
    slots = [*running, *[0.0] * (at_once - len(running))]
    heapq.heapify(slots)
    for _ in range(waiting):
        heapq.heappush(slots, heapq.heappop(slots) + each_s)
    return max(slots)


@given(st.lists(st.floats(0.0, 10.0), max_size=4), st.integers(0, 50), st.integers(4, 6))
def test_trials_take_the_slot_that_is_free_first(running: list[float], waiting: int, at_once: int) -> None:
    each_s = 10.0
    found = together(running, waiting, each_s, at_once)
    assert found == pytest.approx(one_after_another(running, waiting, each_s, at_once))


@given(st.lists(st.floats(0.0, 10.0), max_size=6), st.integers(0, 20), st.integers(1, 4))
def test_a_search_takes_at_least_its_work_divided_evenly(running: list[float], waiting: int, at_once: int) -> None:
    evenly_s = (sum(running) + waiting * 5.0) / at_once
    assert searched(running, waiting, 5.0, at_once, 1, 10.0) == pytest.approx(evenly_s)
    assert searched(running, waiting, 5.0, at_once, at_once, 10.0) >= evenly_s - 1e-9


@given(st.floats(0.0, 1e4), st.floats(0.0, 1e5))
def test_work_that_takes_longer_than_expected_is_never_about_to_end(expected_s: float, since_s: float) -> None:
    assert left_of(expected_s, since_s) >= 0.1 * since_s
    assert left_of(expected_s, 0.0) == expected_s


@given(st.floats(0.05, 1.0))
def test_a_trial_at_its_beginning_has_the_mean_share_before_it(share: float) -> None:
    assert share_left(share, 0.0) == pytest.approx(share, abs=2e-3)
    assert share_left(share, 1.0) == 0.0
    steps = [share_left(share, done / 10) for done in range(11)]
    assert steps == sorted(steps, reverse=True)


@given(st.floats(0.1, 1e6), st.floats(0.0001, 1.0), st.floats(0.01, 100.0))
def test_a_bounded_time_is_shorter_than_both(median_s: float, log_variance: float, ratio: float) -> None:
    whole, bound_s = uncertain(median_s, log_variance), ratio * median_s
    middle, low, high = whole.quantiles()
    assert middle == pytest.approx(median_s)
    assert math.log(high / middle) == pytest.approx(math.log(middle / low))
    bounded = whole.bounded(bound_s)
    assert bounded.mean <= min(whole.mean, bound_s) * (1.0 + 1e-9)
    assert bounded.variance <= whole.variance * (1.0 + 1e-6)
    assert max(bounded.quantiles(bound_s)) <= bound_s
    assert whole.bounded(1e9 * median_s).mean == pytest.approx(whole.mean)


def test_a_time_without_doubt_is_its_mean() -> None:
    assert Moments(5.0, 0.0).quantiles() == (5.0, 5.0, 5.0)
    assert Moments(5.0, 0.0).bounded(3.0) == Moments(3.0, 0.0)
    assert Moments(0.0, 0.0).bounded(3.0) == Moments(0.0, 0.0)


def test_many_trials_decide_the_pace_of_their_experiment() -> None:
    found = paces([Shown(0.0, TIMED, log_pace=1.0, trials=100.0, squares=9.0), Shown(0.0, TIMED)])
    assert found is not None
    assert found.means[0] == pytest.approx(1.0, abs=0.05)
    assert 0.3 < found.means[1] < 1.0, "the one that waits goes by it, with some doubt"
    assert found.variance(1) > 4 * found.variance(0)


def test_the_doubt_grows_with_the_distance_in_size() -> None:
    known = [Shown(float(n), WITHOUT_RATE, log_pace=0.0, trials=20.0) for n in range(3)]
    found = paces([*known, Shown(3.0, WITHOUT_RATE), Shown(9.0, WITHOUT_RATE)])
    assert found is not None
    assert found.variance(4) > found.variance(3)
    assert found.shared(4, found.with_one(Weights(), 3, 1.0)) > 0.0


def test_a_pace_needs_figures_or_an_epoch() -> None:
    assert paces([]) is None
    assert paces([Shown(0.0, WITHOUT_RATE)]) is None
    assert paces([Shown(0.0, TIMED)]) is not None
    assert paces([Shown(0.0, WITHOUT_RATE), Shown(0.0, WITHOUT_RATE, log_pace=2.0, trials=1.0)]) is not None


@given(st.lists(st.tuples(st.floats(-10, 10), st.floats(-5, 5), st.integers(1, 50)), min_size=1, max_size=8))
def test_the_doubt_about_the_sum_of_paces_is_never_negative(known: list[tuple[float, float, int]]) -> None:
    shown = [Shown(x, TIMED, log_pace=y, trials=float(n), squares=0.1 * n, age=place)
             for place, (x, y, n) in enumerate(known)]  # fmt: skip
    found = paces([*shown, Shown(3.0, TIMED)])
    assert found is not None
    variance, before = 0.0, Weights()
    for place in range(len(found.means)):
        variance += math.expm1(found.variance(place)) + 2.0 * found.shared(place, before)
        before = found.with_one(before, place, 1.0)
    assert variance > 0.0


def test_the_work_of_a_trial_is_that_of_its_shape() -> None:
    figures = {**FIGURES, "by_rank": {"0": 4.0, "1": 8.0, "2": 30.0}}
    assert epoch_work(figures, {"shape_rank": 1}) == 8.0
    assert epoch_work(figures, {"lr": 0.1}) == 10.0
    assert epoch_work(NO_FIGURES, {"shape_rank": 1}) == 1.0
    narrowed = {"space": {"shape_rank": {"type": "int", "low": 0, "high": 1, "step": 1}}}
    mean, variance = expected_work(narrowed, figures)
    assert (mean, variance) == (6.0, pytest.approx((1 / 3) ** 2))
    assert expected_work({"space": {"lr": {"type": "float"}}}, figures) == (10.0, 0.0)


def test_what_trials_have_shown_is_kept_by_phase() -> None:
    spec = {"max_trials": 6, "max_epochs": 10, "finalize": {"top": 1, "seeds": 1, "folds": 2}}
    costs = [cost(0, 2), cost(1, 10, work=20.0), cost(4, 9), cost(5, 8), cost(2, 0)]
    found = measured(spec, FIGURES, costs, 1, (NOW - 1100.0, NOW))
    assert found["trials"] == [3, 1, 1]
    assert found["epochs"] == [12, 9, 8]
    assert found["timed"] == 4
    assert found["seconds"] == pytest.approx(found["done_work"])
    assert found["squares"] == pytest.approx(0.0, abs=1e-9)
    assert found["first_s"] == pytest.approx(90.0)
    assert found["end_s"] == pytest.approx(995.0)
    assert found["final_work"] == 10.0


def test_the_best_trials_work_counts_by_the_chance_that_it_stays_the_best() -> None:
    costs = [cost(0, work=40.0), *(cost(number) for number in range(1, 5))]
    early, late = (measured({"max_trials": trials}, FIGURES, costs, 0, (None, None)) for trials in (50, 5))
    assert early["work"] < early["final_work"] < 20.0
    assert late["final_work"] == pytest.approx(40.0), "after the search there is no other"


def test_a_start_is_timed_only_where_nothing_else_is_in_it() -> None:
    walls = {"added_wall": 5.0, "started_wall": 6.0, "ended_wall": 30.0}
    assert cost_of(FIGURES, {"number": 1, "attempt": 1, **walls}, {}, 2, 20.0).start_s == 5.0
    assert cost_of(FIGURES, {"number": 1, "attempt": 2, **walls}, {}, 2, 20.0).start_s is None


@pytest.mark.parametrize(
    ("pruner", "epochs"),
    [
        ({}, 16.0),
        ({"kind": "none"}, 16.0),
        ({"kind": "median", "grace_period": 4}, 10.0),
        ({"kind": "asha", "grace_period": 4, "reduction_factor": 4.0, "max_t": 16}, 7.0),
    ],
)
def test_a_pruner_leaves_a_share_of_the_epochs(pruner: dict[str, object], epochs: float) -> None:
    assert searched_epochs(pruner, 16) == epochs
