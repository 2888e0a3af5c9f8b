"""Test that the store's work for one trial does not grow with the trials that have ended: by SQLite's own steps."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter
from tests.unit.store.writers import CountingClock, added, ended, make_writer, reported, say, started

FEW, MANY = 20, 1_500
STEPS_AT_ONCE = 10


def steps(store: Store, act: Callable[[], object]) -> int:
    """Return how many steps of SQLite's machine `act` takes, to the nearest STEPS_AT_ONCE."""
    counted = 0

    def count() -> int:
        nonlocal counted
        counted += STEPS_AT_ONCE
        return 0

    store.connection.set_progress_handler(count, STEPS_AT_ONCE)
    try:
        act()
    finally:
        store.connection.set_progress_handler(None, 0)
    return counted


def run_trial(writer: RunWriter, number: int) -> None:
    for message in (added(number), started(1, number), reported(1, 1, number=number), ended(1, number=number)):
        assert say(writer, message)


@pytest.fixture(scope="module", params=[FEW, MANY])
def after(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A run of which so many trials have ended, and their number."""
    writer = make_writer(tmp_path_factory.mktemp("s") / "sweep.db", max_trials=10 * MANY)
    writer.store.connection.execute("PRAGMA synchronous = OFF")
    for number in range(request.param):
        run_trial(writer, number)
    yield writer, request.param
    writer.store.close()


TRIAL_STEPS, LAST_TRIALS_STEPS = 2_000, 200
"""The most steps after any number of trials; a look at each of MANY would take several for each."""


def test_a_trials_messages_take_as_many_steps_after_many_trials(after: tuple[RunWriter, int]) -> None:
    writer, ran = after
    taken = steps(writer.store, lambda: run_trial(writer, ran))
    assert 0 < taken <= TRIAL_STEPS


def test_whether_the_last_trials_run_is_known_without_counting(after: tuple[RunWriter, int], tmp_path: Path) -> None:
    writer, _ = after
    state = ExperimentState("x", writer, CountingClock(), Home(tmp_path))
    taken = steps(writer.store, lambda: [state.in_last_trials for _ in range(10)])
    assert 0 < taken <= 10 * LAST_TRIALS_STEPS
    assert not state.in_last_trials
