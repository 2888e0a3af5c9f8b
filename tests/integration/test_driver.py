"""The driver against a stand-in for the daemon, on a real Ray head."""

from __future__ import annotations

import json
import os
import signal
import time
from collections import Counter
from pathlib import Path

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import ActionChanged, AttemptLost, ResultReported, TrialEnded, TrialHeld, TrialStarted

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "the operator says so").to_json()
HOLD = Command(Action.HOLD, Origin.OPERATOR, "the operator says so").to_json()


@pytest.fixture
def steps(spec, tmp_path):
    """A spec of the class that logs its batches, and its log."""
    log = tmp_path / "batches.jsonl"

    def make(**changes):
        config = {"batches": 5, "batch_s": 0.02, "steps": 6, "log": str(log), **changes.pop("config", {})}
        return spec(trainable="actors_trainables:Steps", config=config, **changes)

    return make, log


def batches(log: Path) -> list[dict]:
    return [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []


def study_of(daemon):
    file = str(daemon.folder / "experiment" / "study.journal")
    return optuna.load_study(
        study_name="one", storage=JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file)))
    )


def assert_no_batch_is_lost_or_doubled(log: Path, per_trial: int, trials: int) -> None:
    """Batches 1 to `per_trial` of each trial, each once."""
    by_trial = Counter((line["x"], line["batch"]) for line in batches(log))
    assert set(by_trial.values()) == {1}
    assert len(by_trial) == per_trial * trials
    assert {batch for _, batch in by_trial} == set(range(1, per_trial + 1))


def test_a_users_function_is_searched_to_the_last_trial(drive, spec):
    """Six trials, each reported, ended and acknowledged; the plan's point comes first; the study has them all."""
    daemon = drive(spec(enqueue=[{"x": 0.25}]))
    assert daemon.end() == 0, daemon.log.read_text()
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
    assert daemon.end() == 0, daemon.log.read_text()
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
    assert daemon.end() == 0, daemon.log.read_text()
    rows = daemon.store.rows
    assert rows[0].end_reason == "finished"
    assert len(rows[0].results) == 9
    assert [row.end_reason for row in list(rows.values())[1:5]] == ["pruned"] * 4
    for row, trial in zip(rows.values(), study_of(daemon).trials, strict=True):
        assert trial.intermediate_values == dict(row.results)
        assert trial.state.name == ("PRUNED" if row.end_reason == "pruned" else "COMPLETE")


def test_a_killed_driver_is_followed_by_one_that_ends_the_same_search(drive, steps):
    """After kill -9: exactly max_trials trials, none twice, the unfinished ones with their own params from their own
    checkpoints; and the next samples are those of the first driver's seed."""
    make, _ = steps
    first = drive(make(concurrency=2, max_trials=5, enqueue=[{"x": 0.1}, {"x": 0.2}]))
    first.wait_for(ResultReported, lambda message: message.number == 1 and message.step == 3)
    first.kill()
    before = {number: dict(row.params) for number, row in first.store.rows.items()}
    unfinished = [row.number for row in first.store.rows.values() if row.end_reason is None]
    assert unfinished
    # The last epoch with a result has a checkpoint; a trial that was only added has neither.
    last = {number: first.store.rows[number].results[-1:] for number in unfinished}
    reached = {number: result[0][0] if result else None for number, result in last.items()}
    attempts = {number: first.store.rows[number].attempt for number in unfinished}

    second = drive(make(concurrency=2, max_trials=5, enqueue=[{"x": 0.1}, {"x": 0.2}]), store=first.store)
    assert second.end() == 0, second.log.read_text()
    rows = second.store.rows
    assert sorted(rows) == [0, 1, 2, 3, 4]
    assert all(row.end_reason == "finished" for row in rows.values())
    assert {number: rows[number].params for number in before} == before
    resumed = {started.number: started for started in second.all(TrialStarted) if started.number in unfinished}
    assert {number: started.resumed_step for number, started in resumed.items()} == reached
    assert {number: started.attempt - 1 for number, started in resumed.items()} == attempts
    # Each step's results once, in order, across both drivers.
    assert all([step for step, _ in row.results] == [1, 2, 3, 4, 5, 6] for row in rows.values())
    assert [trial.state.name for trial in study_of(second).trials] == ["COMPLETE"] * 5


def test_a_killed_worker_costs_one_attempt_and_no_trial(drive, steps):
    """kill -9 of a trial's worker: the attempt is lost, the next goes on from the checkpoint in a new process."""
    make, _ = steps
    daemon = drive(make(max_trials=2))
    started = daemon.wait_for(TrialStarted)
    daemon.wait_for(ResultReported, lambda message: message.step == 2)
    os.kill(started.worker_pid, signal.SIGKILL)
    lost = daemon.wait_for(AttemptLost)
    assert (lost.number, lost.attempt, lost.cause) == (0, 1, "worker_died")
    again = daemon.wait_for(TrialStarted)
    assert (again.number, again.attempt) == (0, 2)
    assert again.resumed_step >= 2
    assert again.worker_pid != started.worker_pid
    assert daemon.end() == 0, daemon.log.read_text()
    assert [row.end_reason for row in daemon.store.rows.values()] == ["finished", "finished"]


