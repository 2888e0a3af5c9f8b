"""A run and its experiments move as lifecycle allows, and every change has its event."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import ProcessState
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter
from tests.unit.store.writers import (
    CountingClock,
    E,
    added,
    commit,
    ended,
    held,
    last_seq,
    lost,
    make_writer,
    started,
)  # fmt: skip


def test_recover_stops_what_lived_and_requeues_running_and_paused_trials(writer: RunWriter) -> None:
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment(E, ProcessState.STARTING)
    writer.record("experiment.started", experiment=E, max_trials=3)
    commit(writer, added(0), started(1), added(1), started(1, 1), held(1, "PAUSED", 1), added(2))
    seq = last_seq(writer)
    assert writer.recover() == 2
    assert [event.name for event in writer.store.events_after(seq)] == [
        "trial.requeued", "trial.requeued", "daemon.recovered",
    ]  # fmt: skip
    assert (writer.run_state(), writer.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.STOPPED)
    assert [row["state"] for row in writer.store.rows("SELECT state FROM trial")] == ["PENDING"] * 3
    seq = last_seq(writer)
    assert writer.recover() == 0, "a second time there is nothing to do"
    assert last_seq(writer) == seq


def test_a_trial_of_which_two_drivers_died_ends_and_its_neighbour_goes_on(writer: RunWriter) -> None:
    for attempt in (1, 2):
        commit(writer, added(0), started(attempt), added(1), started(attempt, 1))
        writer.blame(E, 0, "it failed: OverflowError")
        writer.requeue_live_trials(E, "driver_died")
    first, second = writer.store.rows("SELECT state, end_reason, error FROM trial ORDER BY number")
    assert tuple(first) == ("ERROR", "error", "two drivers died of it: it failed: OverflowError")
    assert second["state"] == "PENDING"
    seq = last_seq(writer)
    writer.blame(E, 0, "again")
    writer.blame(E, 7, "unknown")
    assert last_seq(writer) == seq


def test_a_trial_that_is_tried_again_has_two_drivers_again(writer: RunWriter) -> None:
    """Deaths before its last retry count no more."""
    for attempt in (1, 2):
        commit(writer, added(0), started(attempt))
        writer.blame(E, 0, "it failed: OverflowError")
    with writer.store.change(writer.run_id) as change:
        change.record("trial.retried", experiment=E, trial=0, attempt=2, who="ann", end_reason="error")
    for attempt, state in ((3, "PENDING"), (4, "ERROR")):
        commit(writer, started(attempt))
        writer.blame(E, 0, "it failed: OverflowError")
        assert writer.store.row("SELECT state FROM trial")["state"] == state


def test_recover_makes_a_fatal_run_startable_and_leaves_ended_experiments_alone(writer: RunWriter) -> None:
    writer.record("experiment.skipped", experiment=E, reason="too large")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.failed", error="no Ray")
    writer.recover()
    assert (writer.run_state(), writer.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.SKIPPED)
    assert writer.store.rows("SELECT ended_wall FROM run")[0]["ended_wall"] is None


def test_what_an_ended_experiment_leaves_undone_ends_and_a_lost_attempt_keeps_its_own_end(writer: RunWriter) -> None:
    commit(writer, added(0), started(1), lost(1), added(1), started(1, 1), ended(1, number=1), added(2), started(1, 2))
    before = tuple(writer.store.rows("SELECT * FROM attempt WHERE trial = 0")[0])
    assert writer.end_unfinished_trials(E, "max_hours reached") == 2
    assert tuple(writer.store.rows("SELECT * FROM attempt WHERE trial = 0")[0]) == before
    ends = [(row["end_reason"], row["error"]) for row in writer.store.rows("SELECT * FROM trial ORDER BY number")]
    assert ends == [("operator", "max_hours reached"), ("finished", None), ("operator", "max_hours reached")]
    assert writer.store.rows("SELECT * FROM attempt WHERE ended_wall IS NULL") == []


def test_requeue_counts_only_live_trials_of_its_experiment(writer: RunWriter) -> None:
    commit(writer, added(0), started(1), added(1), started(1, 1), ended(1, number=1), added(2))
    assert writer.requeue_live_trials(E, "driver_died") == 1
    assert writer.requeue_live_trials("another", "driver_died") == 0
    assert [row["state"] for row in writer.store.rows("SELECT state FROM trial ORDER BY number")] == [
        "PENDING", "TERMINATED", "PENDING",
    ]  # fmt: skip


def test_a_move_that_lifecycle_forbids_changes_nothing_and_leaves_no_event(writer: RunWriter) -> None:
    seq = last_seq(writer)
    with pytest.raises(ValueError, match="cannot go from STOPPED to RUNNING"):
        writer.record("run.started")
    with pytest.raises(ValueError, match="cannot go from STOPPED to EXITED"):
        writer.move_experiment(E, ProcessState.EXITED)
    assert (writer.run_state(), writer.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.STOPPED)
    assert last_seq(writer) == seq


def test_an_operators_command_survives_reopening_until_it_is_dropped(tmp_path: Path) -> None:
    writer = make_writer(tmp_path / "sweep.db")
    hold = Command(Action.HOLD, Origin.OPERATOR, "visitors", since_wall=5.0, who="ann")
    pause = Command(Action.PAUSE, Origin.OPERATOR, "visitors stay", since_wall=6.0, who="ann")
    writer.put_command(hold, "after running trials")
    writer.put_command(pause, "now")
    writer.store.close()
    again = RunWriter(Store(tmp_path / "sweep.db", CountingClock()), "r")
    assert again.commands() == [pause], "the later of one scope takes the place of the earlier"
    assert again.drop_command("all", "bob") is True
    assert again.drop_command("all", "bob") is False
    assert again.commands() == []
    names = [event.name for event in again.store.events_after(1)]
    assert names == ["run.paused", "run.paused", "run.resumed"]


def test_what_the_operator_wants_is_written_with_its_event(writer: RunWriter) -> None:
    writer.record("run.stopped", who="ann")
    assert writer.store.rows("SELECT desired FROM run")[0]["desired"] == "stop"
    assert writer.store.events_after(1)[0].fields == {"who": "ann"}


def test_a_drill_is_recorded_by_its_name(writer: RunWriter) -> None:
    """The event has a field called `name`, like the parameter of `record` itself."""
    writer.record("drill.started", name="heat", duration_s=5.0, node=None, drill=True)
    assert writer.store.events_after(1)[0].fields["name"] == "heat"


def test_starts_of_a_driver_are_counted_and_the_first_start_time_stays(writer: RunWriter) -> None:
    for _ in range(2):
        writer.move_experiment(E, ProcessState.STARTING)
        writer.move_experiment(E, ProcessState.BACKOFF)
    row = writer.store.rows("SELECT driver_starts, started_wall, ended_wall FROM experiment")[0]
    first = row["started_wall"]
    writer.record("experiment.failed", experiment=E, reason="x", error="x", seconds=1.0)
    row = writer.store.rows("SELECT * FROM experiment")[0]
    assert (row["driver_starts"], row["started_wall"], row["reason"]) == (2, first, "x")
    assert row["ended_wall"] > first
