"""Test the early end of a search in search and scheduler: by its hours, and by a person."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.scheduler import HardwareAwareScheduler, SchedulerLimits
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import END, OWN_KEY, STEP
from supervisor.domain.lifecycle import EndReason
from supervisor.domain.messages import SearchEnded, TrialAdded
from supervisor.domain.search_time import SearchTime
from tests.unit.driver.finalisation_stage import Bench, row

ENOUGH = SearchTime(left_s=100.0, trial_s=10.0, reserve_s=20.0, top=1, seeds=2)
TOO_LITTLE = SearchTime(left_s=29.0, trial_s=10.0, reserve_s=20.0, top=1, seeds=1)
OVER = SearchTime(left_s=20.0, trial_s=10.0, reserve_s=20.0, top=1, seeds=1)


def numbers(bench: Bench, source: str) -> list[int]:
    return [message.number for message in bench.sent if isinstance(message, TrialAdded) and message.source == source]


def ends(bench: Bench) -> list[SearchEnded]:
    return [message for message in bench.sent if isinstance(message, SearchEnded)]


def test_a_search_that_is_asked_to_finish_gives_way_to_its_finalisation(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2)
    bench.in_force.search_end.asked = True
    given = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [config[OWN_KEY]["number"] for config in given] == [2, 3], "they follow the trials that there are"
    assert [config["x"] for config in given] == [bench.sent[1].params["x"]] * 2
    assert ends(bench) == [SearchEnded("finish", 2, None, None)]
    assert bench.search.suggest("f2") == Searcher.FINISHED


def test_the_end_is_said_before_the_trials_that_follow(tmp_path: Any) -> None:
    """The daemon takes messages in order, and numbers must not collide after the driver's death."""
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2)
    bench.in_force.search_end.asked = True
    bench.search.suggest("f0")
    assert [type(message).__name__ for message in bench.sent] == [
        "TrialAdded",
        "TrialAdded",
        "SearchEnded",
        "TrialAdded",
    ]


def test_the_finalisation_waits_for_the_trials_that_still_run(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4)
    bench.search.suggest("s1")
    bench.in_force.search_end.asked = True
    assert bench.search.suggest("f0") is None
    bench.end("s1", 0.1)
    given = bench.search.suggest("f0")
    assert given is not None
    assert given["x"] == bench.sent[1].params["x"], "the best of both"


def test_without_finalisation_a_finish_ends_the_experiment(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None)
    bench.searched(0.4)
    bench.in_force.search_end.asked = True
    assert bench.search.suggest("s1") == Searcher.FINISHED
    assert ends(bench) == [SearchEnded("finish", 1, None, None)]