def test_a_worker_that_dies_again_and_again_ends_its_trial_only(drive, steps):
    """More deaths than max_failures: the trial ends in error, the search goes on."""
    make, _ = steps
    daemon = drive(make(max_trials=2, max_failures=1))
    for _ in range(2):
        started = daemon.wait_for(TrialStarted, lambda message: message.number == 0)
        daemon.wait_for(ResultReported)
        os.kill(started.worker_pid, signal.SIGKILL)
    ended = daemon.wait_for(TrialEnded)
    assert (ended.number, ended.attempt, ended.end_reason) == (0, 2, "error")
    assert daemon.end() == 0, daemon.log.read_text()
    assert daemon.store.rows[1].end_reason == "finished"


def test_a_heat_drill_pauses_and_resumes_real_trials(drive, steps):
    """No batch starts while the flag says PAUSE, and none is lost or doubled."""
    make, log = steps
    daemon = drive(make(max_trials=2, concurrency=2, config={"steps": 40, "batch_s": 0.02}, max_epochs=40))
    daemon.wait_for(ResultReported, lambda message: message.step == 2)
    daemon.drill("heat", 6.0)
    hot = daemon.wait_for(ActionChanged, lambda message: message.command["action"] == "PAUSE")
    assert hot.command["drill"] is True
    daemon.wait_for(TrialHeld, lambda message: message.state == "PAUSED")
    time.sleep(0.3)  # the running batches end
    while_closed = len(batches(log))
    time.sleep(1.5)
    assert len(batches(log)) == while_closed
    daemon.wait_for(TrialHeld, lambda message: message.state == "RUNNING")
    assert daemon.end() == 0, daemon.log.read_text()
    assert_no_batch_is_lost_or_doubled(log, per_trial=200, trials=2)


def test_the_operators_pause_stops_at_the_next_batch_and_hold_admits_nothing(drive, steps):
    """PAUSE: trials stand still until it is lifted. HOLD: the running trial ends, no other starts."""
    make, log = steps
    daemon = drive(make(max_trials=2))
    daemon.wait_for(ResultReported)
    daemon.command(PAUSE)
    held = daemon.wait_for(TrialHeld)
    assert (held.state, held.reason) == ("PAUSED", "the operator says so")
    time.sleep(0.3)
    while_closed = len(batches(log))
    time.sleep(1.0)
    assert len(batches(log)) == while_closed
    daemon.command(HOLD)
    daemon.wait_for(TrialEnded)
    time.sleep(1.5)
    assert len(daemon.all(TrialStarted)) == 1
    daemon.command()
    assert daemon.end() == 0, daemon.log.read_text()
    assert_no_batch_is_lost_or_doubled(log, per_trial=30, trials=2)


def test_finish_saves_each_trial_in_the_middle_of_its_epoch(drive, steps):
    """Finish: exit 0 without an end of the experiment; the next driver repeats no batch."""
    make, log = steps
    whole = make(max_trials=1, config={"batches": 20, "steps": 3}, max_epochs=3)
    first = drive(whole)
    first.wait_for(ResultReported, lambda message: message.step == 2)
    time.sleep(0.1)
    first.finish()
    assert first.end(40) == 0, first.log.read_text()
    assert not [message for message in first.seen if type(message).__name__ == "ExperimentEnded"]
    second = drive(whole, store=first.store)
    assert second.end() == 0, second.log.read_text()
    assert second.store.rows[0].end_reason == "finished"
    assert_no_batch_is_lost_or_doubled(log, per_trial=60, trials=1)


def test_a_driver_whose_daemon_died_ends_and_takes_its_trials_along(drive, steps):
    """End of file: the driver is gone within 10 s, and no batch starts after that."""
    make, log = steps
    daemon = drive(make(max_trials=2, config={"steps": 500}))
    daemon.wait_for(ResultReported)
    daemon.hang_up()
    assert daemon.end(10) == 70
    time.sleep(1.0)
    after = len(batches(log))
    time.sleep(1.0)
    assert len(batches(log)) == after


def test_a_trainable_that_is_not_there_is_said_clearly(drive, spec):
    """The experiment ends with the name and the cure; the driver exits 1."""
    daemon = drive(spec(trainable="actors_trainables:missing"))
    assert daemon.end() == 1
    assert "actors_trainables has no 'missing'" in daemon.error()
