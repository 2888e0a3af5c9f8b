"""Test the state of an experiment: its hours, and its warm start."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter
from tests.unit.store.evaluation_stage import FixedClock, add_trials, events, finalised, point, run_of

HOUR = 3600.0
MAX_HOURS = 10.0


class HandSetClock(Clock):
    now = 1_700_000_000.0

    def wall_s(self) -> float:
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(tmp_path / "sweep.db", FixedClock())
    yield opened
    opened.close()


def found_by_the_next_daemon(writer: RunWriter, _: ExperimentState) -> None:
    """Recover as a new daemon does."""
    writer.recover()
    writer.record("daemon.started", pid=2, version="1", socket="s", boot_id="b", by="command")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")


def found_after_a_full_disk(writer: RunWriter, _: ExperimentState) -> None:
    """Recover as a daemon does after a full disk."""
    writer.recover()
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")


def nothing_to_find(_: RunWriter, __: ExperimentState) -> None:
    """The end was recorded when it happened."""


def wait_for_an_operator(_: RunWriter, state: ExperimentState) -> None:
    state.await_operator(Command(Action.STOP, Origin.GOVERNOR, "cpu at 99 celsius"))


def back_off(_: RunWriter, state: ExperimentState) -> None:
    state.back_off(1, "signal SIGKILL")


def die_unseen(_: RunWriter, __: ExperimentState) -> None:
    """No event says when the driver died."""


Act = Callable[[RunWriter, ExperimentState], None]


@pytest.mark.parametrize(
    ("end", "later"),
    [
        (die_unseen, found_by_the_next_daemon),
        (die_unseen, found_after_a_full_disk),
        (wait_for_an_operator, nothing_to_find),
        (back_off, nothing_to_find),
    ],
)
def test_time_without_a_driver_does_not_count_for_max_hours(tmp_path: Path, end: Act, later: Act) -> None:
    clock = HandSetClock()
    store = Store(tmp_path / "sweep.db", clock)
    spec = {"name": "x", "mode": "min", "max_trials": 3, "concurrency": 1, "max_hours": MAX_HOURS}
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    writer = RunWriter(store, "r")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    home = Home(tmp_path)
    state = ExperimentState("x", writer, clock, home)
    state.start()
    writer.record("driver.started", experiment="x", pid=1)
    writer.record("experiment.started", experiment="x", max_trials=3)
    trials = TrialWriter(store, "r")
    trials.handle("x", messages.TrialAdded(0, {"lr": 0.1}, "sampled"))
    trials.handle("x", messages.TrialStarted(0, 1, "ray", "node", 1, None))
    clock.now += 2 * HOUR
    trials.handle("x", messages.ResultReported(0, 1, 1, 0.5, {}, None))
    end(writer, state)
    clock.now += 72 * HOUR
    later(writer, state)
    state.start()
    assert state.seconds_left() == pytest.approx((MAX_HOURS - 2) * HOUR, abs=1.0), "before the next driver"
    writer.record("driver.started", experiment="x", pid=2)
    clock.now += HOUR
    writer.record("experiment.started", experiment="x", max_trials=3)
    assert state.seconds_left() == pytest.approx((MAX_HOURS - 2) * HOUR, abs=1.0), "its start-up does not count"
    clock.now += HOUR
    pause = {"action": "PAUSE", "origin": "operator", "reason": "a call", "drill": False}
    writer.record("experiment.paused", experiment="x", **pause)
    clock.now += 30 * HOUR
    writer.record("experiment.paused", experiment="x", **pause)
    writer.record("experiment.resumed", experiment="x", drill=False)
    clock.now += HOUR
    state.stop("shut down")
    assert state.seconds_left() == pytest.approx((MAX_HOURS - 4) * HOUR, abs=1.0), "nor does a pause"
    store.close()


def test_hours_that_end_before_any_trial_began_are_the_reason(tmp_path: Path) -> None:
    clock = HandSetClock()
    store = Store(tmp_path / "sweep.db", clock)
    spec = {"name": "x", "mode": "min", "max_trials": 3, "concurrency": 1, "max_hours": MAX_HOURS}
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    writer, state = RunWriter(store, "r"), ExperimentState("x", RunWriter(store, "r"), clock, Home(tmp_path))
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    state.start()
    writer.record("driver.started", experiment="x", pid=1)
    writer.record("experiment.started", experiment="x", max_trials=3)
    clock.now += MAX_HOURS * HOUR
    state.end(None, out_of_time=True)
    row = store.row("SELECT state, reason FROM experiment")
    assert row is not None
    assert row["state"] == "FATAL"
    assert row["reason"].startswith("its max_hours (10) ended before a trial began")
    assert "`supervisorctl extend x --trials 1 --hours 10`" in row["reason"]
    store.close()


def state_of(answers: EvaluationWriter, name: str = "60k-h1") -> ExperimentState:
    return ExperimentState(name, RunWriter(answers.store, answers.run_id), Clock(), Home(Path("/nowhere")))


def test_a_larger_budget_is_warmed_once_before_its_first_trial(store: Store) -> None:
    writer = run_of(store)
    finalised(writer)
    own = writer.spec("60k-h1")["enqueue"]
    state = state_of(writer)
    points = state.warm()
    assert len(points) == 2
    assert state.spec["enqueue"] == [*own, *points], "the next driver begins with them"
    (warmed,) = events(store, "experiment.warmed")
    assert (warmed["donor"], warmed["count"], warmed["points"]) == ("20k-h1", 2, points)
    # A daemon that starts again before the first trial adds no more points.
    assert state_of(writer).warm() == []
    assert len(events(store, "experiment.warmed")) == 1


def test_an_experiment_with_a_trial_is_not_warmed(store: Store) -> None:
    writer = run_of(store)
    finalised(writer)
    add_trials(writer, "60k-h1", {0: 0.4}, {0: point(0)})
    assert state_of(writer).warm() == []


@pytest.mark.parametrize("name", ["20k-h1", "60k-h1"])
def test_without_a_smaller_budget_or_its_values_nothing_is_warmed(store: Store, name: str) -> None:
    writer = run_of(store)
    assert state_of(writer, name).warm() == []
    assert events(store, "experiment.warmed") == []
