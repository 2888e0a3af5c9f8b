"""Rebuild the store at each event of a long run, from the log so far.

The run is real: writers, experiment state, commands in force, audit log with rotation, recovery and every verb.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit import evidence, invariants, rebuild, rotation
from supervisor.domain.command import Action
from supervisor.domain.lifecycle import FINISH
from supervisor.domain.scope import ALL_NODES, trial_scope
from supervisor.home import Home
from supervisor.store import lookups, queries
from supervisor.store.database import read_only
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.event import Event
from tests.unit.audit.rebuild_home import OPENING, RESULT
from tests.unit.lifecycle.death_rules import MAX_RUNS
from tests.unit.lifecycle.one_home import HandSetClock
from tests.unit.lifecycle.run_facts import EXPERIMENTS, MAX_TRIALS
from tests.unit.lifecycle.test_lifecycle_machine import Lives

EVENTS, MOST_EVENTS = 400, 2000
"""The events of the run: at least so many, and more until each kind that matters is there."""
WANTED = {
    "driver.stopped", "experiment.failed", "experiment.finished", "experiment.stopped", "daemon.recovered",
    "run.paused", "run.resumed", "run.stopped", "run.abandoned", "run.finished", "governor.forced", "test.scored",
    "trial.requeued", "experiment.skipped", "experiment.finish_asked", "experiment.search_ended",
    "experiment.extended", "finalisation.set_aside", "trial.extended",
}  # fmt: skip
ERROR = "Traceback (most recent call last):\n  in x\nValueError: no good"

Tables = dict[str, Any]


class LongLife(Lives):
    """A life that remembers the tables of every run after each transaction, by the number of its last event."""

    def __init__(self, seed: int) -> None:
        self.tables: dict[int, Tables] = {}
        self.names: set[str] = set()
        self.named_up_to = 0
        self.choose = random.Random(seed)
        super().__init__()
        self.start()

    def told(self, event: Event) -> None:
        super().told(event)
        # Also those of a start before there was a log to write to.
        self.names.update(earlier.name for earlier in self.store.events_after(self.named_up_to))
        self.named_up_to = event.seq
        if event.seq == self.last_seq():
            ids = lookups.run_ids(self.store)
            self.tables[event.seq] = {run: queries.tables_of(self.store.connection, run) for run in ids}

    def step(self) -> None:
        """Do one of the things that can happen now."""
        choose = self.choose
        if not self.alive:
            anew = len(self.world.runs) < MAX_RUNS
            self.start_again(choose.choice(["named", "named", "retry", "anew" if anew else "named"]), 1.0)
            return
        actions: list[Callable[[], object]] = [self.an_operator_acts, self.drill, self.a_search_comes_to_its_end]
        actions += [self.a_person_wants_another_choice, self.a_person_wants_more_epochs]
        if self.waiting:
            actions += [self.an_operator_overrules_the_governor] * 6
        elif self.state is None:
            actions += [lambda: self.begin_experiment(skip=choose.random() < 0.2)] * 3 if self.left else []
        else:
            work = [self.a_trial_goes_on] * 10
            actions += [*work, self.the_governor_acts, self.the_driver_dies, self.it_is_tested, self.it_ends]
            actions += [lambda: self.the_finalisation_begins(choose.random() < 0.5)] * 2 if not self.waiting else []
        actions += [self.kill, lambda: self.stop_or_shut_down(choose.random() < 0.5)]
        choose.choice(actions)()

    def a_trial_goes_on(self) -> None:
        self.a_trial_works(self.choose.randrange(MAX_TRIALS), self.choose.randrange(1, 5), self.choose.random() < 0.4)

    def a_search_comes_to_its_end(self) -> None:
        self.a_person_asks_to_finish(self.choose.choice(EXPERIMENTS))
        if self.alive and self.state and not self.waiting and self.trials:
            self.the_search_ends(FINISH, 0)

    def a_person_wants_another_choice(self) -> None:
        name = self.choose.choice(EXPERIMENTS)
        if self.choose.random() < 0.5:
            self.a_person_extends_an_experiment(name, 1)
        else:
            self.a_person_discards_or_restores_a_trial(name, 0, self.choose.random() < 0.5)

    def a_person_wants_more_epochs(self) -> None:
        name, number = self.choose.choice(EXPERIMENTS), self.choose.choice([0, 1])
        self.a_person_extends_a_trial(name, number, 2, self.choose.random() < 0.5)

    def the_governor_acts(self) -> None:
        action = self.choose.choice([Action.RUN, Action.PAUSE, Action.STOP])
        self.the_governor_says(action, drill=False)
        if action is Action.STOP:
            self.the_driver_dies()

    def an_operator_acts(self) -> None:
        if self.world.run.commands and self.choose.random() < 0.5:
            scope = self.choose.choice(sorted(self.world.run.commands))
            self.do(lambda: self.writer.drop_command(scope, "ann"), lambda world: world.resume(scope))
            self.settle()
        else:
            scope = self.choose.choice([ALL_NODES, trial_scope("a", 0)])
            self.pause(scope, self.choose.choice([Action.HOLD, Action.PAUSE]))

    def it_is_tested(self) -> None:
        answers = EvaluationWriter(self.store, self.writer.run_id)
        name = self.current
        assert name is not None
        if not answers.scored(name) and lookups.test(self.store, self.writer.run_id, name) is None:
            self.do(lambda: answers.open_test(name, OPENING), lambda world: world.read_the_test(name))
            self.do(lambda: answers.keep_result(name, RESULT), lambda world: None)

    def it_ends(self) -> None:
        self.the_experiment_ends(self.choose.choice([None, None, None, ERROR]))

    def lines(self) -> list[bytes]:
        return [line for part in rotation.all_parts(self.home.audit_log("p")) for line in rotation.lines_of(part)]


@pytest.fixture(scope="module", params=[2])
def life(request: pytest.FixtureRequest) -> Iterator[LongLife]:
    found = LongLife(request.param)
    try:
        while not found.alive or found.last_seq() < (EVENTS if found.names >= WANTED else MOST_EVENTS):
            found.step()
        yield found
    finally:
        found.teardown()


def test_the_long_run_has_every_kind_of_event_that_matters(life: LongLife) -> None:
    """Else the test below would show less than it says."""
    names = {event.name for event in life.store.events_after(0)}
    assert names >= WANTED
    assert any(
        "\n" in event.fields["error"] for event in life.store.events_after(0) if event.name == "experiment.failed"
    )
    assert len(rotation.all_parts(life.home.audit_log("p"))) > 3


@pytest.mark.parametrize("stride", [23, pytest.param(1, marks=pytest.mark.slow)])
def test_the_log_up_to_any_event_rebuilds_the_store_of_that_moment(life: LongLife, stride: int, tmp_path: Path) -> None:
    lines = life.lines()
    assert len(life.tables) > EVENTS * 0.6
    for seq in sorted(life.tables)[::stride]:
        home = Home(tmp_path / str(seq))
        for folder in (home.state, home.logs):
            folder.mkdir(parents=True)
        home.audit_log("p").write_bytes(b"".join(lines[:seq]))
        assert rebuild.rebuild(home, HandSetClock(), "a test").problems == []
        with read_only(home.store) as connection:
            for run, tables in life.tables[seq].items():
                assert queries.tables_of(connection, run) == tables, f"after event {seq}"
                verdicts = invariants.check(evidence.gather(home, connection, run))
                assert [verdict for verdict in verdicts if not verdict.holds] == [], f"after event {seq}"
