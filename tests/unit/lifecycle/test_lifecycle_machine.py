"""Play any life of a run: verbs, governors, messages, queues of plans, kills, bad disks, lost stores.

A Hypothesis state machine over the real store, audit log, writers, experiment state and commands in force, compared
with a model that knows none of them.
"""

from __future__ import annotations

import shutil
import sqlite3
import sys
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis.stateful import (
    invariant,
    run_state_machine_as_test,
)

from supervisor import failpoints
from supervisor.audit import evidence, invariants
from supervisor.control.plan_queue import PlanQueue
from supervisor.daemon.experiments import experiment_state
from supervisor.domain.lifecycle import (
    TRIAL_ENDED,
    ProcessState,
    TrialState,
    check_process_move,
    check_trial_move,
)
from supervisor.store import lookups, projection, queries, trial_writer
from supervisor.store.database import read_only
from supervisor.store.projection import EXPERIMENT_STATES
from supervisor.store.replay import replay
from supervisor.store.run_writer import RunWriter
from tests.unit.lifecycle.queue_rules import QueueRules
from tests.unit.lifecycle.stored_world import read_world

STATE_OF = {
    "trial.started": TrialState.RUNNING, "trial.paused": TrialState.PAUSED, "trial.resumed": TrialState.RUNNING,
    "trial.requeued": TrialState.PENDING, "trial.retried": TrialState.PENDING,
    "trial.finished": TrialState.TERMINATED, "trial.failed": TrialState.ERROR,
}  # fmt: skip


class Lives(QueueRules):
    """The rules, and the checks that must hold after each step."""

    @invariant()
    def everything_acknowledged_is_there_once(self) -> None:
        if not self.alive:
            return
        runs = self.store.rows("SELECT id FROM run ORDER BY rowid")
        found = {
            (place, row["experiment"], row["trial"], row["step"]): (row["attempt"], row["value"])
            for place, run in enumerate(runs, 1)
            for row in self.store.rows("SELECT * FROM result WHERE run = ?", run["id"])
        }
        assert {key: found.get(key) for key in self.acknowledged} == self.acknowledged

    @invariant()
    def the_store_is_as_the_model(self) -> None:
        """So: the operator's last wish stands, late and doubled messages changed nothing."""
        if self.alive:
            assert read_world(self.store.connection) == self.world

    @invariant()
    def the_events_alone_give_every_table(self) -> None:
        """Each event is applied to tables beside the store, as a rebuild does."""
        if self.alive:
            for event in self.store.events_after(self.replayed):
                replay(self.beside, event)
                self.replayed = event.seq
            for (run,) in self.store.rows("SELECT id FROM run"):
                assert queries.tables_of(self.beside, run) == queries.tables_of(self.store.connection, run)

    @invariant()
    def at_most_one_attempt_lives(self) -> None:
        if self.alive:
            rows = self.store.rows(
                "SELECT trial.state, trial.attempt, count(attempt.attempt) AS n, max(attempt.attempt) AS one"
                " FROM trial LEFT JOIN attempt ON trial.run = attempt.run AND trial.experiment = attempt.experiment"
                " AND trial.number = attempt.trial AND attempt.ended_wall IS NULL GROUP BY 1, 2, trial.number,"
                " trial.run, trial.experiment"
            )
            for row in rows:
                lives = row["state"] in ("RUNNING", "PAUSED")
                assert (row["n"], row["one"]) == ((1, row["attempt"]) if lives else (0, None))

    @invariant()
    def events_have_no_gap_and_the_log_has_them(self) -> None:
        if self.alive:
            row = self.store.rows("SELECT count(*) AS n, min(seq) AS first, max(seq) AS last FROM event")[0]
            assert (row["first"], row["last"]) == (1, row["n"])
            assert self.audit is not None
            assert self.log_full or self.audit.head.seq == row["last"] or self.audit.lag is not None

    @invariant()
    def states_move_as_lifecycle_says(self) -> None:
        """Check each new event since the last look."""
        if not self.alive:
            return
        for event in self.store.events_after(self.looked_at):
            self.looked_at = event.seq
            trial, experiment = (event.run, event.experiment, event.trial), (event.run, event.experiment)
            if event.name == "trial.added":
                self.states[trial] = TrialState.PENDING
            elif event.name in STATE_OF:
                check_trial_move(self.states[trial], STATE_OF[event.name])
                self.states[trial] = STATE_OF[event.name]
            elif event.name == "finalisation.set_aside":
                for number in event.fields["trials"]:
                    assert self.states[event.run, event.experiment, number] in TRIAL_ENDED
                    self.states[event.run, event.experiment, number] = TrialState.TERMINATED
            elif event.name in EXPERIMENT_STATES or event.name == "experiment.moved":
                state = ProcessState(EXPERIMENT_STATES.get(event.name) or event.fields["state"])
                check_process_move(self.states[experiment], state)
                self.states[experiment] = state

    def teardown(self) -> None:
        self.bomb = None
        try:
            if sys.exc_info()[0] is None:
                self.whatever_happened_the_checker_is_content()
        finally:
            failpoints.hit = self._hit
            self._dead()
            shutil.rmtree(self.folder)

    def whatever_happened_the_checker_is_content(self) -> None:
        """Check each run: chain, events, replay, results, attempts, ends, causes, counts, checkpoints, epochs."""
        self._dead()
        self.start()
        self.everything_acknowledged_is_there_once()
        runs = [row["id"] for row in self.store.rows("SELECT id FROM run")]
        self._dead()
        with read_only(self.home.store) as connection:
            for run in runs:
                verdicts = invariants.check(evidence.gather(self.home, connection, run))
                assert [verdict for verdict in verdicts if not verdict.holds] == []


