"""Any life of a run, in any order: verbs, governors, driver messages, kills, full and broken disks, lost stores.

A Hypothesis state machine over the real store, audit log, writers, experiment state and commands in force, compared
with a model that knows none of them.
"""

from __future__ import annotations

import shutil
import sys
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)

from supervisor import failpoints
from supervisor.audit import evidence, invariants
from supervisor.daemon.cluster import NodeView
from supervisor.daemon.experiments import experiment_state
from supervisor.daemon.experiments.experiment_state import MAX_HOURS_REACHED, ExperimentState
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import (
    SUCCEEDED,
    EndReason,
    ProcessState,
    TrialState,
    check_process_move,
    check_trial_move,
)
from supervisor.domain.scope import ALL_NODES, trial_scope
from supervisor.store import lookups, projection, queries, trial_writer
from supervisor.store.database import read_only
from supervisor.store.projection import EXPERIMENT_STATES
from supervisor.store.run_writer import RunWriter
from tests.unit.store.lifecycle_home import OneHome
from tests.unit.store.lifecycle_model import EXPERIMENTS, MAX_TRIALS, read_world

MAX_RUNS = 3
NODE = "n" * 56
POINTS = [
    (point, fault)
    for point, faults in failpoints.POINTS.items()
    for fault in faults
    if point.split(".")[0] in ("store", "audit", "rotate", "rebuild")
]
HOUR_S = 3600.0
STATE_OF = {
    "trial.started": TrialState.RUNNING, "trial.paused": TrialState.PAUSED, "trial.resumed": TrialState.RUNNING,
    "trial.requeued": TrialState.PENDING, "trial.finished": TrialState.TERMINATED, "trial.failed": TrialState.ERROR,
}  # fmt: skip


