"""Test the estimate of the time left, as `status` and `wait` print it."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli import status_text
from tests.unit.cli.status_view import NOW, experiment, trial, untouched, view


def test_the_eta_is_the_mean_time_of_a_trial_times_the_trials_left() -> None:
    done = experiment("a", "EXITED", mean_trial_s=10.0)
    at_work = experiment("b", ended=40, mean_trial_s=100.0, running=[])
    assert status_text.eta_s(view(done, at_work)) == 10 * 100.0 / 2
    waiting = untouched("c")
    assert status_text.eta_s(view(done, at_work, waiting)) == 500.0 + 10 * 100.0 / 2, "like the one before"
    assert status_text.eta_s(view(waiting)) is None
    assert status_text.eta_s(view(done, experiment("s", "SKIPPED", mean_trial_s=None))) == 0.0


@pytest.mark.parametrize(
    ("running", "left_s"),
    [
        ([], 3200.0),
        ([trial(5, 0, since_wall=NOW - 7.0)], 3100.0 + 93.0),
        ([trial(5, 3, since_wall=NOW - 7.0)], 3100.0 + 63.0),
        ([trial(5, 3, state="PAUSED", since_wall=NOW - 7.0)], 3100.0 + 70.0),
        # Longer than the mean: it is expected to train to its last epoch.
        ([trial(5, 12, since_wall=NOW - 4.0)], 3100.0 + 200.0 - 124.0),
    ],
)
def test_the_eta_counts_the_time_of_running_trials(running: list[dict[str, Any]], left_s: float) -> None:
    found = experiment(ended=18, mean_trial_s=100.0, running=running, spec={"concurrency": 1, "max_epochs": 20})
    assert status_text.eta_s(view(found)) == left_s


@given(st.lists(st.tuples(st.integers(0, 19), st.floats(0.0, 5.0)), min_size=1, max_size=3), st.integers(1, 5))
def test_the_eta_falls_with_each_second_of_a_running_trial(trials: list[tuple[int, float]], seconds: int) -> None:
    """Also beyond the mean of the ended trials, which a pruner makes short."""
    running = [trial(number, epoch, since_wall=NOW - since) for number, (epoch, since) in enumerate(trials)]
    found = experiment(mean_trial_s=25.0, running=running, spec={"concurrency": len(trials), "max_epochs": 21})
    found["max_trials"] = found["ended"] + len(trials)
    now, later = (status_text.eta_s(view(found, daemon={"now_wall": NOW + s})) for s in (0.0, float(seconds)))
    assert now is not None
    assert later is not None
    assert later != now or now == 0.0


def test_before_the_first_trial_has_ended_the_eta_goes_by_epochs() -> None:
    found = experiment(ended=0, mean_trial_s=None, best=None, running=[trial(0, 2)], max_trials=3)
    assert status_text.eta_s(view(found)) == (2 * 200.0 + 170.0) / 2


def test_without_a_number_of_epochs_the_eta_goes_by_ended_trials_alone() -> None:
    found = experiment(running=[trial(0, 12)], ended=1, mean_trial_s=None, max_trials=2, spec={"concurrency": 1})
    assert status_text.eta_s(view(found)) is None
    assert status_text.eta_s(view(found | {"mean_trial_s": 50.0})) == 0.0