USUAL = settings(
    max_examples=10, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True
)


def test_any_life_keeps_every_promise() -> None:
    """Nothing acknowledged is lost or doubled, one attempt speaks, the last wish stands, the checker is content."""
    run_state_machine_as_test(Lives, settings=USUAL)


@pytest.mark.slow
@pytest.mark.timeout(1800)
def test_many_long_lives_keep_every_promise() -> None:
    """The same for longer lives, and many more of them."""
    run_state_machine_as_test(Lives, settings=settings(USUAL, max_examples=200, stateful_step_count=120))


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trial_writer, "why_refused", lambda row, message: None)


def _a_repeated_message_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookups, "attempt_of", lambda *_: 0)


def _a_stop_is_a_back_off(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(projection.EXPERIMENT_STATES, "driver.stopped", ProcessState.BACKOFF)


def _a_failure_keeps_its_whole_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(experiment_state, "error_sentence", lambda error: error)


def _a_table_is_written_beside_the_projection(patch: pytest.MonkeyPatch) -> None:
    real = RunWriter.requeue_live_trials

    def requeue(self: RunWriter, name: str, cause: str) -> int:
        with self.store.change(self.run_id) as change:
            change.execute("UPDATE experiment SET reason = ? WHERE name = ?", "a note", name)
        return real(self, name, cause)

    patch.setattr(RunWriter, "requeue_live_trials", requeue)


def _what_has_begun_begins_again(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookups, "has_advanced", lambda *_: False)


def _the_last_plan_of_the_queue_begins_first(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(PlanQueue, "first", lambda self: next((e for e in self.entries()[::-1] if e.error is None), None))


@pytest.mark.parametrize(
    "harm",
    [
        _no_fence,
        pytest.param(_what_has_begun_begins_again, marks=pytest.mark.slow),
        pytest.param(_the_last_plan_of_the_queue_begins_first, marks=pytest.mark.slow),
        pytest.param(_a_stop_is_a_back_off, marks=pytest.mark.slow),
        pytest.param(_a_failure_keeps_its_whole_text, marks=pytest.mark.slow),
        pytest.param(_a_repeated_message_counts, marks=pytest.mark.slow),
        pytest.param(_a_table_is_written_beside_the_projection, marks=pytest.mark.slow),
    ],
)
def test_the_machine_finds_a_broken_rule(
    harm: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late attempt that is believed, a report or a plan that counts twice, a row that no event explains."""
    harm(monkeypatch)
    sloppy = settings(
        USUAL, max_examples=400, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False
    )
    # The last one: a second row of an attempt, which the store itself refuses.
    with pytest.raises((AssertionError, ValueError, sqlite3.IntegrityError)):
        run_state_machine_as_test(Lives, settings=sloppy)
