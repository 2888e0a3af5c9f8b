"""Define the events of a run's life: the rules of test_lifecycle_machine."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    initialize,
    precondition,
    rule,
)

from supervisor import failpoints
from supervisor.daemon.cluster import NodeView
from supervisor.daemon.experiments.experiment_hours import pass_on
from supervisor.daemon.experiments.experiment_state import MAX_HOURS_REACHED, ExperimentState
from supervisor.daemon.run_selection import try_again
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.early_ends import Named
from supervisor.domain.finalists import after_search
from supervisor.domain.lifecycle import (
    EARLY,
    SUCCEEDED,
    EndReason,
    ProcessState,
    check_process_move,
)
from supervisor.domain.scope import ALL_NODES, trial_scope
from supervisor.errors import Conflict
from supervisor.formatting import error_sentence
from supervisor.store import lookups, queries
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.steering.extended_trials import ExtendedTrials
from supervisor.store.steering.retry_writer import RetryWriter
from supervisor.store.steering.steer_writer import PlanChange, SteerWriter
from tests.unit.store.evaluation_stage import OPENING, RESULT
from tests.unit.store.lifecycle_home import OneHome
from tests.unit.store.lifecycle_model import EXPERIMENTS, FINAL, MAX_TRIALS, OVER

MAX_RUNS = 3
NODE = "n" * 56
POINTS = [
    (point, fault)
    for point, faults in failpoints.POINTS.items()
    for fault in faults
    if point.split(".")[0] in ("store", "audit", "rotate", "rebuild")
]
HOUR_S = 3600.0


class Rules(OneHome):
    """The rules, which the machine plays in any order."""

    # Rules: starting

    @initialize()
    def first_start(self) -> None:
        self.start()

    @precondition(lambda self: not self.alive)
    @rule(how=st.sampled_from(["named", "unnamed", "named", "unnamed", "anew", "retry"]), hours=st.floats(-48.0, 48.0))
    def start_again(self, how: str, hours: float) -> None:
        """Let time pass: the clock may be set, or the machine may sleep."""
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
        """Damage a file of a dead daemon, as a power cut may; never both copies of one result."""
        path = self.home.audit_log("p")
        if not path.exists():
            return  # its daemon died while it rotated the log
        self.damaged = True
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
        self.do(lambda: self.writer.put_command(command, "now"), lambda world: world.pause(scope, action.name))
        self.settle()

    @precondition(lambda self: self.alive and self.world.run.commands)
    @rule(data=st.data())
    def resume(self, data: st.DataObject) -> None:
        scope = data.draw(st.sampled_from(sorted(self.world.run.commands)))
        self.do(lambda: self.writer.drop_command(scope, "ann"), lambda world: world.resume(scope))
        self.settle()

    @precondition(lambda self: self.alive)
    @rule(name=st.none() | st.sampled_from(EXPERIMENTS), number=st.none() | st.integers(0, MAX_TRIALS + FINAL))
    def a_person_asks_for_another_try(self, name: str | None, number: int | None) -> None:
        writer = RetryWriter(self.store, self.writer.run_id)
        number = None if name is None else number
        if self.world.copy().try_again(name, number):
            self.do(lambda: try_again(writer, "ann", name, number), lambda world: world.try_again(name, number))
            if self.alive:
                self._forget_retried()
            return
        seq = self.last_seq()
        with pytest.raises(Conflict):
            try_again(writer, "ann", name, number)
        assert self.last_seq() == seq

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS))
    def a_person_asks_to_finish(self, name: str) -> None:
        fields = {"experiment": name, "who": "ann"}
        self.do(lambda: self.writer.record("experiment.finish_asked", **fields), lambda world: world.finish(name))

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS), number=st.integers(0, MAX_TRIALS + FINAL))
    def a_person_ends_a_trial(self, name: str, number: int) -> None:
        writer, one = SteerWriter(self.store, self.writer.run_id), Named(name, number)
        if self.world.may_end(name, number):
            self.do(lambda: writer.end_trials([one], "ann"), lambda world: world.ask_end(name, number))
        else:
            self._refused(lambda: writer.end_trials([one], "ann"))

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS))
    def a_person_leaves_an_experiment_out(self, name: str) -> None:
        """As Steering does: the driver at work is killed, and its runner moves the experiment on."""
        writer, one = SteerWriter(self.store, self.writer.run_id), Named(name)
        if not self.world.may_leave_out(name):
            self._refused(lambda: writer.leave_out([one], "ann"))
            return
        self.do(lambda: writer.leave_out([one], "ann"), lambda world: world.ask_skip(name))
        if self.alive:
            self._leave_out(name)

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS), at_once=st.integers(1, 4), policy=st.booleans())
    def a_person_changes_the_plan(self, name: str, at_once: int, policy: bool) -> None:
        writer = SteerWriter(self.store, self.writer.run_id)
        hardware = {"release_after_s": 60.0 * at_once} if policy else None
        changes = PlanChange([f"concurrency={at_once}"], {name: {"concurrency": at_once}}, hardware)
        if self.world.run.experiments[name].state in OVER:
            self._refused(lambda: writer.change_plan([Named(name)], changes, "ann"))
            return
        self.do(
            lambda: writer.change_plan([Named(name)], changes, "ann"), lambda world: world.change_plan(name, at_once)
        )  # fmt: skip

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS))
    def a_person_enqueues_a_point(self, name: str) -> None:
        writer, points = SteerWriter(self.store, self.writer.run_id), {name: {"lr": 0.5}}
        if self.world.may_enqueue(name):
            self.do(lambda: writer.enqueue(points, "ann"), lambda world: world.enqueue(name))
        else:
            self._refused(lambda: writer.enqueue(points, "ann"))

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS), number=st.integers(0, MAX_TRIALS + FINAL), restore=st.booleans())
    def a_person_discards_or_restores_a_trial(self, name: str, number: int, restore: bool) -> None:
        writer, found = SteerWriter(self.store, self.writer.run_id), [Named(name, number)]
        if self.world.may_discard(name, number, restore):
            self.do(
                lambda: writer.discard(found, "ann", restore=restore),
                lambda world: world.discard(name, number, restore),
            )
        else:
            self._refused(lambda: writer.discard(found, "ann", restore=restore))

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS))
    def a_person_lets_an_experiment_begin_next(self, name: str) -> None:
        writer, found, at_work = SteerWriter(self.store, self.writer.run_id), [Named(name)], self.current
        if self.world.may_put_next(name) and name != at_work:
            self.do(lambda: writer.put_next(found, at_work, "ann"), lambda world: world.let_begin_next(name))
        else:
            self._refused(lambda: writer.put_next(found, at_work, "ann"))

    @precondition(lambda self: self.alive)
    @rule(name=st.sampled_from(EXPERIMENTS), more=st.integers(1, 2))
    def a_person_extends_an_experiment(self, name: str, more: int) -> None:
        writer = SteerWriter(self.store, self.writer.run_id)
        if self.world.may_extend(name):
            self.do(lambda: writer.extend({Named(name): more}, 0.0, "ann"), lambda world: world.extend(name, more))
        else:
            self._refused(lambda: writer.extend({Named(name): more}, 0.0, "ann"))

    @precondition(lambda self: self.alive)
    @rule(
        name=st.sampled_from(EXPERIMENTS), number=st.integers(0, MAX_TRIALS + FINAL), epochs=st.integers(1, 3),
        anew=st.booleans(),
    )  # fmt: skip
    def a_person_extends_a_trial(self, name: str, number: int, epochs: int, anew: bool) -> None:
        writer, more = ExtendedTrials(self.store, self.writer.run_id), {Named(name, number): epochs}
        if not self.world.may_train_on(name, number, anew):
            self._refused(lambda: writer.extend(more, "ann", anew=anew))
            return
        self.do(
            lambda: writer.extend(more, "ann", anew=anew), lambda world: world.train_on(name, number, epochs, anew)
        )  # fmt: skip
        if self.alive:
            self._forget_retried()

    def _leave_out(self, name: str) -> None:
        at_work = name == self.current
        state = ExperimentState(name, self.writer, self.clock, self.home)
        self.conduct(state.leave_out, lambda world: world.leave_out(name))
        if self.alive and (at_work or (self.state is None and not self.left)):
            self._experiment_is_over()

    def _refused(self, ask: Callable[[], object]) -> None:
        """Check that a request is refused, and leaves no event."""
        seq = self.last_seq()
        with pytest.raises(Conflict):
            ask()
        assert self.last_seq() == seq

    @precondition(lambda self: self.alive)
    @rule()
    def drill(self) -> None:
        fields = {"name": "heat", "duration_s": 3.0, "node": None, "drill": True}
        self.do(lambda: self.writer.record("drill.started", **fields), lambda world: None)

    @precondition(lambda self: self.alive)
    @rule(stop=st.booleans())
    def stop_or_shut_down(self, stop: bool) -> None:
        if stop:
            self.do(lambda: self.writer.record("run.stopped", who="ann"), lambda world: world.desire("stop"))
        state = self.state
        if self.alive and state is not None:
            self.conduct(lambda: state.stop("shut down"), lambda world: world.stop(state.name))
        for state in ("STOPPING", "STOPPED"):
            self.move_run("run.moved", state=state)
        if self.alive:
            self.do(lambda: self.writer.record("daemon.stopped", reason="shut down"), lambda world: None)
        self._dead()

    # Rules: an experiment

    @precondition(lambda self: self.alive and self.state is None and self.left)
    @rule(skip=st.sampled_from([False, False, False, True]))
    def begin_experiment(self, skip: bool) -> None:
        if self.left[0] in self.world.run.left_out:
            self._leave_out(self.left[0])  # a kill came between the wish and the move
            return
        state = self.state = ExperimentState(self.left[0], self.writer, self.clock, self.home)
        if skip:
            self.conduct(lambda: state.skip("too large"), lambda world: world.move(state.name, "SKIPPED"))
            self._experiment_is_over()
            return
        self.conduct(lambda: pass_on(self.writer, state.name), lambda world: None)
        if self.alive and self.state is state:
            self.drive()

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule(
        action=st.sampled_from([Action.RUN, Action.PAUSE, Action.STOP, Action.STOP, Action.SHED]), drill=st.booleans()
    )
    def the_governor_says(self, action: Action, drill: bool) -> None:
        command = Command(action, Origin.GOVERNOR, "92 C", NODE, drill=drill)
        message = messages.ActionChanged(NODE, command.to_json())
        self.governor, name = action.name, self.current
        self.cluster.nodes.setdefault(NODE, NodeView())
        self.do(lambda: self.commands.action_changed(message, name), self._settled)

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule()
    def the_driver_dies(self) -> None:
        """Continue as ExperimentRunner does: await an operator after a governor's STOP, else start another driver."""
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
        if error is None and not self.world.may_end_well(state.name):
            return
        if error is None:
            self.conduct(lambda: state.end(None), lambda world: world.end(state.name, MAX_HOURS_REACHED))
        else:
            self.conduct(lambda: state.end(error), lambda world: world.fail(state.name, error_sentence(error)))
        self._experiment_is_over()

    def _experiment_is_over(self) -> None:
        self.cluster.driver_gone()
        self.state, self.governor = None, "RUN"
        if self.alive and not self.left:
            self.move_run("run.finished", passed=1, failed=1, skipped=0, seconds=1.0)
            if self.alive:
                self.run_is_over()

    @precondition(lambda self: self.alive and self.state and not self.waiting and self.trials)
    @rule(reason=st.sampled_from(EARLY), more=st.sampled_from([0, 0, 1]))
    def the_search_ends(self, reason: str, more: int) -> None:
        """Say so once or twice; a driver that counts other trials than the store is not believed."""
        state, trials = self.state, len(self.trials) + more
        assert state is not None
        message = messages.SearchEnded(reason, trials, None, None)
        wrong = more or self.world.has_chosen(state.name)
        if wrong and state.name not in self.world.run.searched:
            seq = self.last_seq()
            with pytest.raises(ValueError, match="end of a search"):
                self.writer.end_search(state.name, message)
            assert self.last_seq() == seq
            return
        self.do(lambda: self.writer.end_search(state.name, message), lambda world: world.end_search(state.name, trials))

    @precondition(lambda self: self.alive and self.left)
    @rule(data=st.data())
    def no_move_that_lifecycle_does_not_know(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(EXPERIMENTS))
        old = ProcessState(self.world.run.experiments[name].state)
        unknown = [new for new in ProcessState if not _may_move(old, new)]
        seq = self.last_seq()
        with pytest.raises(ValueError, match="cannot go"):
            self.writer.move_experiment(name, data.draw(st.sampled_from(unknown)))
        assert self.last_seq() == seq

    # Rules: what the driver says

    @precondition(lambda self: self.alive and self.left)
    @rule(number=st.integers(0, MAX_TRIALS - 1), epochs=st.integers(1, 4), goes=st.booleans())
    def a_trial_works(self, number: int, epochs: int, goes: bool) -> None:
        """Add a trial, start it from its checkpoint, report epoch after epoch, and end it if it `goes`."""
        if self.waiting:
            return
        if self.state is None:
            self.begin_experiment(skip=False)
        if self.current:
            number = min(number, self.world.search(self.current) - 1)
        while self.alive and self.current and len(self.trials) <= number:
            self.added({"lr": 0.1})
        sent: list[Any] = []
        # A full disk may have kept the experiment from beginning.
        if self.alive and self.current and not (trial := self.trials[number]).over:
            if not trial.live:
                sent.append(messages.TrialStarted(number, trial.attempt + 1, "ray", "node", 42, trial.checkpoint_step))
            attempt = trial.attempt + (not trial.live)
            begun = self.reached(number, attempt) if trial.live else trial.checkpoint_step or 0
            steps = range(begun + 1, begun + 1 + epochs)
            sent += [self.report(number, attempt, step, 1.0 / step) for step in steps]
            sent += [messages.TrialEnded(number, attempt, "finished", 0.5, None, {})] if goes else []
        for message in sent:
            if self.alive:
                self.send(message)

    @precondition(lambda self: self.alive and self.current)
    @rule(params=st.dictionaries(st.text(max_size=3), st.floats(-1e300, 1e300) | st.integers(), max_size=2))
    def added(self, params: dict[str, Any]) -> None:
        assert self.current is not None
        number = min(len(self.trials), self.world.search(self.current) - 1)
        self.send(messages.TrialAdded(number, params, "sampled"))

    @precondition(lambda self: self.alive and self.current and not self.waiting)
    @rule(goes=st.booleans())
    def the_finalisation_begins(self, goes: bool) -> None:
        """End what is left of the search, then train the best again; its trial ends too if it `goes`."""
        assert self.current is not None
        for number in range(self.world.search(self.current)):
            if self.alive and self.current:
                self.a_trial_works(number, 1, True)
        if not (self.alive and self.current and self.world.may_finalise(self.current)):
            return
        run, name = self.writer.run_id, self.current
        spec = lookups.spec(self.store, run, name)
        ((number, (source, params)),) = after_search(spec, queries.trials_of(self.store.connection, run, name)).items()
        assert number == self.world.search(name), "the numbers have no gap"
        sent = [messages.TrialAdded(number, params, source), messages.TrialStarted(number, 1, "ray", "node", 42, None)]
        sent += [messages.TrialEnded(number, 1, "finished", 0.5, None, {})] if goes else []
        for message in sent:
            if self.alive:
                self.send(message)

    @precondition(lambda self: self.alive and self.current)
    @rule()
    def the_test_is_read(self) -> None:
        """Once its finalisation has ended: from then on the experiment does not choose anew."""
        assert self.current is not None
        name, chosen = self.current, [trial for trial in self.trials.values() if trial.final]
        if name in self.world.run.tested or not chosen or not all(trial.over for trial in chosen):
            return
        writer = EvaluationWriter(self.store, self.writer.run_id)
        self.do(lambda: _read_the_test(writer, name), lambda world: world.read_the_test(name))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), skip=st.sampled_from([1, 1, 1, 0, 2, -1]), back=st.sampled_from([0, 0, 1]))
    def started(self, data: st.DataObject, skip: int, back: int) -> None:
        """Start an attempt from its last checkpoint, or from the one before if that is damaged."""
        number = data.draw(st.sampled_from(sorted(self.trials)))
        trial = self.trials[number]
        resumed = None if trial.checkpoint_step is None else max(1, trial.checkpoint_step - back)
        self.send(messages.TrialStarted(number, trial.attempt + skip, "ray", "node", 42, resumed))

    @precondition(lambda self: self.alive and self.trials)
    @rule(
        data=st.data(),
        late=st.sampled_from([0, 0, 0, 0, 0, 1, -1]),
        ahead=st.sampled_from([1, 1, 1, 0]),
        value=st.none() | st.floats(-9.0, 9.0),
    )
    def reported(self, data: st.DataObject, late: int, ahead: int, value: float | None) -> None:
        """Report the next epoch of an attempt, or its last epoch again with another value."""
        number = data.draw(st.sampled_from(sorted(self.trials)))
        attempt = self.trials[number].attempt - late
        self.send(self.report(number, attempt, max(1, ahead + self.reached(number, attempt)), value))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), late=st.sampled_from([0, 0, 0, 1, -1]), state=st.sampled_from(["PAUSED", "RUNNING"]))
    def held(self, data: st.DataObject, late: int, state: str) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        self.send(messages.TrialHeld(number, self.trials[number].attempt - late, state, "too hot"))

    @precondition(lambda self: self.alive and self.trials)
    @rule(
        data=st.data(),
        late=st.sampled_from([0, 0, 0, 1, -1]),
        reason=st.sampled_from([reason for reason in EndReason if reason is not EndReason.SET_ASIDE]),
    )
    def ended(self, data: st.DataObject, late: int, reason: EndReason) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        error = None if reason in SUCCEEDED else "in x\nit broke"
        self.send(messages.TrialEnded(number, self.trials[number].attempt - late, reason, 0.5, error, {"n": 1}))

    @precondition(lambda self: self.alive and self.trials)
    @rule(data=st.data(), late=st.sampled_from([0, 0, 0, 1, -1]))
    def lost(self, data: st.DataObject, late: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.trials)))
        self.send(messages.AttemptLost(number, self.trials[number].attempt - late, "worker_died", "SIGKILL"))

    @precondition(lambda self: self.alive and self.current and self.sent)
    @rule(data=st.data())
    def said_again(self, data: st.DataObject) -> None:
        """Doubled, late and out of order: a message of this driver comes once more."""
        self.send(data.draw(st.sampled_from(list(self.sent))))


def _read_the_test(writer: EvaluationWriter, name: str) -> None:
    """Open the test and keep its result, in one step: a test that is only open may be opened again by itself."""
    with writer.store.change(writer.run_id) as change:
        change.record("test.opened", experiment=name, **OPENING, openings=1, earlier_looks=[])
        change.record(
            "test.scored", experiment=name, bce=0.6, low=0.5, high=0.7, prior=0.6, days=1, last_day="f", result=RESULT
        )


def _may_move(old: ProcessState, new: ProcessState) -> bool:
    try:
        check_process_move(old, new)
    except ValueError:
        return False
    return True
