"""Run the driver against a stand-in for the daemon, on a real Ray head."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import (
    ActionChanged,
    AttemptLost,
    ExperimentEnded,
    ResultReported,
    TrialEnded,
    TrialHeld,
    TrialStarted,
    WatchdogUp,
)

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "the operator says so").to_json()
HOLD = Command(Action.HOLD, Origin.OPERATOR, "the operator says so").to_json()
DRIVER_LOST_ITS_DAEMON = 70


def study_of(daemon):
    file = str(daemon.folder / "experiment" / "study.journal")
    return optuna.load_study(
        study_name="one", storage=JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file)))
    )


def test_a_users_function_is_searched_to_the_last_trial(drive, spec):
    """Six trials, each reported, ended and acknowledged; the plan's point comes first; the study has them all."""
    daemon = drive(spec(enqueue=[{"x": 0.25}]))
    daemon.succeeds()
    assert daemon.error() is None
    rows = daemon.store.rows
    assert sorted(rows) == [0, 1, 2, 3, 4, 5]
    assert rows[0].params == {"x": 0.25}
    assert [rows[0].source, rows[1].source] == ["enqueued", "sampled"]
    for row in rows.values():
        assert row.end_reason == "finished"
        assert [step for step, _ in row.results] == [1, 2, 3]
        assert row.value == min(value for _, value in row.results)
    assert all(started.worker_pid and started.node for started in daemon.all(TrialStarted))
    assert [trial.state.name for trial in study_of(daemon).trials] == ["COMPLETE"] * 6


def test_failed_trials_are_told_and_leave_nothing_running(drive, spec):
    """NaN, an error, no memory and no report at all each end their own trial with its reason, and fail in the study.

    Only the one that ran out of memory is tried again, once, with the machine to itself.
    """
    kinds = ["nan", "raises", "memory", "silent", "good"]
    daemon = drive(
        spec(
            trainable="actors_trainables:troubled",
            space={"kind": {"type": "categorical", "choices": kinds}},
            enqueue=[{"kind": kind} for kind in kinds],
            max_trials=5,
        )
    )
    daemon.succeeds()
    rows = daemon.store.rows
    assert [row.end_reason for row in rows.values()] == ["diverged", "error", "oom", "error", "finished"]
    assert "made to fail" in rows[1].error
    assert "without reporting 'loss'" in rows[3].error
    lost = daemon.all(AttemptLost)
    assert [(message.number, message.cause, message.memory) for message in lost] == [(2, "oom", {"alone": True})]
    assert [trial.state.name for trial in study_of(daemon).trials] == ["FAIL"] * 4 + ["COMPLETE"]


def test_asha_prunes_and_the_study_learns_the_step_that_pruned(drive, spec):
    """Trials that ASHA stops end as pruned, with their last value told; the best goes to the last step."""
    points = [{"x": x} for x in (0.0, 0.9, 0.8, 0.7, 0.6, 0.05)]
    daemon = drive(
        spec(
            trainable="actors_trainables:long_quadratic",
            enqueue=points,
            max_epochs=9,
            pruner={"kind": "asha", "grace_period": 1, "reduction_factor": 3, "max_t": 9},
        )
    )
    daemon.succeeds()
    rows = daemon.store.rows
    assert rows[0].end_reason == "finished"
    assert len(rows[0].results) == 9
    assert [row.end_reason for row in list(rows.values())[1:5]] == ["pruned"] * 4
    for row, trial in zip(rows.values(), study_of(daemon).trials, strict=True):
        assert trial.intermediate_values == dict(row.results)
        assert trial.state.name == ("PRUNED" if row.end_reason == "pruned" else "COMPLETE")


def test_a_trainable_that_is_not_there_is_named_with_the_cure(drive, spec):
    """The experiment ends with an error; the driver exits with status 1."""
    daemon = drive(spec(trainable="actors_trainables:missing"))
    assert daemon.end() == 1
    assert "actors_trainables has no 'missing'" in daemon.error()


# A tour: one search through everything that can interrupt it


@pytest.mark.slow
def test_a_search_loses_nothing_to_pause_deaths_hold_and_finish(drive, steps):
    """Four drivers, one search: paused and its worker killed, then killed; held, then without its daemon; finished."""
    experiment = steps.make(
        concurrency=2, max_trials=3, enqueue=[{"x": 0.1}, {"x": 0.2}], config={"batches": 20, "steps": 4}
    )
    steps.goes_on.touch()
    first = drive(experiment)
    watchdog, started = first.wait_for(WatchdogUp), [first.wait_for(TrialStarted) for _ in range(2)]
    assert_kernel_takes_a_trial_first(first, watchdog.pid, started[0].worker_pid)
    assert_pause_stops_every_batch(first, steps)
    assert_a_killed_worker_costs_one_attempt(first, started[0])
    first.kill()

    second = drive(experiment, store=first.store.driver_is_gone(), commands=[HOLD])
    assert second.wait_for(WatchdogUp).pid == watchdog.pid, "the watchdog outlives its driver"
    assert_hold_starts_nothing_and_then_each_trial_resumes(second)
    second.wait_for(ResultReported)
    second.hang_up()
    assert second.end() == DRIVER_LOST_ITS_DAEMON
    steps.stand()  # no batch begins after its end

    before = len(steps.batches())
    third = drive(experiment, store=second.store.driver_is_gone())
    third.wait_for(ResultReported)
    third.finish()
    third.succeeds()
    assert not third.all(ExperimentEnded)
    steps.goes_on.unlink()
    fourth = drive(experiment, store=third.store.driver_is_gone())
    fourth.succeeds()
    steps.assert_each_once(steps.batches()[before:])  # finish saves each trial in the middle of its epoch
    assert_each_trial_has_each_step_once(fourth)


