"""The gate before OptunaSearch, with the real OptunaSearch behind it and no Ray running."""

from __future__ import annotations

import math

import optuna
import pytest
from optuna.storages import JournalStorage
from optuna.storages.journal import JournalFileBackend, JournalFileOpenLock
from ray.tune.search import Searcher

from actors.driver.commands_in_force import CommandsInForce, NodeReport
from actors.driver.search import open_search
from actors.driver.trial_registry import TrialRegistry
from actors.driver.trials_at_once import TrialsAtOnce
from actors.trial.result_keys import END, OWN_KEY, STEP
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import TrialAdded
from supervisor.domain.scope import trial_scope


class Link:
    def __init__(self):
        self.sent = []

    def send(self, message):
        self.sent.append(message)


def row(number, state="RUNNING", end_reason=None, value=None, results=(), checkpoint=None):
    return {
        "number": number, "params": {"x": 0.5}, "state": state, "end_reason": end_reason, "value": value,
        "results": [list(result) for result in results], "checkpoint": checkpoint, "attempt": 1,
    }  # fmt: skip


class Bench:
    """A search with all that it needs."""

    def __init__(self, folder, trials=(), **changes):
        self.spec = {
            "name": "s", "space": {"x": {"type": "float", "low": -1.0, "high": 1.0, "log": False}}, "metric": "loss",
            "mode": "min", "enqueue": [], "sampler": {"kind": "random", "startup_trials": 1}, "seed": 3,
            "concurrency": 3, "max_trials": 9, "finalize": None, **changes,
        }  # fmt: skip
        self.folder, self.link, self.in_force = folder, Link(), CommandsInForce("s")
        self.registry = TrialRegistry("loss", "min", trials)
        at_once = TrialsAtOnce(self.spec, self.link.send, lambda: False)
        self.search = open_search(self.spec, list(trials), folder, self.registry, self.in_force, self.link, at_once)

    def govern(self, action, shed_trials=0):
        command = Command(action, Origin.GOVERNOR, "test", shed_trials=shed_trials)
        self.in_force.report("n", NodeReport(command))

    def report(self, trial_id, *values):
        """Results as Tune hands them round: first to the searcher, then to the recorder."""
        for step, value in enumerate(values, 1):
            result = {STEP: step, "loss": value}
            self.search.on_trial_result(trial_id, result)
            self.registry.note(trial_id, result)

    def study(self):
        file = str(self.folder / "study.journal")
        storage = JournalStorage(JournalFileBackend(file, lock_obj=JournalFileOpenLock(file)))
        return optuna.load_study(study_name="s", storage=storage).trials


@pytest.fixture
def bench(tmp_path):
    return lambda trials=(), **changes: Bench(tmp_path, trials, **changes)


def test_a_suggestion_has_its_number_and_is_sent_to_the_daemon(bench):
    b = bench(enqueue=[{"x": 0.25}])
    first, second = b.search.suggest("a"), b.search.suggest("b")
    own = {"number": 0, "attempt": 1, "checkpoint": None, "reported": None, "memory": None, "spent": None}
    assert first == {"x": 0.25, OWN_KEY: {**own, "final": False}}
    assert b.link.sent == [TrialAdded(0, {"x": 0.25}, "enqueued"), TrialAdded(1, {"x": second["x"]}, "sampled")]


@pytest.mark.parametrize("action", [Action.HOLD, Action.PAUSE])
def test_no_trial_starts_while_a_command_forbids_it(bench, action):
    b = bench()
    b.govern(action)
    assert b.search.suggest("a") is None
    assert b.link.sent == []
    b.govern(Action.RUN)
    assert b.search.suggest("a") is not None


@pytest.mark.parametrize("action", [Action.SHED, Action.THROTTLE])
def test_no_trial_starts_under_an_operators_hold_while_the_governor_sheds(bench, action):
    b = bench(concurrency=3)
    b.govern(action, shed_trials=1)
    b.in_force.set_operator([Command(Action.HOLD, Origin.OPERATOR, "visitors")])
    assert b.search.suggest("a") is None
    b.in_force.set_operator([])
    assert b.search.suggest("a") is not None


def test_a_stop_ends_the_search(bench):
    b = bench()
    b.govern(Action.STOP)
    assert b.search.suggest("a") == Searcher.FINISHED
    assert b.link.sent == []


@pytest.mark.parametrize("action", [Action.SHED, Action.THROTTLE])
def test_shedding_lowers_the_concurrency_but_never_to_nothing(bench, action):
    b = bench(concurrency=3)
    b.govern(action, shed_trials=2)
    assert b.search.suggest("a") is not None
    b.registry.entry("a").running = True
    assert b.search.suggest("b") is None
    b.govern(action, shed_trials=1)
    assert b.search.suggest("b") is not None


