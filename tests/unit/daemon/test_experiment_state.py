"""An experiment's hours: they count while a driver is alive, whatever the store has to say of the time without one."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

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
from tests.unit.store.test_evaluation_writer import add_trials, events, finalised, point, run_of, store

__all__ = ["store"]  # a fixture

HOUR = 3600.0
MAX_HOURS = 10.0


class HandSetClock(Clock):
    now = 1_700_000_000.0

    def wall_s(self) -> float:
        return self.now


def found_by_the_next_daemon(ledger: RunWriter, _: ExperimentState) -> None:
    """In the order in which Daemon recovers."""
    ledger.recover()
    ledger.record("daemon.started", pid=2, version="1", socket="s", boot_id="b", by="command")
    ledger.move_run(ProcessState.STARTING)
    ledger.record("run.started")


def found_after_a_full_disk(ledger: RunWriter, _: ExperimentState) -> None:
    """In the order in which Daemon goes on by itself."""
    ledger.recover()
    ledger.move_run(ProcessState.STARTING)
    ledger.record("run.started")


def nothing_to_find(_: RunWriter, __: ExperimentState) -> None:
    """Its end was told as it happened."""


def wait_for_an_operator(_: RunWriter, course: ExperimentState) -> None:
    course.await_operator(Command(Action.STOP, Origin.GOVERNOR, "cpu at 99 celsius"))


def back_off(_: RunWriter, course: ExperimentState) -> None:
    course.back_off(1, "signal SIGKILL")


def die_untold(_: RunWriter, __: ExperimentState) -> None:
    """Nobody is left to tell of it."""


Act = Callable[[RunWriter, ExperimentState], None]


@pytest.mark.parametrize(
    ("end", "later"),
    [
        (die_untold, found_by_the_next_daemon),
        (die_untold, found_after_a_full_disk),
        (wait_for_an_operator, nothing_to_find),
        (back_off, nothing_to_find),
    ],
)
def test_the_days_without_a_driver_use_up_none_of_an_experiments_hours(tmp_path: Path, end: Act, later: Act) -> None:
    clock = HandSetClock()
    store = Store(tmp_path / "sweep.db", clock)
    spec = {"name": "x", "mode": "min", "max_trials": 3, "concurrency": 1, "max_hours": MAX_HOURS}
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    ledger = RunWriter(store, "r")
    ledger.move_run(ProcessState.STARTING)
    ledger.record("run.started")
    home = Home(tmp_path)
    course = ExperimentState("x", ledger, clock, home)
    course.start()
    ledger.record("driver.started", experiment="x", pid=1)
    ledger.record("experiment.started", experiment="x", max_trials=3)
    trials = TrialWriter(store, "r")
    trials.handle("x", messages.TrialAdded(0, {"lr": 0.1}, "sampled"))
    trials.handle("x", messages.TrialStarted(0, 1, "ray", "node", 1, None))
    clock.now += 2 * HOUR
    trials.handle("x", messages.ResultReported(0, 1, 1, 0.5, {}, None))
    end(ledger, course)
    clock.now += 72 * HOUR
    later(ledger, course)
    course.start()
    assert course.seconds_left() == pytest.approx((MAX_HOURS - 2) * HOUR, abs=1.0), "before its next driver"
    ledger.record("driver.started", experiment="x", pid=2)
    clock.now += HOUR
    ledger.record("experiment.started", experiment="x", max_trials=3)
    assert course.seconds_left() == pytest.approx((MAX_HOURS - 3) * HOUR, abs=1.0), "in it"
    store.close()


def course_of(answers: EvaluationWriter, name: str = "60k-h1") -> ExperimentState:
    return ExperimentState(name, RunWriter(answers.store, answers.run_id), Clock(), Home(Path("/nowhere")))


def test_a_larger_budget_is_warmed_once_before_its_first_trial(store: Store) -> None:
    ledger = run_of(store)
    finalised(ledger)
    own = ledger.spec("60k-h1")["enqueue"]
    course = course_of(ledger)
    points = course.warm()
    assert len(points) == 2
    assert course.spec["enqueue"] == [*own, *points], "the next driver begins with them"
    (said,) = events(store, "experiment.warmed")
    assert (said["donor"], said["count"], said["points"]) == ("20k-h1", 2, points)
    # A daemon that died between this and the first trial does the same again: nothing.
    assert course_of(ledger).warm() == []
    assert len(events(store, "experiment.warmed")) == 1


def test_an_experiment_that_has_begun_is_warmed_no_more(store: Store) -> None:
    ledger = run_of(store)
    finalised(ledger)
    add_trials(ledger, "60k-h1", {0: 0.4}, {0: point(0)})
    assert course_of(ledger).warm() == []


@pytest.mark.parametrize("name", ["20k-h1", "60k-h1"])
def test_without_a_smaller_budget_or_a_value_of_it_nothing_is_warmed(store: Store, name: str) -> None:
    ledger = run_of(store)
    assert course_of(ledger, name).warm() == []
    assert events(store, "experiment.warmed") == []