def assert_kernel_takes_a_trial_first(daemon, watchdog_pid, worker_pid):
    """A trial's score is above that of the watchdog and of the driver, and so of the daemon."""
    if not Path("/proc/self/oom_score_adj").exists():
        return  # the kernel of this platform keeps no such score
    pids = watchdog_pid, daemon.process.pid, worker_pid
    watchdog, driver, trial = (int(Path(f"/proc/{pid}/oom_score_adj").read_text()) for pid in pids)
    assert trial == driver + 500
    assert watchdog == driver


def assert_pause_stops_every_batch(daemon, steps):
    daemon.wait_for(ResultReported)
    daemon.command(PAUSE)
    held = daemon.wait_for(TrialHeld)
    assert (held.state, held.reason) == ("PAUSED", "the operator says so")
    stands = steps.stand()
    time.sleep(1.0)
    assert len(steps.batches()) == stands
    daemon.command()
    daemon.wait_for(TrialHeld, lambda message: message.state == "RUNNING")
    steps.assert_each_once()


def assert_a_killed_worker_costs_one_attempt(daemon, started):
    daemon.wait_for(ResultReported, lambda message: message.number == started.number)
    os.kill(started.worker_pid, signal.SIGKILL)
    lost = daemon.wait_for(AttemptLost)
    assert (lost.number, lost.attempt, lost.cause) == (started.number, 1, "worker_died")
    again = daemon.wait_for(TrialStarted)
    assert (again.number, again.attempt) == (started.number, 2)
    assert again.resumed_step == daemon.store.rows[started.number].results[-1][0]
    assert again.worker_pid != started.worker_pid


def assert_hold_starts_nothing_and_then_each_trial_resumes(daemon):
    """The unfinished trials go on with their own params, from the last epoch that has a result."""
    time.sleep(1.5)
    assert daemon.all(TrialStarted) == []
    before = {row.number: (row.params, row.attempt, row.results[-1][0]) for row in daemon.store.unfinished()}
    daemon.command()
    again = [daemon.wait_for(TrialStarted) for _ in before]
    params = {number: row.params for number, row in daemon.store.rows.items()}
    assert {m.number: (params[m.number], m.attempt - 1, m.resumed_step) for m in again} == before


def assert_each_trial_has_each_step_once(daemon):
    rows = daemon.store.rows
    assert sorted(rows) == [0, 1, 2]
    assert [rows[number].params for number in (0, 1)] == [{"x": 0.1}, {"x": 0.2}]
    for row in rows.values():
        assert row.end_reason == "finished"
        assert [step for step, _ in row.results] == list(range(1, len(row.results) + 1))
    assert [trial.state.name for trial in study_of(daemon).trials] == ["COMPLETE"] * 3


# The same faults one by one, and longer ones


@pytest.mark.slow
def test_a_worker_that_dies_again_and_again_ends_its_trial_only(drive, steps):
    """More deaths than max_failures: the trial ends in error, the search goes on."""
    daemon = drive(steps.make(max_trials=2, max_failures=1))
    for _ in range(2):
        started = daemon.wait_for(TrialStarted, lambda message: message.number == 0)
        daemon.wait_for(ResultReported)
        os.kill(started.worker_pid, signal.SIGKILL)
    ended = daemon.wait_for(TrialEnded)
    assert (ended.number, ended.attempt, ended.end_reason) == (0, 2, "error")
    daemon.succeeds()
    assert daemon.store.rows[1].end_reason == "finished"


@pytest.mark.slow
def test_a_heat_drill_pauses_and_resumes_real_trials(drive, steps):
    """No batch starts while the flag says PAUSE, and none is lost or doubled."""
    daemon = drive(steps.make(max_trials=2, concurrency=2, config={"steps": 40}, max_epochs=40))
    daemon.wait_for(ResultReported, lambda message: message.step == 2)
    daemon.drill("heat", 15.0)
    hot = daemon.wait_for(ActionChanged, lambda message: message.command["action"] == "PAUSE")
    assert hot.command["drill"] is True
    daemon.wait_for(TrialHeld, lambda message: message.state == "PAUSED")
    steps.stand()
    daemon.wait_for(TrialHeld, lambda message: message.state == "RUNNING")
    daemon.succeeds()
    steps.assert_each_once()
    assert len(steps.batches()) == 2 * 200


@pytest.mark.slow
def test_hold_lets_a_running_trial_end_and_starts_no_other(drive, steps):
    daemon = drive(steps.make(max_trials=2))
    daemon.wait_for(ResultReported)
    daemon.command(HOLD)
    daemon.wait_for(TrialEnded)
    time.sleep(1.5)
    assert len(daemon.all(TrialStarted)) == 1
    daemon.command()
    daemon.succeeds()
    steps.assert_each_once()
