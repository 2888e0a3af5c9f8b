"""Provide the scheduler with fakes of Tune's trials and controller. No Ray running."""

from __future__ import annotations

from types import SimpleNamespace

from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.scheduler import HardwareAwareScheduler, SchedulerLimits
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import STEP
from supervisor.domain.command import Command, Origin


class Scripted(FIFOScheduler):
    """Answers `answer`."""

    def __init__(self, answer):
        super().__init__()
        self.answer, self.asked, self.errors = answer, [], []

    def on_trial_result(self, tune_controller, trial, result):
        self.asked.append(result)
        return self.answer

    def on_trial_error(self, tune_controller, trial):
        self.errors.append(trial.trial_id)


class FakeTrial:
    def __init__(self, trial_id):
        self.trial_id, self.status = trial_id, Trial.RUNNING
        self.asked = []
        leave = SimpleNamespace(remote=lambda: self.asked.append("to leave"))
        release = SimpleNamespace(remote=lambda: None)
        actor = SimpleNamespace(sweep_leave=leave, sweep_release=release)
        self.temporary_state = SimpleNamespace(ray_actor=actor)


class Controller:
    """The parts of Tune's controller that are used."""

    def __init__(self):
        self.trained, self.paused = [], []
        self._trial_to_actor = {}
        self._trials, self._trial_metadata = [], {}
        self._live_trials, self._stopped_trials, self._failed_trials, self._trials_to_cache = (set() for _ in range(4))
        self._actor_manager = SimpleNamespace(num_actor_tasks=1)

    def start(self, trial_id):
        trial = FakeTrial(trial_id)
        self._trial_to_actor[trial] = "actor"
        return trial

    def get_trials(self):
        return list(self._trial_to_actor)

    def pause_trial(self, trial, should_checkpoint):
        assert not should_checkpoint
        trial.status = Trial.PAUSED
        self.paused.append(trial.trial_id)

    def _schedule_trial_train(self, trial):
        self.trained.append(trial.trial_id)


class Bench:
    def __init__(self, inner, max_t=9, trials=(), release_after_s=600.0, saves=False, now=2):
        self.registry, self.in_force, self.controller = (
            TrialRegistry("loss", "min", trials),
            CommandsInForce("e"),
            Controller(),
        )
        self.released = []
        self.left = []
        recorder = SimpleNamespace(release=self.release, record_pauses=lambda: None)
        at_once = SimpleNamespace(now=now, most=2)
        limits = SchedulerLimits(max_t, at_once, release_after_s=release_after_s, saves=saves)
        self.scheduler = HardwareAwareScheduler(inner, self.registry, self.in_force, recorder, limits, self.left.append)

    def release(self, trial):
        self.released.append(trial.trial_id)
        self.registry.entry(trial.trial_id).running = False

    def trial(self, trial_id, number=0, checkpoint=None):
        self.registry.open(trial_id, number, {}).checkpoint = checkpoint
        trial = self.controller.start(trial_id)
        self.scheduler.on_trial_add(self.controller, trial)
        self.registry.entry(trial_id).running = True
        return trial

    def result(self, trial, step, value):
        return self.scheduler.on_trial_result(self.controller, trial, {STEP: step, "loss": value})

    def command(self, action):
        self.in_force.set_operator([Command(action, Origin.OPERATOR, "test")])

    def choose(self):
        return self.scheduler.choose_trial_to_run(self.controller)


class FirstInLine(Scripted):
    """Chooses the first waiting trial, whatever it needs."""

    def choose_trial_to_run(self, tune_controller):
        return next((trial for trial in tune_controller.get_trials() if trial.status == Trial.PENDING), None)
