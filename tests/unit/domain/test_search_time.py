"""Test how an experiment's hours are divided between its search and its answer."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.finalists import planned_trials, search_trials
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.search_time import (
    TRIAL_OVERHEAD_S,
    Pace,
    answer,
    longest_run,
    pace,
    search_time,
    trials_that_fit,
    why_no_trial,
    why_not_finish,
)
from supervisor.domain.spec_changes import with_hours, with_ranks, with_search_ended

FINALIZE = {"top": 4, "seeds": 3, "folds": 3}


def spec_of(**changes: Any) -> dict[str, Any]:
    return {
        "mode": "min", "max_trials": 50, "max_epochs": 10, "max_hours": 10.0, "concurrency": 2, "finalize": FINALIZE,
        **changes,
    }  # fmt: skip


def ended(number: int, value: float | None, seconds: float, epochs: int = 10, reason: str = "finished") -> dict:
    return {
        "number": number, "value": value, "end_reason": reason, "params": {"x": number}, "epochs": epochs,
        "seconds": seconds,
    }  # fmt: skip


def test_the_guess_counts_until_a_trial_has_ended() -> None:
    assert pace(spec_of(), [], 30.0) == Pace(30.0, 30.0)
    assert pace(spec_of(), [], None) == Pace(None, None)
    known = pace(spec_of(), [ended(0, 0.5, 100.0), ended(1, 0.4, 20.0, epochs=2, reason="pruned")], 30.0)
    assert known == Pace(60.0 + TRIAL_OVERHEAD_S, 100.0 + TRIAL_OVERHEAD_S), "all epochs of the slower of the best"


def test_two_trials_that_ended_by_themselves_say_how_long_one_is_trained_again() -> None:
    spec = spec_of(max_epochs=50)
    early = [ended(number, 0.5, 100.0, epochs=10, reason="early_stopped") for number in (0, 1)]
    assert pace(spec, early[:1], None).whole_s == 50 * 10.0 + TRIAL_OVERHEAD_S
    assert pace(spec, early, None).whole_s == 15 * 10.0 + TRIAL_OVERHEAD_S, "half as long again"
    long = ended(2, 0.6, 400.0, epochs=40, reason="finished")
    assert pace(spec, [*early, long], None).whole_s == 50 * 10.0 + TRIAL_OVERHEAD_S, "not more than all"


def test_places_that_would_be_free_beside_the_last_finalist_are_filled() -> None:
    spec = spec_of(concurrency=4, finalize={"top": 5, "seeds": 3, "folds": 1})
    assert answer(spec, 0.0, 1000.0)[:2] == (4, 1), "one round, and nothing fits"
    assert answer(spec, 2 * 1000.0 + 3 * 100.0, 1000.0)[:2] == (2, 3), "eight places in two rounds"


def test_only_configurations_that_may_be_trained_again_decide_the_time_of_the_answer() -> None:
    spec = spec_of(finalize={"top": 1, "seeds": 1, "folds": 1})
    slow_and_bad, best, failed = ended(0, 0.9, 5000.0), ended(1, 0.1, 100.0), ended(2, None, 9e5, reason="error")
    assert pace(spec, [slow_and_bad, best, failed], None).whole_s == 100.0 + TRIAL_OVERHEAD_S


def test_no_trial_begins_that_would_reach_into_the_reserve_and_running_ones_end_with_it() -> None:
    spec = spec_of(finalize={"top": 1, "seeds": 1, "folds": 1}, max_hours=1.0)
    known = Pace(searched_s=100.0, whole_s=1000.0)
    _, _, reserve_s = answer(spec, 1800.0, 1000.0)
    assert reserve_s == 1000.0 + 100.0, "one trial, and a test that takes an epoch at most"
    found = [search_time(spec, known, reserve_s + more) for more in (101.0, 99.0, 0.0)]
    assert [time.fits_another for time in found] == [True, False, False]
    assert [time.is_over for time in found] == [False, False, True]


def test_a_search_that_ends_early_leaves_its_whole_finalisation() -> None:
    spec = spec_of(max_hours=1.0)
    known = Pace(searched_s=10.0, whole_s=250.0)
    early, late = search_time(spec, known, 3600.0), search_time(spec, known, 1900.0)
    assert (early.top, early.seeds) == (4, 3)
    assert (late.top, late.seeds) != (4, 3)
    assert early.reserve_s == late.reserve_s <= 1800.0


@given(
    top=st.integers(1, 20), seeds=st.integers(1, 9), folds=st.integers(1, 6), at_once=st.integers(1, 8),
    hours=st.floats(0.01, 200.0), whole_s=st.floats(0.1, 1e6), searched_s=st.floats(0.1, 1e6), share=st.floats(0, 1),
)  # fmt: skip
def test_the_answer_takes_at_most_half_of_the_hours_unless_it_is_as_small_as_can_be(
    top: int, seeds: int, folds: int, at_once: int, hours: float, whole_s: float, searched_s: float, share: float
) -> None:
    finalize = {"top": top, "seeds": seeds, "folds": folds}
    spec = spec_of(max_trials=1000, max_hours=hours, concurrency=at_once, finalize=finalize)
    time = search_time(spec, Pace(searched_s, whole_s), share * hours * 3600.0)
    assert time.top is not None
    assert time.seeds is not None
    assert 1 <= time.top <= top
    assert 1 <= time.seeds <= seeds
    fitting = answer(spec, hours * 1800.0, whole_s)
    assert time.reserve_s <= hours * 1800.0 or (fitting[1] == 1 and fitting[0] <= at_once)
    assert not (time.fits_another and time.is_over)
    if time.fits_another:
        assert time.left_s - searched_s >= time.reserve_s
    search, follow = trials_that_fit(spec, hours * 3600.0, whole_s, searched_s)
    assert 0 <= search <= search_trials(spec)
    assert follow == 0 or search > 0


@given(st.lists(st.booleans(), max_size=12))
def test_the_longest_row_that_fits_is_kept(fits: list[bool]) -> None:
    found = longest_run(fits)
    rows = [(low, high) for low in range(len(fits)) for high in range(low, len(fits)) if all(fits[low : high + 1])]
    if found is None:
        assert rows == []
    else:
        assert found in rows
        assert all(high - low <= found[1] - found[0] for low, high in rows)


def test_an_ended_search_has_its_own_number_of_trials() -> None:
    spec = with_search_ended(spec_of(), "hours", 7, 2, 1)
    assert search_trials(spec) == 7
    assert planned_trials(spec) == 7 + 2 * 1 + 1 * 2
    assert with_search_ended(spec_of(finalize=None), "finish", 7, None, None)["finalize"] is None
    assert with_search_ended(spec_of(), "finish", 7, None, None)["finalize"] == FINALIZE
    assert with_hours(spec_of(), 2.5)["max_hours"] == 12.5


def test_enqueued_points_move_into_the_ranks_that_are_left() -> None:
    space = {"shape_rank": {"type": "int", "low": 0, "high": 9}, "x": {"type": "float", "low": 0.0, "high": 1.0}}
    enqueue = [{"shape_rank": 0, "x": 0.5}, {"shape_rank": 3, "x": 0.5}, {"x": 0.1}]
    spec = with_ranks(spec_of(space=space, enqueue=enqueue), 3, 7)
    assert spec["space"]["shape_rank"] == {"type": "int", "low": 3, "high": 7}
    assert spec["enqueue"] == [{"shape_rank": 3, "x": 0.5}, {"x": 0.1}]


def row(state: str, value: float | None = None, source: str = "sampled") -> dict[str, Any]:
    return {"state": state, "value": value, "source": source}


@pytest.mark.parametrize(
    ("state", "changes", "trials", "why"),
    [
        ("RUNNING", {}, [row("TERMINATED", 0.5)], None),
        ("RUNNING", {}, [row("RUNNING")], None),
        ("PAUSED", {}, [row("PAUSED")], None),
        ("EXITED", {}, [row("TERMINATED", 0.5)], "has ended"),
        ("RUNNING", {}, [], "no trial of it has a value yet"),
        ("RUNNING", {}, [row("ERROR")], "no trial of it has a value yet"),
        ("RUNNING", {"finish_asked": True}, [row("RUNNING")], "finishes already"),
        ("RUNNING", {"searched": 1}, [row("TERMINATED", 0.5), row("RUNNING", source="finalize")], "ended already"),
        ("RUNNING", {"searched": 2}, [row("TERMINATED", 0.5), row("RUNNING")], None),
        ("RUNNING", {"max_trials": 19}, [row("TERMINATED", 0.5)], "ended already"),
    ],
)
def test_a_finish_is_refused_where_it_cannot_hold(
    state: str, changes: dict[str, Any], trials: list[dict[str, Any]], why: str | None
) -> None:
    found = why_not_finish(ProcessState(state), spec_of(**changes), trials)
    assert found is None if why is None else why in (found or "")


def test_an_experiment_that_ended_before_its_first_trial_says_why_and_what_to_do() -> None:
    over = why_no_trial("a", spec_of(max_hours=2.5), out_of_time=True)
    assert over.startswith("its max_hours (2.5) ended before a trial began: they are too short, or something held")
    assert "`supervisorctl extend a --trials 1 --hours 2.5`" in over
    assert "--hours 1`" in why_no_trial("a", spec_of(max_hours=0.01), out_of_time=True)
    assert "asked to finish before" in why_no_trial("a", spec_of(finish_asked=True), out_of_time=False)
    assert "`supervisorctl retry a`" in why_no_trial("a", spec_of(max_hours=None), out_of_time=False)
