"""HardwareAwareScheduler around any of Ray's schedulers: calls and answers pass through unchanged."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune import CheckpointConfig
from ray.tune.experiment import Trial
from ray.tune.schedulers import (
    ASHAScheduler,
    FIFOScheduler,
    HyperBandForBOHB,
    HyperBandScheduler,
    MedianStoppingRule,
    PopulationBasedTraining,
    TrialScheduler,
)

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.scheduler import HardwareAwareScheduler, SchedulerLimits
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import STEP

DECISIONS = [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.PAUSE, TrialScheduler.NOOP]
CALLS = ["add", "result", "error", "complete", "remove", "choose"]


class Recording(TrialScheduler):
    """Keeps its calls, and gives its answers in turn."""

    metric = "loss"

    def __init__(self, answers=()):
        super().__init__()
        self.calls, self.answers = [], list(answers)

    def set_search_properties(self, metric, mode, **spec):
        self.calls.append(("properties", metric, mode, spec))
        return True

    def on_trial_add(self, tune_controller, trial):
        self.calls.append(("add", trial.trial_id))

    def on_trial_result(self, tune_controller, trial, result):
        self.calls.append(("result", trial.trial_id, result[STEP]))
        return self.answers.pop(0) if self.answers else TrialScheduler.CONTINUE

    def on_trial_error(self, tune_controller, trial):
        self.calls.append(("error", trial.trial_id))

    def on_trial_complete(self, tune_controller, trial, result):
        self.calls.append(("complete", trial.trial_id, result[STEP]))

    def on_trial_remove(self, tune_controller, trial):
        self.calls.append(("remove", trial.trial_id))

    def choose_trial_to_run(self, tune_controller):
        self.calls.append(("choose",))
        return next((trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING), None)

    def debug_string(self):
        return "recording"


class FakeTrial:
    def __init__(self, trial_id):
        self.trial_id, self.status, self.is_saving = trial_id, Trial.PENDING, False
        self.temporary_state = SimpleNamespace(ray_actor=None)
        self.config, self.evaluated_params, self.last_result, self.experiment_tag = {}, {}, {}, ""
        manager = SimpleNamespace(checkpoint_config=CheckpointConfig())
        self.run_metadata = SimpleNamespace(checkpoint_manager=manager)


class Controller:
    """The parts of Tune's controller that Ray's own schedulers use."""

    def __init__(self):
        self.trials, self.stopped = [], []
        self._trial_to_actor = {}
        self._trials, self._trial_metadata = [], {}
        self._live_trials, self._stopped_trials, self._failed_trials, self._trials_to_cache = (set() for _ in range(4))
        self._actor_manager = SimpleNamespace(num_actor_tasks=1)
        # BOHB's scheduler speaks to BOHB's searcher past Tune.
        searcher = SimpleNamespace(on_pause=lambda trial_id: None, on_unpause=lambda trial_id: None)
        self.search_alg = SimpleNamespace(searcher=searcher)

    def get_trials(self):
        return self.trials

    def get_live_trials(self):
        return [trial for trial in self.trials if trial.status != Trial.TERMINATED]

    def stop_trial(self, trial):
        trial.status = Trial.TERMINATED
        self.stopped.append(trial.trial_id)

    def pause_trial(self, trial, should_checkpoint=True):
        trial.status = Trial.PAUSED

    def _set_trial_status(self, trial, status):
        trial.status = status


def wrapped(inner):
    registry, in_force = TrialRegistry("loss", "min", ()), CommandsInForce()
    recorder = SimpleNamespace(release=lambda trial: None, apply_holds=lambda: None)
    return HardwareAwareScheduler(
        inner, registry, in_force, recorder, SchedulerLimits(9, SimpleNamespace(now=4, most=4), 600.0), print
    ), registry


@given(answers=st.lists(st.sampled_from(DECISIONS), max_size=30), story=st.lists(st.sampled_from(CALLS), max_size=30))
@settings(deadline=None, max_examples=60)
def test_while_nothing_is_held_every_call_and_every_answer_pass_through(answers, story):
    """In any order: the wrapped scheduler gets the calls that Tune would make, and Tune its answers."""
    inner, controller = Recording(answers), Controller()
    scheduler, registry = wrapped(inner)
    expected, left, step = [], list(answers), 0
    for call in ["add", *story]:
        if call == "add":
            trial = FakeTrial(f"t{len(controller.trials)}")
            controller.trials.append(trial)
            registry.open(trial.trial_id, len(controller.trials) - 1, {})
            scheduler.on_trial_add(controller, trial)
            expected.append(("add", trial.trial_id))
            continue
        trial, step = controller.trials[-1], step + 1
        result = {STEP: step, "loss": 0.5}
        if call == "result":
            answer = scheduler.on_trial_result(controller, trial, result)
            assert answer == (left.pop(0) if left else TrialScheduler.CONTINUE)
        elif call == "choose":
            assert scheduler.choose_trial_to_run(controller) is controller.trials[0]
        elif call == "complete":
            scheduler.on_trial_complete(controller, trial, result)
        else:
            getattr(scheduler, f"on_trial_{call}")(controller, trial)
        facts = {"choose": (), "result": (trial.trial_id, step), "complete": (trial.trial_id, step)}
        expected.append((call, *facts.get(call, (trial.trial_id,))))
    assert inner.calls == expected
    assert scheduler.set_search_properties("loss", "min", max_t=9)
    assert inner.calls[-1] == ("properties", "loss", "min", {"max_t": 9})
    assert scheduler.metric == "loss"
    assert scheduler.debug_string().startswith("recording")


def perturbed():
    return PopulationBasedTraining(
        time_attr=STEP, metric="loss", mode="min", perturbation_interval=100, hyperparam_mutations={"x": [1, 2]}
    )


SCHEDULERS = {
    "fifo": FIFOScheduler,
    "asha": lambda: ASHAScheduler(time_attr=STEP, metric="loss", mode="min", max_t=9, reduction_factor=3),
    "hyperband": lambda: HyperBandScheduler(time_attr=STEP, metric="loss", mode="min", max_t=9, reduction_factor=3),
    "bohb": lambda: HyperBandForBOHB(time_attr=STEP, metric="loss", mode="min", max_t=9, reduction_factor=3),
    "median": lambda: MedianStoppingRule(time_attr=STEP, metric="loss", mode="min", grace_period=2),
    "pbt": perturbed,
}


def played(scheduler, registry, values):
    """Play trials that report in turn; return each decision and each trial's end."""
    controller, decisions = Controller(), []
    for number in range(len(values)):
        trial = FakeTrial(str(number))
        if registry is not None:
            registry.open(trial.trial_id, number, {})
        controller.trials.append(trial)
        scheduler.on_trial_add(controller, trial)
        trial.status = Trial.RUNNING
    for step in range(1, 10):
        for trial, value in zip(controller.trials, values, strict=True):
            if trial.status == Trial.PENDING and scheduler.choose_trial_to_run(controller) is not None:
                trial.status = Trial.RUNNING
            if trial.status != Trial.RUNNING:
                continue
            result = {STEP: step, "loss": value / step, "time_total_s": float(step), "config": {}}
            trial.last_result = result
            decision = scheduler.on_trial_result(controller, trial, result)
            decisions.append((trial.trial_id, step, decision))
            if decision == TrialScheduler.STOP:
                trial.status = Trial.TERMINATED
                scheduler.on_trial_complete(controller, trial, result)
            elif decision == TrialScheduler.PAUSE:
                trial.status = Trial.PAUSED
    return decisions, [trial.status for trial in controller.trials], controller.stopped


@pytest.mark.parametrize("name", SCHEDULERS)
@given(values=st.lists(st.floats(0.1, 10.0), min_size=3, max_size=9, unique=True))
@settings(deadline=None, max_examples=15)
def test_each_of_rays_schedulers_decides_wrapped_as_it_decides_alone(name, values):
    """FIFO, ASHA, Hyperband, BOHB's Hyperband, the median rule and PBT, on the same reports."""
    alone = played(SCHEDULERS[name](), None, values)
    scheduler, registry = wrapped(SCHEDULERS[name]())
    assert played(scheduler, registry, values) == alone
    assert alone[0], "no trial reported: the claim is untested"