class Lives(OneHome):
    """What may happen in it, and what must hold after each step."""

    # Rules: starting

    @initialize()
    def first_start(self) -> None:
        self.start()

    @precondition(lambda self: not self.alive)
    @rule(how=st.sampled_from(["named", "unnamed", "named", "unnamed", "anew", "retry"]), hours=st.floats(-48.0, 48.0))
    def start_again(self, how: str, hours: float) -> None:
        """Perhaps after somebody set the clock, or a long sleep."""
        self.clock.now += hours * HOUR_S
        full = how == "anew" and len(self.world.runs) >= MAX_RUNS
        # The run before the last is not this machine's business.
        given_up = how == "retry" and any(world.run.given_up for world in self.worlds if world.runs)
        self.start("named" if full or given_up else how)

    # Rules: deaths and damage

    @precondition(lambda self: self.alive)
    @rule(where=st.sampled_from(POINTS), hit=st.integers(1, 4))
    def arm(self, where: tuple[str, str], hit: int) -> None:
        self.bomb = (*where, hit)

    @precondition(lambda self: self.alive)
    @rule(full=st.booleans())
    def disk_of_the_log(self, full: bool) -> None:
        self.log_full = full

    @precondition(lambda self: self.alive)
    @rule()
    def kill(self) -> None:
        self._dead()

    @precondition(lambda self: not self.alive and not self.damaged)
    @rule(
        how=st.sampled_from(["torn line", "shorter log", "store gone", "no store", "cut store", "old store"]),
        data=st.binary(min_size=1, max_size=80),
        lines=st.integers(1, 5),
    )
    def damage(self, how: str, data: bytes, lines: int) -> None:
        """What a power cut or a clumsy hand does; one thing a death, and never both witnesses of one result."""
        self.damaged = True
        path = self.home.audit_log("p")
        if how == "torn line":
            path.write_bytes(path.read_bytes() + data.replace(b"\n", b"-"))
        elif how == "shorter log":
            path.write_bytes(b"".join(path.read_bytes().splitlines(keepends=True)[:-lines]))
        elif self._log_is_complete():
            self._lose_store(how)

    @precondition(lambda self: self.alive and not self.log_full)
    @rule()
    def copy_the_store(self) -> None:
        self.copy = self.folder / "copy.db"
        self.copy.unlink(missing_ok=True)
        self.store.back_up(self.copy)

    # Rules: the operator

    @precondition(lambda self: self.alive)
    @rule(
        scope=st.sampled_from([ALL_NODES, NODE, trial_scope("a", 0), trial_scope("b", 1)]),
        action=st.sampled_from([Action.HOLD, Action.PAUSE]),
    )
    def pause(self, scope: str, action: Action) -> None:
        command = Command(action, Origin.OPERATOR, "a call", scope, self.clock.wall_s(), who="ann")
        self.do(lambda: self.ledger.put_command(command, "now"), lambda world: world.pause(scope, action.name))
        self.settle()

    @precondition(lambda self: self.alive and self.world.run.commands)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(sorted(self.world.run.commands)))
        self.do(lambda: self.ledger.drop_command(scope, "ann"), lambda world: world.resume(scope))
        self.settle()

    @precondition(lambda self: self.alive)
    @rule()
    def drill(self) -> None:
        told = {"name": "heat", "duration_s": 3.0, "node": None, "drill": True}
        self.do(lambda: self.ledger.record("drill.started", **told), lambda world: None)

    @precondition(lambda self: self.alive)
    @rule(stop=st.booleans())
    def stop_or_shut_down(self, stop: bool) -> None:
        if stop:
            self.do(lambda: self.ledger.record("run.stopped", who="ann"), lambda world: world.desire("stop"))
        state = self.state
        if self.alive and state is not None:
            self.conduct(lambda: state.stop("shut down"), lambda world: world.stop(state.name))
        for state in ("STOPPING", "STOPPED"):
            self.move_run("run.moved", state=state)
        if self.alive:
            self.do(lambda: self.ledger.record("daemon.stopped", reason="shut down"), lambda world: None)
        self._dead()

    # Rules: an experiment

    @precondition(lambda self: self.alive and self.state is None and self.left)
    @rule(skip=st.sampled_from([False, False, False, True]))
    def begin_experiment(self, skip: bool) -> None:
        state = self.state = ExperimentState(self.left[0], self.ledger, self.clock, self.home)
        if skip:
            self.conduct(lambda: state.skip("too large"), lambda world: world.move(state.name, "SKIPPED"))
            self._experiment_is_over()
        else:
            self.drive()

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule(action=st.sampled_from([Action.RUN, Action.PAUSE, Action.STOP]), drill=st.booleans())
    def the_governor_says(self, action: Action, drill: bool) -> None:
        command = Command(action, Origin.GOVERNOR, "92 C", NODE, drill=drill)
        message = messages.ActionChanged(NODE, command.to_json())
        self.governor, name = action.name, self.current
        self.cluster.nodes.setdefault(NODE, NodeView())
        self.do(lambda: self.commands.action_changed(message, name), self._settled)

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule()
    def the_driver_dies(self) -> None:
        """As ExperimentRunner: after the governor's STOP an operator is awaited, else another driver starts."""
        state, stop = self.state, self.commands.governors_stop
        assert state is not None
        self.cluster.driver_gone()
        self.governor = "RUN"
        if stop is None:
            self.conduct(lambda: state.back_off(1, "signal SIGKILL"), lambda world: world.back_off(state.name))
            if self.alive and self.state is state:
                self.drive()
        else:
            self.waiting = True
            self.conduct(lambda: state.await_operator(stop), lambda world: world.await_operator(state.name))

    @precondition(lambda self: self.alive and self.waiting)
    @rule()
    def an_operator_overrules_the_governor(self) -> None:
        self.do(lambda: self.commands.force(None, "ann"), lambda world: None)
        if self.alive:
            self.drive()

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule(
        error=st.sampled_from(
            [None, None, "no good", "Traceback (most recent call last):\n  in x\nValueError: no good"]
        )
    )
    def the_experiment_ends(self, error: str | None) -> None:
        state = self.state
        assert state is not None
        if error is None and len(self.trials) < MAX_TRIALS:
            return
        if error is None:
            self.conduct(lambda: state.end(None), lambda world: world.end(state.name, MAX_HOURS_REACHED))
        else:
            self.conduct(lambda: state.end(error), lambda world: world.fail(state.name, error.splitlines()[-1]))
        self._experiment_is_over()

    def _experiment_is_over(self) -> None:
        self.cluster.driver_gone()
        self.state, self.governor = None, "RUN"
        if self.alive and not self.left:
            self.move_run("run.finished", passed=1, failed=1, skipped=0, seconds=1.0)
            self._dead()

    @precondition(lambda self: self.alive and self.left)
    @rule(data=st.data())
    def no_move_that_lifecycle_does_not_know(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(EXPERIMENTS))
        old = ProcessState(self.world.run.experiments[name].state)
        unknown = [new for new in ProcessState if not _may_move(old, new)]
        seq = self._last_seq()
        with pytest.raises(ValueError, match="cannot go"):
            self.ledger.move_experiment(name, data.draw(st.sampled_from(unknown)))
        assert self._last_seq() == seq

    # Rules: what the driver says

    @precondition(lambda self: self.alive and self.left)
    @rule(number=st.integers(0, MAX_TRIALS - 1), epochs=st.integers(1, 4), goes=st.booleans())
    def a_trial_works(self, number: int, epochs: int, goes: bool) -> None:
        """As a driver should: added, started from its checkpoint, an epoch after the other; perhaps to its end."""
        if self.waiting:
            return
        if self.state is None:
            self.begin_experiment(skip=False)
        while self.alive and self.current and len(self.trials) <= number:
            self.added({"lr": 0.1})
        said: list[Any] = []
        if self.alive and not (trial := self.trials[number]).over:
            if not trial.live:
                said.append(messages.TrialStarted(number, trial.attempt + 1, "ray", "node", 42, trial.checkpoint_step))
            attempt = trial.attempt + (not trial.live)
            begun = self.reached(number, attempt) if trial.live else trial.checkpoint_step or 0
            steps = range(begun + 1, begun + 1 + epochs)
            said += [self.report(number, attempt, step, 1.0 / step) for step in steps]
            said += [messages.TrialEnded(number, attempt, "finished", 0.5, None, {})] if goes else []
        for message in said:
            if self.alive:
                self.tell(message)

    @precondition(lambda self: self.alive and self.current)
    @rule(params=st.dictionaries(st.text(max_size=3), st.floats(-1e300, 1e300) | st.integers(), max_size=2))
    def added(self, params: dict[str, Any]) -> None:
        number = min(len(self.trials), MAX_TRIALS - 1)
        self.tell(messages.TrialAdded(number, params, "sampled"))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), skip=st.sampled_from([1, 1, 1, 0, 2, -1]), back=st.sampled_from([0, 0, 1]))
    def started(self, data: st.DataObject, skip: int, back: int) -> None:
        """From its last checkpoint, or where that is damaged from the one before."""
        number = data.draw(st.sampled_from(sorted(self.trials)))
        trial = self.trials[number]
        resumed = None if trial.checkpoint_step is None else max(1, trial.checkpoint_step - back)
        self.tell(messages.TrialStarted(number, trial.attempt + skip, "ray", "node", 42, resumed))

    @precondition(lambda self: self.alive and self.trials)
    @rule(
        data=st.data(),
        late=st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
        ahead=st.sampled_from([1, 1, 1, 0]),
        value=st.none() | st.floats(-9.0, 9.0),
    )
    def reported(self, data: st.DataObject, late: int, ahead: int, value: float | None) -> None:
        """The epoch after the one that its attempt has reached, or that one again with another value."""
        number = data.draw(st.sampled_from(sorted(self.trials)))
        attempt = self.trials[number].attempt - late
        self.tell(self.report(number, attempt, max(1, ahead + self.reached(number, attempt)), value))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), late=st.sampled_from([0, 0, 0, 1, -1]), state=st.sampled_from(["PAUSED", "RUNNING"]))
    def held(self, data: st.DataObject, late: int, state: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        self.tell(messages.TrialHeld(number, self.trials[number].attempt - late, state, "too hot"))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), late=st.sampled_from([0, 0, 0, 1, -1]), reason=st.sampled_from(list(EndReason)))
    def ended(self, data: st.DataObject, late: int, reason: EndReason) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        error = None if reason in SUCCEEDED else "in x\nit broke"
        self.tell(messages.TrialEnded(number, self.trials[number].attempt - late, reason, 0.5, error, {"n": 1}))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), late=st.sampled_from([0, 0, 0, 1, -1]))
    def lost(self, data: st.DataObject, late: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        self.tell(messages.AttemptLost(number, self.trials[number].attempt - late, "worker_died", "SIGKILL"))

    @precondition(lambda self: self.alive and self.current and self.said)
    @rule(data=st.data())
    def said_again(self, data: st.DataObject) -> None:
        """Doubled, late and out of order: a message of this driver comes once more."""
        self.tell(data.draw(st.sampled_from(list(self.said))))

    # What holds after each step

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
                projection.replay(self.beside, event)
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
        """By what was told since the last look, an event at a time."""
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
        """Of each run: chain, events, replay, results, attempts, ends, causes, counts, checkpoints, epochs."""
        self._dead()
        self.start()
        self.everything_acknowledged_is_there_once()
        runs = [row["id"] for row in self.store.rows("SELECT id FROM run")]
        self._dead()
        with read_only(self.home.store) as connection:
            for run in runs:
                verdicts = invariants.check(evidence.gather(self.home, connection, run))
                assert [verdict for verdict in verdicts if not verdict.holds] == []


def _may_move(old: ProcessState, new: ProcessState) -> bool:
    try:
        check_process_move(old, new)
    except ValueError:
        return False
    return True


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
    run_state_machine_as_test(Lives, settings=settings(USUAL, max_examples=400, stateful_step_count=120))


def _no_fence(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(trial_writer, "why_refused", lambda row, message: None)


def _the_last_report_counts(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(lookups, "first_attempt", lambda *_: None)
    real = projection._Rows.execute
    patch.setattr(
        projection._Rows,
        "execute",
        lambda self, sql, *values: real(self, sql.replace("INSERT INTO result", "REPLACE INTO result"), *values),
    )


def _a_stop_is_a_back_off(patch: pytest.MonkeyPatch) -> None:
    patch.setitem(projection.EXPERIMENT_STATES, "driver.stopped", ProcessState.BACKOFF)


def _a_failure_keeps_its_whole_text(patch: pytest.MonkeyPatch) -> None:
    patch.setattr(experiment_state, "in_a_line", lambda error: error)


def _a_table_is_written_beside_the_projection(patch: pytest.MonkeyPatch) -> None:
    real = RunWriter.requeue_live_trials

    def requeue(self: RunWriter, name: str, cause: str) -> int:
        with self.store.change(self.run_id) as change:
            change.execute("UPDATE experiment SET reason = ? WHERE name = ?", "a note", name)
        return real(self, name, cause)

    patch.setattr(RunWriter, "requeue_live_trials", requeue)


@pytest.mark.parametrize(
    "harm",
    [
        _no_fence,
        _a_stop_is_a_back_off,
        _a_failure_keeps_its_whole_text,
        pytest.param(_the_last_report_counts, marks=pytest.mark.slow),
        pytest.param(_a_table_is_written_beside_the_projection, marks=pytest.mark.slow),
    ],
)
def test_the_machine_finds_a_broken_rule(
    harm: Callable[[pytest.MonkeyPatch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    """A late attempt that is believed, a second report that replaces the first, a row that no event explains."""
    harm(monkeypatch)
    sloppy = settings(
        USUAL, max_examples=100, derandomize=True, database=None, phases=[Phase.generate], report_multiple_bugs=False
    )
    with pytest.raises((AssertionError, ValueError)):
        run_state_machine_as_test(Lives, settings=sloppy)
