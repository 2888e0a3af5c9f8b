"""Let a driver speak of its trials: rules of the machine."""

from __future__ import annotations

from typing import Any

from hypothesis import strategies as st
from hypothesis.stateful import (
    precondition,
    rule,
)

from supervisor.domain import messages
from supervisor.domain.finalists import after_search
from supervisor.domain.lifecycle import (
    SUCCEEDED,
    EndReason,
)
from supervisor.store import lookups, queries
from supervisor.store.evaluation_writer import EvaluationWriter
from tests.unit.lifecycle.run_facts import MAX_TRIALS
from tests.unit.lifecycle.work_rules import WorkRules
from tests.unit.store.evaluation_stage import OPENING, RESULT


class Rules(WorkRules):
    """All rules of a run, which the machine plays in any order."""

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
