"""Test lost time: held seconds per trial and cause, for any order of events."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.time_accounting import Held, LostTime, by_cause

NAMES = ["trial.paused", "trial.resumed", "trial.requeued", "trial.started", "trial.finished", "trial.reported"]


def lost_seconds(events: Iterable[Held]) -> list[dict[str, Any]]:
    """The lost seconds of each trial by cause, up to the last event."""
    lost, last_s = LostTime(), 0.0
    for event in events:
        lost.add(event)
        last_s = event[1]
    return lost.seconds(last_s)


def test_a_pause_counts_from_its_beginning_to_its_end_under_its_reason() -> None:
    events = [
        ("trial.started", 0.0, "a", 1, {}),
        ("trial.paused", 10.0, "a", 1, {"reason": "heat"}),
        ("trial.resumed", 25.0, "a", 1, {}),
        ("trial.paused", 30.0, "a", 1, {"reason": "heat"}),
        ("trial.paused", 31.0, "a", 2, {"reason": "operator"}),
        ("trial.finished", 35.0, "a", 1, {}),
        ("trial.reported", 41.0, "a", 3, {}),
    ]
    lost = lost_seconds(events)
    assert lost == [
        {"experiment": "a", "trial": 1, "cause": "heat", "seconds": 20.0},
        {"experiment": "a", "trial": 2, "cause": "operator", "seconds": 10.0},
    ]
    assert by_cause(lost) == {"heat": 20.0, "operator": 10.0}


def test_all_that_the_schedule_holds_back_is_one_cause() -> None:
    events = [
        ("trial.paused", 0.0, "a", 1, {"reason": "by schedule until Mon 18:00 CET (mon-fri 09:00-18:00)"}),
        ("trial.resumed", 10.0, "a", 1, {}),
        ("trial.paused", 20.0, "a", 1, {"reason": "by schedule while on battery"}),
        ("trial.resumed", 25.0, "a", 1, {}),
    ]
    assert by_cause(lost_seconds(events)) == {"schedule": 15.0}


def test_the_wait_for_a_new_attempt_is_lost_to_what_ended_the_last() -> None:
    events = [
        ("trial.requeued", 5.0, "a", 1, {"cause": "driver_died"}),
        ("trial.started", 12.0, "a", 1, {}),
    ]
    assert by_cause(lost_seconds(events)) == {"restart after driver_died": 7.0}


def test_what_waits_in_an_experiment_that_was_given_up_waits_for_a_person_and_loses_nothing() -> None:
    """The run goes on with its other experiments, for days maybe."""
    events = [
        ("trial.requeued", 5.0, "a", 1, {"cause": "driver_died"}),
        ("trial.requeued", 9.0, "b", 1, {"cause": "driver_died"}),
        ("trial.requeued", 10.0, "a", 2, {"cause": "experiment_failed"}),
        ("experiment.failed", 10.0, "a", None, {"error": "its driver died 5 times"}),
        ("trial.started", 11.0, "b", 1, {}),
        ("trial.reported", 90_000.0, "b", 1, {}),
        ("trial.started", 95_000.0, "a", 1, {}),
    ]
    assert by_cause(lost_seconds(events)) == {
        "restart after driver_died": 7.0,
        "restart after experiment_failed": 0.0,
    }


def test_the_figures_of_the_moment_make_no_cause_of_their_own() -> None:
    reasons = ["cpu at 91.5 celsius, pause limit 88", "cpu at 93 celsius, pause limit 88", "a call"]
    events: list[Held] = []
    for place, reason in enumerate(reasons):
        events.append(("trial.paused", 10.0 * place, "a", 1, {"reason": reason}))
        events.append(("trial.resumed", 10.0 * place + 4.0, "a", 1, {}))
    assert by_cause(lost_seconds(events)) == {"cpu": 8.0, "a call": 4.0}


@given(st.lists(st.tuples(st.sampled_from(NAMES), st.integers(0, 3), st.floats(0, 100)), max_size=40))
def test_no_trial_loses_more_than_the_whole_time(steps: list[tuple[str, int, float]]) -> None:
    """Over any sequence: never negative, and per trial at most the span of the events."""
    wall, events = 0.0, []
    for name, trial, gap in steps:
        wall += gap
        events.append((name, wall, "a", trial, {"reason": "x", "cause": "y"}))
    lost = lost_seconds(events)
    assert all(entry["seconds"] >= 0 for entry in lost)
    for trial in range(4):
        assert sum(entry["seconds"] for entry in lost if entry["trial"] == trial) <= wall + 0.2


def test_trials_that_are_held_together_lose_time_once() -> None:
    lost = LostTime()
    for name, wall_s, trial in [
        ("trial.paused", 1.0, 0), ("trial.paused", 1.1, 1), ("trial.resumed", 5.0, 0), ("trial.resumed", 5.1, 1),
        ("trial.requeued", 9.0, 0), ("trial.started", 12.0, 0),
    ]:  # fmt: skip
        lost.add((name, wall_s, "x", trial, {"reason": "heat", "cause": "worker_died"}))
    assert lost.times == 2


def test_the_pauses_of_a_trial_are_kept_while_it_lives() -> None:
    lost = LostTime()
    for name, wall_s in (("paused", 10.0), ("resumed", 500.0), ("paused", 600.0), ("resumed", 610.0)):
        lost.add((f"trial.{name}", wall_s, "a", 1, {"reason": "heat"}))
    assert [list(found) for found in lost.pauses.values()] == [[(10.0, 500.0), (600.0, 610.0)]]
    lost.add(("trial.finished", 700.0, "a", 1, {}))
    assert lost.pauses == {}
