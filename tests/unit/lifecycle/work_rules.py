"""Begin and end experiments: rules of the machine."""

from __future__ import annotations

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from supervisor.daemon.cluster import NodeView
from supervisor.daemon.experiments.experiment_hours import pass_on
from supervisor.daemon.experiments.experiment_state import MAX_HOURS_REACHED, ExperimentState
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import (
    EARLY,
    ProcessState,
    check_process_move,
)
from supervisor.formatting import error_sentence
from tests.unit.lifecycle.death_rules import NODE
from tests.unit.lifecycle.person_rules import PersonRules
from tests.unit.lifecycle.run_facts import EXPERIMENTS


class WorkRules(PersonRules):
    """The rules of an experiment and its driver's life."""

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
        assert name is not None
        self.cluster.nodes.setdefault(NODE, NodeView())
        self.do(lambda: self.commands.action_changed(message, name), self._settled)

    @precondition(lambda self: self.alive and self.state and not self.waiting)
    @rule()
    def the_driver_dies(self) -> None:
        """Continue as ExperimentRunner does: await an operator after a governor's STOP, else start another driver."""
        state, stop = self.state, self.commands.governors_stop
        assert state is not None
        self.cluster.driver_gone(state.name)
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
        assert self.state is not None
        self.cluster.driver_gone(self.state.name)
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


def _may_move(old: ProcessState, new: ProcessState) -> bool:
    try:
        check_process_move(old, new)
    except ValueError:
        return False
    return True
