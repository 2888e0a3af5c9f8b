"""Test what the search takes of a plan that a person changes while its driver works."""

from __future__ import annotations

from typing import Any

from ray.tune.search import Searcher

from actors.trial.result_keys import OWN_KEY
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import TrialAdded
from tests.unit.driver.finalisation_stage import Bench, row


def change(bench: Bench, **changes: Any) -> None:
    bench.in_force.changed_spec = {**bench.spec, **changes}


def test_the_search_gives_as_many_trials_at_once_as_a_person_sets(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    assert bench.search.set_max_concurrency(2), "Ray's own bound could not change"
    assert [bench.search.suggest(trial_id) is None for trial_id in "abc"] == [False, False, True]
    change(bench, concurrency=3)
    assert [bench.search.suggest(trial_id) is None for trial_id in "de"] == [False, True]
    change(bench, concurrency=1)
    bench.end("a", 0.1)
    bench.end("b", 0.1)
    assert bench.search.suggest("f") is None
    bench.end("d", 0.1)
    assert bench.search.suggest("g") is not None


def test_added_trials_are_searched_before_the_finalisation(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3)
    change(bench, max_trials=7)
    for trial_id in ("s3", "s4"):
        bench.search.suggest(trial_id)
        bench.end(trial_id, 0.5)
    given = bench.search.suggest("f0")
    assert given is not None
    assert (given[OWN_KEY]["number"], given[OWN_KEY]["final"]) == (5, True)


def test_a_smaller_search_ends_where_it_is(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None)
    bench.searched(0.4, 0.2)
    change(bench, max_trials=2)
    assert bench.search.suggest("s2") == Searcher.FINISHED


def test_a_search_that_has_given_all_takes_more_until_its_last_trial_has_ended(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None, max_trials=2, concurrency=2)
    bench.search.set_max_concurrency(2)
    bench.searched(0.4)
    bench.search.suggest("s1")
    assert bench.search.suggest("s2") is None
    change(bench, max_trials=3)
    assert bench.search.suggest("s2") not in (None, Searcher.FINISHED)
    bench.end("s1", 0.5)
    bench.end("s2", 0.6)
    assert bench.search.suggest("s3") == Searcher.FINISHED


def test_a_search_has_given_all_also_while_no_trial_may_start(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None, max_trials=1)
    bench.searched(0.4)
    bench.in_force.set_operator([Command(Action.HOLD, Origin.OPERATOR, "a call", "all", 0.0)])
    assert bench.search.suggest("s1") == Searcher.FINISHED


def test_a_driver_whose_finalisation_has_begun_makes_room_for_one_that_begins_with_the_change(tmp_path: Any) -> None:
    """The daemon had not heard of it when it let the change pass."""
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3, 0.5)
    bench.search.suggest("f0")
    change(bench, max_trials=9)
    assert bench.search.suggest("f1") == Searcher.FINISHED
    assert bench.in_force.finish_reason is not None


def test_a_change_of_something_else_leaves_the_search_as_it_is(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3, 0.5)
    bench.search.suggest("f0")
    change(bench, max_hours=3.0)
    assert bench.search.suggest("f1") is not None
    assert bench.in_force.finish_reason is None


def given(bench: Bench) -> list[tuple[int, float, str]]:
    return [(m.number, m.params["x"], m.source) for m in bench.sent if isinstance(m, TrialAdded)]


def test_points_that_a_person_asks_for_are_tried_next_and_in_order(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4)
    change(bench, asked=[{"x": 0.5}])
    bench.search.suggest("s1")
    change(bench, asked=[{"x": 0.5}, {"x": -0.5}])
    bench.search.suggest("s2")
    bench.search.suggest("s3")
    (first, *asked, last) = given(bench)
    assert asked == [(1, 0.5, "enqueued"), (2, -0.5, "enqueued")]
    assert (first[2], last[2]) == ("sampled", "sampled")


def test_points_come_after_the_plans_own_and_a_new_driver_tries_those_that_are_left(tmp_path: Any) -> None:
    rows = [{**row(0, 0.4, x=0.1), "source": "enqueued"}, {**row(1, 0.3, x=0.5), "source": "enqueued"}]
    bench = Bench(tmp_path, tuple(rows), enqueue=[{"x": 0.1}], asked=[{"x": 0.5}, {"x": -0.5}])
    bench.search.suggest("a")
    bench.search.suggest("b")
    assert given(bench)[0] == (2, -0.5, "enqueued")
    assert given(bench)[1][2] == "sampled"
    (tmp_path / "fresh").mkdir()
    fresh = Bench(tmp_path / "fresh", enqueue=[{"x": 0.1}], asked=[{"x": 0.5}])
    fresh.search.suggest("a")
    fresh.search.suggest("b")
    assert given(fresh) == [(0, 0.1, "enqueued"), (1, 0.5, "enqueued")]
