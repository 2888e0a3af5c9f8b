"""Test when a run and its experiments are expected to end."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.eta.forecast import with_eta
from supervisor.domain.eta.trial_work import NO_FIGURES
from tests.unit.domain.eta.eta_view import FIGURES, NOW, cost, experiment, running, view

WHOLE_S = 10 * 10 * 10.0
"""Ten trials of ten epochs of ten seconds."""


def eta(*experiments: dict[str, Any], now_wall: float | None = NOW, **lost: Any) -> dict[str, float]:
    found: dict[str, float] | None = with_eta(view(*experiments, **lost), now_wall)["eta"]
    assert found is not None
    return found


def test_before_the_first_trial_it_is_the_dry_runs_figure() -> None:
    found = eta(experiment(state="STOPPED"))
    assert found["median_s"] == pytest.approx(WHOLE_S, rel=0.15)
    assert found["low_s"] < found["median_s"] < found["high_s"]
    ratio = found["high_s"] / found["median_s"]
    assert ratio > 1.4, "steps that were timed are good to a factor of 1.5"


def test_without_any_figure_it_waits_for_the_first_epoch() -> None:
    waiting = experiment(figures=NO_FIGURES, at_work=[running(0, 0, work=1.0)])
    assert with_eta(view(waiting), NOW)["eta"] is None
    after = experiment(figures=NO_FIGURES, at_work=[running(0, 1, work=1.0)])
    assert eta(after)["median_s"] == pytest.approx(WHOLE_S, rel=0.4), "a trainable of one's own goes by its steps"


def test_an_experiment_that_has_not_begun_costs_by_its_own_work() -> None:
    """2B is not costed like 2M."""
    small = experiment("2M", "EXITED", [cost(n) for n in range(10)], ended_wall=NOW)
    figures = {**FIGURES, "epoch_s": 10_000.0}
    found = with_eta(view(small, experiment("2B", "STOPPED", figures=figures)), NOW)
    assert found["experiments"][0]["eta"] is None
    assert found["eta"]["median_s"] == pytest.approx(1000 * WHOLE_S, rel=0.4)


@pytest.mark.parametrize("pace", [0.5, 1.0, 3.0])
def test_the_pace_of_the_trials_counts_more_than_the_figures(pace: float) -> None:
    ended = experiment(costs=[cost(n, pace=pace) for n in range(5)])
    assert eta(ended)["median_s"] == pytest.approx(pace * WHOLE_S / 2, rel=0.2)


def test_the_epochs_that_pruning_left_count() -> None:
    pruner = {"kind": "median", "grace_period": 2}
    some = experiment(costs=[cost(n, epochs=3) for n in range(8)], max_trials=28, pruner=pruner)
    all_epochs = experiment(costs=[cost(n) for n in range(8)], max_trials=28, pruner=pruner)
    assert eta(some)["median_s"] < 0.5 * eta(all_epochs)["median_s"]


def test_finalisation_walk_forward_and_test_come_after_the_search() -> None:
    costs = [cost(n) for n in range(10)]
    finalize = {"top": 2, "seeds": 2, "folds": 3}
    found = experiment(costs=costs, max_trials=18, finalize=finalize, trainable="patchtst")
    assert eta(found)["median_s"] == pytest.approx(8 * 100.0 + 30.0, rel=0.2)


def test_trials_at_once_share_the_time() -> None:
    one, four = (experiment(costs=[cost(n) for n in range(4)], max_trials=44, concurrency=n) for n in (1, 4))
    assert eta(four)["median_s"] == pytest.approx(eta(one)["median_s"] / 4, rel=0.2)
    room_for_one = experiment(costs=[cost(n) for n in range(4)], max_trials=44, concurrency=4,
                              figures={**FIGURES, "at_once": 1})  # fmt: skip
    assert eta(room_for_one)["median_s"] == pytest.approx(eta(one)["median_s"], rel=0.01)


def test_a_first_epoch_that_takes_too_long_makes_it_longer_at_once() -> None:
    found = experiment(at_work=[running(0, 0, since_wall=NOW - 10_000.0)])
    assert eta(found)["median_s"] > 20 * WHOLE_S


def test_a_running_trial_counts_by_its_own_pace() -> None:
    slow = experiment(costs=[cost(n) for n in range(9)], at_work=[running(9, 2, spent_s=2000.0)])
    assert eta(slow)["median_s"] == pytest.approx(8000.0, rel=0.2)


def test_finish_leaves_the_epochs_that_are_running() -> None:
    found = experiment(costs=[cost(0)], at_work=[running(1, 3)], finish_asked=True)
    assert eta(found)["median_s"] < 30.0


def test_a_trial_that_a_person_extended_runs_to_its_own_end() -> None:
    plain = experiment(costs=[cost(n) for n in range(9)], at_work=[running(9, 3)])
    longer = {"last_step": 100, "more": 90, "failed": False}
    extended = experiment(costs=[cost(n) for n in range(9)], at_work=[running(9, 3)], extended={"9": longer})
    assert eta(extended)["median_s"] > 5.0 * eta(plain)["median_s"]


def test_time_that_is_lost_again_and_again_makes_the_rest_longer_and_one_long_pause_does_not() -> None:
    found = experiment(costs=[cost(n) for n in range(5)])
    without = eta(found)["median_s"]
    assert eta(found, lost_s=300.0, times=20)["median_s"] > 1.2 * without
    assert eta(found, lost_s=30_000.0, times=1)["median_s"] < 1.2 * without


def test_it_is_never_zero_while_a_test_takes_longer_than_expected() -> None:
    testing = experiment(costs=[cost(n) for n in range(10)], finalize={"top": 1, "seeds": 2}, max_trials=12,
                         trainable="patchtst")  # fmt: skip
    testing = {**testing, "measured": {**testing["measured"], "trials": [10, 2, 0]}}
    seen = [eta(testing, now_wall=NOW + seconds)["low_s"] for seconds in range(0, 7200, 60)]
    assert min(seen) > 1.0


def test_it_is_never_zero_while_a_test_goes_on_after_the_hours() -> None:
    testing = experiment(costs=[cost(n) for n in range(10)], finalize={"top": 1, "seeds": 2}, max_trials=12,
                         trainable="patchtst", max_hours=1.0, left_s=0.0)  # fmt: skip
    testing = {**testing, "measured": {**testing["measured"], "trials": [10, 2, 0]}}
    found = [with_eta(view(testing), NOW + seconds)["experiments"][0]["eta"] for seconds in range(0, 3600, 60)]
    assert min(eta["median_s"] for eta in found) > 1.0


def test_the_report_of_a_run_is_waited_for_too() -> None:
    over = {**view(experiment(state="EXITED", ended_wall=NOW)), "run": {"state": "RUNNING"}}
    seen = [with_eta(over, NOW + seconds)["eta"]["median_s"] for seconds in (0.0, 3.0, 60.0)]
    assert seen[0] > seen[1] > 0.5
    assert seen[2] > seen[1], "one that takes too long goes on for a while"
    assert with_eta({**over, "run": {"state": "EXITED"}}, NOW)["eta"] is None


@given(
    st.lists(st.tuples(st.integers(0, 9), st.floats(0.0, 30.0)), min_size=1, max_size=3),
    st.lists(st.floats(0.2, 5.0), max_size=5),
    st.integers(1, 5),
)
def test_it_moves_with_each_second_that_trials_run(
    trials: list[tuple[int, float]], paces: list[float], seconds: int
) -> None:
    at_work = [running(20 + n, epoch, since_wall=NOW - since) for n, (epoch, since) in enumerate(trials)]
    costs = [cost(n, pace=pace) for n, pace in enumerate(paces)]
    found = experiment(costs=costs, at_work=at_work, max_trials=30, concurrency=len(trials))
    assert eta(found)["median_s"] != eta(found, now_wall=NOW + seconds)["median_s"]


@pytest.mark.parametrize("state", ["STARTING", "RUNNING"])
def test_it_moves_while_the_first_trial_is_waited_for(state: str) -> None:
    waiting = {**experiment(state=state), "started_wall": NOW - 5.0}
    assert eta(waiting)["median_s"] != eta(waiting, now_wall=NOW + 1.0)["median_s"]


def test_it_stands_still_while_all_trials_are_paused() -> None:
    paused = experiment(costs=[cost(0)], at_work=[running(1, 3, state="PAUSED", held_for="heat")], state="PAUSED")
    assert eta(paused) == eta(paused, now_wall=NOW + 500.0)


def test_a_run_that_has_ended_has_none() -> None:
    over = [experiment(state=state, ended_wall=NOW) for state in ("EXITED", "SKIPPED", "FATAL")]
    found = with_eta(view(*over), NOW)
    assert found["eta"] is None
    assert [one["eta"] for one in found["experiments"]] == [None, None, None]


def test_without_a_daemon_it_is_the_work_that_is_left() -> None:
    stopped = experiment(state="STOPPED", costs=[cost(n) for n in range(5)])
    assert eta(stopped, now_wall=None)["median_s"] == pytest.approx(WHOLE_S / 2, rel=0.2)


PACES = st.lists(st.tuples(st.integers(0, 10), st.floats(0.01, 100.0)), max_size=8)
STORIES = st.lists(
    st.tuples(PACES, st.floats(0.001, 1e5), st.one_of(st.none(), st.floats(0.001, 1000.0))), min_size=1, max_size=5
)


@given(STORIES, st.sampled_from(["timed here", "rule of thumb", "operations only"]))
def test_the_interval_holds_the_median_and_no_end_is_later_than_the_hours_and_the_pauses(
    stories: list[tuple[list[tuple[int, float]], float, float | None]], basis: str
) -> None:
    experiments = [
        experiment(
            str(place), costs=[cost(n, *trial, work=work) for n, trial in enumerate(trials)],
            figures={**FIGURES, "basis": basis, "epoch_s": work}, max_hours=hours,
            pruner={"kind": "asha", "grace_period": 1, "reduction_factor": 4.0, "max_t": 10},
        )
        for place, (trials, work, hours) in enumerate(stories)
    ]  # fmt: skip
    found = with_eta(view(*experiments), NOW)
    bound_s = 0.0
    for one, (_, _, hours) in zip(found["experiments"], stories, strict=True):
        # Hours count neither a driver's start nor pauses, of which a twelfth is expected before one is seen.
        bound_s += float("inf") if hours is None else 1.1 * hours * 3600.0 + 100.0
        if one["eta"] is not None:
            assert 0.0 < one["eta"]["low_s"] <= one["eta"]["median_s"] <= one["eta"]["high_s"] <= bound_s


def test_hours_that_an_experiment_leaves_go_to_the_next() -> None:
    hours = 1.0
    quick = experiment("quick", costs=[cost(n) for n in range(9)], max_hours=hours)
    figures = {**FIGURES, "epoch_s": 1000.0}
    long = experiment("long", "STOPPED", figures=figures, max_hours=hours, max_trials=100)
    found = eta(quick, long)
    assert 1.2 * hours * 3600.0 < found["median_s"] < 2.0 * hours * 3600.0 + 100.0


@pytest.mark.parametrize("seconds", [5e-324, 1e-300, 1e308, 0.0])
def test_a_time_that_no_epoch_takes_leaves_the_eta_as_it_is(seconds: float) -> None:
    """A trainable of one's own may report any number as its time."""
    known = [cost(number) for number in range(4)]
    odd = replace(cost(4), seconds=seconds)
    found = with_eta(view(experiment(costs=[*known, odd], at_work=[running(5, 2, spent_s=seconds)])), NOW)["eta"]
    assert found is None or all(math.isfinite(value) and value >= 0.0 for value in found.values())
    alone = with_eta(view(experiment(costs=[odd], at_work=[running(5, 2, spent_s=seconds)])), NOW)
    assert alone["experiments"][0]["name"] == "a"


def test_a_concurrency_that_the_machine_will_choose_is_forecast_by_its_room() -> None:
    figures = {**FIGURES, "at_once": 4}
    auto = eta(experiment(state="STOPPED", figures=figures, auto_concurrency=True))
    fixed = eta(experiment(state="STOPPED", figures=figures))
    assert auto["median_s"] < 0.5 * fixed["median_s"]


@given(hours=st.floats(1e-4, 100.0), pace=st.floats(1e-3, 1e3), ended=st.integers(0, 9))
def test_no_end_lies_in_the_past(hours: float, pace: float, ended: int) -> None:
    costs = [cost(number, pace=pace * (10.0 if number % 2 else 0.1)) for number in range(ended)]
    found = eta(experiment(costs=costs, max_hours=hours, left_s=hours * 3600.0))
    assert 0.0 <= found["low_s"] <= found["median_s"] <= found["high_s"]
