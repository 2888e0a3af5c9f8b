"""Test a worker's death in the driver: its messages and its count. No Ray running."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray.exceptions import RayActorError, RayTaskError
from ray.tune.execution.tune_controller import TuneController
from ray.tune.experiment import Trial

from actors.driver import ray_private
from actors.driver.commands_in_force import CommandsInForce
from actors.driver.recorder import Recorder
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import OWN_KEY
from actors.trial.worker_exit import Death
from supervisor.domain.messages import AttemptLost, TrialEnded, TrialHung, TrialStarted

HUNG = Death("hung", "silent for 300 s; its stacks: /d", "node", 9, 300.5, 0.25, "/d")
OOM_KILLED = Death("oom_killed", "memory had run out", "node", 9)
UNKNOWN = Death(node="node")


class Link(list):
    def send(self, message):
        self.append(message)


class FakeTrial:
    """The parts of a Tune trial that are used."""

    trial_id = "a"
    last_result: dict[str, object] = {}  # noqa: RUF012 - it is never written

    def __init__(self):
        self.config = {OWN_KEY: {"number": 4, "attempt": 1, "checkpoint": None}}

    def get_error(self):
        return "The actor died"

    def set_config(self, config):
        self.config = config


@pytest.fixture
def bench(monkeypatch):
    """A recorder of one trial with workers that die by `death`; `asked` are its questions."""
    monkeypatch.setattr(ray_private, "whereabouts", lambda trial: ray_private.Whereabouts("node", 123))
    made = SimpleNamespace(link=Link(), registry=TrialRegistry("loss", "min", []), death=UNKNOWN, asked=[])

    def how_died(*asked):
        made.asked.append(asked)
        return made.death

    made.registry.open("a", 4, {})
    made.recorder = Recorder(made.link, made.registry, CommandsInForce(), how_died)
    made.trial = FakeTrial()
    made.call = lambda name: getattr(made.recorder, name)(iteration=0, trials=[made.trial], trial=made.trial)
    return made


def test_a_hang_is_reported_before_the_lost_attempt(bench):
    bench.death = HUNG
    bench.call("on_trial_start")
    bench.call("on_trial_recover")
    assert bench.link[1:] == [TrialHung(4, 1, 300.5, 0.25, "/d"), AttemptLost(4, 1, "hung", HUNG.text)]
    assert bench.asked == [("node", 4, 1)]
    assert bench.trial.config[OWN_KEY]["attempt"] == 2


@pytest.mark.parametrize(
    ("death", "cause", "text"),
    [(OOM_KILLED, "oom_killed", "memory had run out"), (UNKNOWN, "worker_died", "The actor died")],
)
def test_other_deaths_are_reported_with_their_cause(bench, death, cause, text):
    bench.death = death
    bench.call("on_trial_start")
    bench.call("on_trial_recover")
    assert bench.link[1:] == [AttemptLost(4, 1, cause, text)]


def test_an_attempt_that_dies_before_its_start_is_reported_as_started_and_all_nodes_are_asked(bench):
    bench.death = OOM_KILLED
    bench.call("on_trial_recover")
    assert bench.link == [
        TrialStarted(4, 1, "a", "node", 9, None),
        AttemptLost(4, 1, "oom_killed", "memory had run out"),
    ]
    assert bench.asked == [("", 4, 1)]


@pytest.mark.parametrize(
    ("death", "reason"), [(HUNG, "hung"), (OOM_KILLED, "oom"), (UNKNOWN, "error")], ids=["hung", "oom", "unknown"]
)
def test_the_last_death_says_why_the_trial_ended(bench, death, reason):
    bench.death = death
    bench.call("on_trial_start")
    bench.call("on_trial_error")
    assert bench.link[-1] == TrialEnded(4, 1, reason, None, death.text or "The actor died")
    assert [message for message in bench.link if isinstance(message, TrialHung)] == (
        [TrialHung(4, 1, 300.5, 0.25, "/d")] if death is HUNG else []
    )


def test_deaths_under_earlier_drivers_are_counted_and_shutdowns_are_not():
    lost = ["worker_died", "released", "hung", "driver_died", "oom_killed", "stopped"]
    earlier = {"number": 4, "state": "PENDING", "attempt": 6, "checkpoint": None, "results": [], "lost": lost}
    registry = TrialRegistry("loss", "min", [earlier])
    assert registry.open("a", 4, {}).deaths == 3
    assert registry.open("b", 5, {}).deaths == 0


@pytest.fixture
def process_failure(monkeypatch):
    """Tune's handling of a failed trial, as patched; it only keeps the trials that it was called with."""
    handled = []
    monkeypatch.setattr(TuneController, "_process_trial_failure", lambda self, trial, exception: handled.append(trial))
    ray_private.count_deaths_once()
    ray_private.count_deaths_once()
    controller = SimpleNamespace(_resetting_trials=set())

    def fail(trial, error):
        controller._resetting_trials.add(trial)
        # By name, as Tune calls it.
        TuneController._process_trial_failure(controller, trial, exception=error)
        return list(handled), set(controller._resetting_trials)

    return fail


def test_a_death_that_tune_has_handled_is_not_handled_again(process_failure):
    """The second telling finds the trial PENDING; the first finds it RUNNING. No reset is waited for any more."""
    trial = type("T", (), {"status": Trial.PENDING})()
    assert process_failure(trial, RayActorError()) == ([], set())
    trial.status = Trial.RUNNING
    assert process_failure(trial, RayActorError()) == ([trial], set())


def test_tune_handles_an_error_that_is_no_death_itself(process_failure):
    trial = type("T", (), {"status": Trial.PENDING})()
    error = RayTaskError("step", "traceback", ValueError("x"))
    assert process_failure(trial, error) == ([trial], {trial})
