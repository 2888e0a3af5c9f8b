"""Let a person steer a run: rules of the machine."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from supervisor.daemon.experiments.experiment_state import ExperimentState
from supervisor.daemon.run_selection import try_again
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.early_ends import Named
from supervisor.domain.scope import ALL_NODES, trial_scope
from supervisor.errors import Conflict
from supervisor.store.steering.extended_trials import ExtendedTrials
from supervisor.store.steering.retry_writer import RetryWriter
from supervisor.store.steering.steer_writer import PlanChange, SteerWriter
from tests.unit.lifecycle.death_rules import NODE, DeathRules
from tests.unit.lifecycle.run_facts import EXPERIMENTS, FINAL, MAX_TRIALS, OVER


class PersonRules(DeathRules):
    """The rules of what a person asks for."""

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
        """Kill the driver at work, and let its runner move the experiment on, as Steering does."""
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