def test_no_trial_starts_beside_one_that_must_be_alone(bench):
    """Tune starts what the search gives without asking the scheduler. One that the operator holds delays no other."""
    b = bench()
    b.search.suggest("a")
    alone = b.registry.entry("a")
    alone.memory = {"alone": True}
    assert b.search.suggest("b") is None
    b.in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "test", trial_scope("s", 0))])
    assert b.search.suggest("b") is not None
    alone.running = True
    assert b.search.suggest("c") is None
    b.registry.close("a")
    assert b.search.suggest("c") is not None


def test_after_a_restart_a_trial_that_must_be_alone_does_not_start_beside_others(bench):
    """One after another, until it has had its turn: which number comes next the study decides."""
    b = bench([row(0), {**row(1), "memory": {"alone": True}}, row(2)])
    assert b.search.suggest("a")[OWN_KEY]["number"] == 0
    assert b.search.suggest("b") is None
    b.registry.close("a")
    assert b.search.suggest("b")[OWN_KEY]["number"] == 1
    assert b.search.suggest("c") is None
    b.registry.close("b")
    assert b.search.suggest("c")[OWN_KEY]["number"] == 2
    assert b.search.suggest("d") is not None


def test_a_driver_that_is_to_finish_gets_no_more_trials(bench):
    b = bench()
    b.in_force.finish("asked to")
    assert b.search.suggest("a") == Searcher.FINISHED


def test_an_unfinished_trial_is_adopted_and_not_added_again(bench):
    """It keeps its number, parameters, checkpoint and results; its attempt is the next one."""
    b = bench([row(0, results=[(1, 3.0), (2, 2.0)], checkpoint="/run/0/checkpoint-1.pt")])
    assert b.search.suggest("a") == {
        "x": 0.5,
        OWN_KEY: {
            "number": 0,
            "attempt": 2,
            "checkpoint": "/run/0/checkpoint-1.pt",
            "reported": 2,
            "memory": None,
            "spent": None,
            "final": False,
        },
    }
    assert b.link.sent == []
    assert b.study()[0].intermediate_values == {1: 3.0, 2: 2.0}


def test_values_that_are_not_finite_do_not_reach_the_study(bench):
    b = bench()
    b.search.suggest("a")
    b.report("a", 1.0, math.nan, math.inf, 0.5)
    b.search.on_trial_complete("a", {STEP: 4, "loss": 0.5})
    [trial] = b.study()
    assert trial.intermediate_values == {1: 1.0, 4: 0.5}
    assert (trial.state.name, trial.value) == ("COMPLETE", 0.5)


def test_the_study_gets_a_finished_trial_with_its_best_value_and_its_last_step(bench):
    """Tune reports the step that ends a trial to `on_trial_complete` only."""
    b = bench()
    b.search.suggest("a")
    b.report("a", 3.0, 1.0)
    b.registry.note("a", {STEP: 3, "loss": 2.0})
    b.search.on_trial_complete("a", {STEP: 3, "loss": 2.0})
    [trial] = b.study()
    assert (trial.value, trial.intermediate_values) == (1.0, {1: 3.0, 2: 1.0, 3: 2.0})


def test_the_study_gets_a_pruned_trial_with_the_step_that_pruned_it(bench):
    b = bench()
    b.search.suggest("a")
    b.report("a", 3.0)
    b.registry.note("a", {STEP: 2, "loss": 4.0})
    b.registry.entry("a").pruned = True
    b.search.on_trial_complete("a", {STEP: 2, "loss": 4.0})
    [trial] = b.study()
    assert (trial.state.name, trial.value, trial.intermediate_values) == ("PRUNED", 4.0, {1: 3.0, 2: 4.0})


@pytest.mark.parametrize(
    "complete",
    [
        {"result": {STEP: 1, "loss": math.nan}},
        {"result": {END: "diverged", "done": True}},
        {"result": {}},
        {"error": True},
        {"result": None},
    ],
)
def test_the_study_gets_every_failure_so_that_no_trial_stays_running(bench, complete):
    b = bench()
    b.search.suggest("a")
    b.search.on_trial_complete("a", **complete)
    assert [trial.state.name for trial in b.study()] == ["FAIL"]


def test_the_searcher_saves_nothing_of_its_own(bench, tmp_path):
    b = bench()
    before = set(tmp_path.iterdir())
    b.search.save_to_dir(str(tmp_path), "session")
    b.search.save(str(tmp_path / "file"))
    assert set(tmp_path.iterdir()) == before