def test_no_trial_begins_that_does_not_fit_and_the_finalisation_is_cut_to_its_time(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.in_force.search_end.time = TOO_LITTLE
    bench.searched(0.4)
    assert numbers(bench, "sampled") == [0], "the first trial always begins: there must be something to choose from"
    given = bench.search.suggest("f0")
    assert given is not None
    assert given[OWN_KEY]["number"] == 1
    assert ends(bench) == [SearchEnded("hours", 1, 1, 1)]
    assert bench.search.suggest("f1") == Searcher.FINISHED


def test_a_search_goes_on_while_another_trial_fits(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.in_force.search_end.time = ENOUGH
    bench.searched(0.4, 0.2, 0.3, 0.5)
    assert bench.search.suggest("f0") is not None
    assert (numbers(bench, "sampled"), ends(bench)) == ([0, 1, 2, 3], [])


def test_after_the_last_trial_a_finalisation_that_is_too_long_is_cut(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.in_force.search_end.time = ENOUGH
    bench.searched(0.4, 0.2, 0.3, 0.5)
    bench.in_force.search_end.time = OVER
    assert bench.search.suggest("f0") is not None
    assert ends(bench) == [SearchEnded("all", 4, 1, 1)]
    assert bench.search.suggest("f1") == Searcher.FINISHED


def test_a_new_driver_adopts_what_the_search_left_unfinished_and_adds_nothing(tmp_path: Any) -> None:
    """Trial 1 comes back before the search ends: its number belongs to it."""
    bench = Bench(tmp_path, (row(0, 0.4), row(1, None, None), row(2, 0.3)))
    bench.in_force.search_end.asked = True
    given = bench.search.suggest("s1")
    assert given is not None
    assert (given[OWN_KEY]["number"], given[OWN_KEY]["final"]) == (1, False)
    assert ends(bench) == [SearchEnded("finish", 3, None, None)]
    assert bench.search.suggest("f0") is None
    bench.end("s1", 0.1)
    assert bench.search.suggest("f0")[OWN_KEY]["number"] == 3  # type: ignore[index]  # the finalisation follows


def test_a_driver_after_the_end_of_the_search_goes_on_with_its_number(tmp_path: Any) -> None:
    rows = (row(0, 0.4), row(1, 0.2))
    bench = Bench(tmp_path, rows, searched=2, search_end="hours", finish_asked=True)
    bench.in_force.search_end.asked = True
    assert bench.search.suggest("f0")[OWN_KEY]["number"] == 2  # type: ignore[index]  # the finalisation follows
    assert ends(bench) == []


class Known:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.mark.parametrize(
    ("time", "asked", "final", "result", "decision"),
    [
        (None, True, False, {"loss": 0.5}, TrialScheduler.STOP),
        (OVER, False, False, {"loss": 0.5}, TrialScheduler.STOP),
        (TOO_LITTLE, False, False, {"loss": 0.5}, TrialScheduler.CONTINUE),
        (None, False, False, {"loss": 0.5}, TrialScheduler.CONTINUE),
        (OVER, True, True, {"loss": 0.5}, TrialScheduler.CONTINUE),
        (OVER, True, False, {"loss": float("nan")}, TrialScheduler.CONTINUE),
    ],
)
def test_a_running_trial_of_a_search_that_ends_stops_with_its_next_value(
    time: SearchTime | None, asked: bool, final: bool, result: dict[str, float], decision: str
) -> None:
    registry, in_force = TrialRegistry("loss", "min", ()), CommandsInForce()
    in_force.search_end.time, in_force.search_end.asked = time, asked
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(FIFOScheduler(), registry, in_force, None, limits, print)  # type: ignore[arg-type,no-untyped-call]
    registry.open("t", 4, {}, final=final)
    told = {STEP: 1, **result}
    assert scheduler.on_trial_result(None, Known("t"), told) == decision  # type: ignore[arg-type]
    registry.note("t", told)
    if decision == TrialScheduler.STOP:
        verdict = registry.verdict("t", told)
        assert (verdict.end_reason, verdict.value) == (EndReason.EARLY_STOPPED, 0.5)


def test_a_trial_that_ends_by_itself_keeps_its_own_end() -> None:
    registry, in_force = TrialRegistry("loss", "min", ()), CommandsInForce()
    in_force.search_end.asked = True
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(FIFOScheduler(), registry, in_force, None, limits, print)  # type: ignore[arg-type,no-untyped-call]
    entry = registry.open("t", 4, {})
    scheduler.on_trial_result(None, Known("t"), {STEP: 1, "loss": 0.5, END: "diverged"})  # type: ignore[arg-type]
    assert not entry.cut


@pytest.mark.parametrize(
    ("result", "decision", "end"),
    [
        ({"loss": 0.5}, TrialScheduler.STOP, (EndReason.EARLY_STOPPED, 0.5)),
        ({"loss": float("nan")}, TrialScheduler.STOP, (EndReason.OPERATOR, None)),
        ({}, TrialScheduler.STOP, (EndReason.OPERATOR, None)),
    ],
)
def test_a_trial_that_a_person_ends_stops_at_its_next_report_with_the_value_that_it_has(
    result: dict[str, float], decision: str, end: tuple[EndReason, float | None]
) -> None:
    """Without a value it ends as the operator's, and the others go on."""
    registry, in_force = TrialRegistry("loss", "min", ()), CommandsInForce()
    in_force.search_end.take({"ending": {"4": "ann"}})
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(FIFOScheduler(), registry, in_force, None, limits, print)  # type: ignore[arg-type,no-untyped-call]
    for trial_id, number in (("t", 4), ("other", 5)):
        registry.open(trial_id, number, {})
    told = {STEP: 1, **result}
    assert scheduler.on_trial_result(None, Known("other"), {STEP: 1, "loss": 0.1}) == TrialScheduler.CONTINUE  # type: ignore[arg-type]
    assert scheduler.on_trial_result(None, Known("t"), told) == decision  # type: ignore[arg-type]
    registry.note("t", told)
    verdict = registry.verdict("t", told)
    assert (verdict.end_reason, verdict.value) == end


def test_a_trial_that_a_person_ends_keeps_the_best_of_all_its_epochs() -> None:
    earlier = {"number": 4, "state": "PENDING", "attempt": 1, "checkpoint": None, "results": [[1, 0.2], [2, 0.4]]}
    registry, in_force = TrialRegistry("loss", "min", [earlier]), CommandsInForce()
    in_force.search_end.take({"ending": {"4": "ann"}})
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(FIFOScheduler(), registry, in_force, None, limits, print)  # type: ignore[arg-type,no-untyped-call]
    registry.open("t", 4, {})
    told = {STEP: 3, "loss": 0.3}
    assert scheduler.on_trial_result(None, Known("t"), told) == TrialScheduler.STOP  # type: ignore[arg-type]
    registry.note("t", told)
    assert registry.verdict("t", told).value == 0.2


def test_a_person_does_not_end_a_trial_after_the_search() -> None:
    registry, in_force = TrialRegistry("loss", "min", ()), CommandsInForce()
    in_force.search_end.take({"ending": {"4": "ann"}})
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(FIFOScheduler(), registry, in_force, None, limits, print)  # type: ignore[arg-type,no-untyped-call]
    registry.open("t", 4, {}, final=True)
    assert scheduler.on_trial_result(None, Known("t"), {STEP: 1, "loss": 0.3}) == TrialScheduler.CONTINUE  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ({"value": 0.3, "plateau": None, "improvement": 0.0}, "value"),
        ({"value": None, "plateau": 1, "improvement": 0.1}, "plateau"),
    ],
)
def test_a_search_that_has_found_enough_by_its_plan_gives_way_to_its_finalisation(
    tmp_path: Any, stop: dict[str, Any], reason: str
) -> None:
    bench = Bench(tmp_path, stop=stop)
    bench.searched(0.35)
    bench.search.suggest("s1")
    bench.end("s1", 0.3)
    given = bench.search.suggest("f0")
    assert given is not None
    assert (given[OWN_KEY]["number"], given[OWN_KEY]["final"]) == (2, True)
    assert ends(bench) == [SearchEnded(reason, 2, None, None)]


def test_a_stop_that_a_person_sets_counts_from_then_on(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None)
    bench.searched(0.4, 0.2)
    bench.in_force.changed_spec = {**bench.spec, "stop": {"value": 0.3, "plateau": None, "improvement": 0.0}}
    assert bench.search.suggest("s2") == Searcher.FINISHED
    assert ends(bench) == [SearchEnded("value", 2, None, None)]
