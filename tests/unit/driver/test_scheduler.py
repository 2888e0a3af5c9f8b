"""Test HardwareAwareScheduler: the calls it passes on, the trials it holds, its restart. No Ray running."""

from __future__ import annotations

import math
import pickle
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from actors.driver.commands_in_force import CommandsInForce, NodeReport
from actors.driver.pruner import pruner, replay
from actors.driver.scheduler import Finished, HardwareAwareScheduler, SchedulerLimits
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import LEFT, STEP
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import trial_scope


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


DECISIONS = [TrialScheduler.CONTINUE, TrialScheduler.STOP, TrialScheduler.PAUSE, TrialScheduler.NOOP]


@pytest.mark.parametrize("decision", DECISIONS)
def test_every_decision_of_the_wrapped_scheduler_passes_through(decision):
    bench = Bench(Scripted(decision))
    assert bench.result(bench.trial("a"), 1, 0.5) == decision


@pytest.mark.parametrize("decision", [TrialScheduler.STOP, TrialScheduler.PAUSE])
def test_a_pause_does_not_change_decisions_that_end_work_anyway(decision):
    bench = Bench(Scripted(decision))
    trial = bench.trial("a")
    bench.command(Action.PAUSE)
    assert bench.result(trial, 1, 0.5) == decision


def test_a_trial_is_held_in_memory_while_paused_and_continues_once():
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    bench.command(Action.PAUSE)
    assert bench.result(trial, 1, 0.5) == TrialScheduler.NOOP
    assert bench.choose() is None
    assert bench.controller.trained == []
    bench.command(Action.RUN)
    bench.choose()
    bench.choose()
    assert bench.controller.trained == ["a"]


@pytest.mark.parametrize("action", [Action.HOLD, Action.SHED, Action.THROTTLE])
def test_running_trials_continue_below_pause(action):
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    bench.command(action)
    assert bench.result(trial, 1, 0.5) == TrialScheduler.CONTINUE


def test_no_waiting_trial_starts_under_an_operators_hold_while_the_governor_sheds():
    bench = Bench(FirstInLine(TrialScheduler.CONTINUE))
    trial = bench.trial("a")
    trial.status, bench.registry.entry("a").running = Trial.PENDING, False
    bench.in_force.report("n", NodeReport(Command(Action.SHED, Origin.GOVERNOR, "92 C")))
    bench.in_force.set_operator([Command(Action.HOLD, Origin.OPERATOR, "visitors")])
    assert bench.choose() is None
    bench.in_force.set_operator([])
    assert bench.choose() is trial


def test_a_held_trial_that_died_meanwhile_is_not_continued():
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    bench.command(Action.PAUSE)
    bench.result(trial, 1, 0.5)
    trial.status = Trial.ERROR
    bench.command(Action.RUN)
    bench.choose()
    assert bench.controller.trained == []


def test_a_stop_before_the_last_step_prunes_and_at_it_finishes():
    bench = Bench(Scripted(TrialScheduler.STOP), max_t=9)
    early, late = bench.trial("a"), bench.trial("b", 1)
    bench.result(early, 8, 0.5)
    bench.result(late, 9, 0.5)
    assert bench.registry.entry("a").pruned
    assert not bench.registry.entry("b").pruned


@pytest.mark.parametrize("value", [math.nan, math.inf, None])
def test_values_that_are_not_finite_do_not_reach_the_pruner(value):
    inner = Scripted(TrialScheduler.STOP)
    bench = Bench(inner)
    trial = bench.trial("a")
    assert bench.result(trial, 1, value) == TrialScheduler.CONTINUE
    assert inner.asked == []
    bench.scheduler.on_trial_complete(bench.controller, trial, {STEP: 1, "loss": value})
    assert inner.errors == ["a"]


def earlier(number, results, state="TERMINATED"):
    return {"number": number, "state": state, "results": results, "attempt": 1, "checkpoint": "/c/checkpoint-9.pt"}


@given(values=st.lists(st.floats(0, 1), min_size=3, max_size=12), new=st.floats(0, 1))
@settings(deadline=None, max_examples=40)
def test_ashas_rungs_survive_a_restart(values, new):
    """A pruner that gets the ended trials later decides as the one that saw them."""
    spec = {"kind": "asha", "grace_period": 1, "reduction_factor": 2, "max_t": 9}
    live = Bench(pruner(spec, "loss", "min"))
    for number, value in enumerate(values):
        trial = live.trial(str(number), number)
        live.result(trial, 1, value)
        live.scheduler.on_trial_complete(live.controller, trial, {STEP: 1, "loss": value})
    rebuilt = Bench(pruner(spec, "loss", "min"))
    replay(rebuilt.scheduler.inner, [earlier(number, [[1, value]]) for number, value in enumerate(values)], "loss")
    number = len(values)
    assert rebuilt.result(rebuilt.trial("new", number), 1, new) == live.result(live.trial("new", number), 1, new)


def test_an_adopted_trial_is_not_judged_again_at_rungs_that_it_passed():
    """Its earlier results fill the rungs under its new name and are recorded once."""
    spec = {"kind": "asha", "grace_period": 1, "reduction_factor": 2, "max_t": 9}
    unfinished = earlier(0, [[1, 0.9], [2, 0.9]], state="RUNNING")
    bench = Bench(pruner(spec, "loss", "min"), trials=[unfinished])
    replay(bench.scheduler.inner, [unfinished, *(earlier(n, [[1, 0.1], [2, 0.1]]) for n in range(1, 5))], "loss")
    trial = bench.trial("again", 0)
    assert bench.result(trial, 2, 0.9) == TrialScheduler.CONTINUE
    assert bench.result(trial, 3, 0.9) == TrialScheduler.CONTINUE
    assert bench.result(trial, 4, 0.9) == TrialScheduler.CONTINUE  # the first at this action


def test_an_epoch_that_is_trained_again_is_not_judged_again():
    """A median would count it twice."""
    inner = Scripted(TrialScheduler.CONTINUE)
    bench = Bench(inner, trials=[earlier(0, [[1, 0.9], [2, 0.8]], state="RUNNING")])
    trial = bench.trial("again", 0)
    assert [bench.result(trial, step, 0.5) for step in (2, 3, 3)] == [TrialScheduler.CONTINUE] * 3
    assert [result[STEP] for result in inner.asked] == [1, 2, 3]
    bench.result(trial, 9, 0.5)
    assert [result[STEP] for result in inner.asked] == [1, 2, 3, 9]


def test_the_median_rule_never_pauses_a_trial_for_another():
    """Ray's yields to waiting trials while it has too few samples: 13 s each."""
    bench = Bench(pruner({"kind": "median", "grace_period": 1, "min_samples_required": 3}, "loss", "min"))
    bench.controller.get_live_trials = lambda: [SimpleNamespace(status=Trial.PENDING)]
    trial = bench.trial("a")
    assert [bench.result(trial, step, 0.5) for step in (1, 2, 3)] == [TrialScheduler.CONTINUE] * 3


def test_medians_survive_a_restart():
    """After three good trials of before, the rule stops a bad new one after its grace period."""
    bench = Bench(pruner({"kind": "median", "grace_period": 2, "min_samples_required": 3}, "loss", "min"))
    replay(bench.scheduler.inner, [earlier(n, [[1, 0.2], [2, 0.1], [3, 0.1]]) for n in range(3)], "loss")
    trial = bench.trial("bad", 3)
    assert [bench.result(trial, step, 0.9) for step in (1, 2)] == [TrialScheduler.CONTINUE, TrialScheduler.STOP]
    assert bench.registry.entry("bad").pruned


def test_an_unknown_pruner_is_refused():
    with pytest.raises(ValueError, match="asha, median or none"):
        pruner({"kind": "hyperbnd"}, "loss", "min")


def test_a_pause_that_lasts_takes_a_held_trial_off_its_worker():
    """One with a checkpoint; without one it would lose its work, so it keeps its memory."""
    bench = Bench(FIFOScheduler(), release_after_s=0.0)
    saved, unsaved = bench.trial("a", 0, checkpoint="/c/checkpoint-1.pt"), bench.trial("b", 1)
    bench.command(Action.PAUSE)
    for trial in (saved, unsaved):
        bench.result(trial, 1, 0.5)
    bench.choose()
    assert bench.released == ["a"]
    assert bench.controller.paused == ["a"]
    bench.command(Action.RUN)
    bench.choose()
    assert bench.controller.trained == ["b"]


def test_a_trial_that_is_not_saved_saves_itself_before_a_pause_takes_it_off_its_worker():
    bench = Bench(FIFOScheduler(), release_after_s=0.0, saves=True)
    trial = bench.trial("a", 0, checkpoint="/c/checkpoint-1.pt")
    bench.registry.note("a", {STEP: 2, "loss": 0.5})
    bench.command(Action.PAUSE)
    bench.result(trial, 2, 0.5)
    bench.choose()
    assert (trial.asked, bench.controller.trained, bench.released) == (["to leave"], ["a"], [])
    bench.scheduler.on_trial_result(bench.controller, trial, {LEFT: True, STEP: 2})
    bench.choose()
    assert (bench.released, bench.controller.paused) == (["a"], ["a"])


def test_a_driver_that_ends_lets_its_held_trials_save_themselves():
    bench = Bench(FIFOScheduler(), saves=True)
    trial = bench.trial("a")
    bench.registry.note("a", {STEP: 1, "loss": 0.5})
    bench.command(Action.PAUSE)
    bench.result(trial, 1, 0.5)
    bench.in_force.finish("asked to")
    bench.choose()
    assert trial.asked == ["to leave"]
    bench.scheduler.on_trial_result(bench.controller, trial, {LEFT: True, STEP: 1})
    with pytest.raises(Finished):
        bench.choose()


def test_a_trial_that_left_its_work_is_released_and_never_continued():
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a", 0, checkpoint="/c/checkpoint-1.pt")
    bench.scheduler.on_trial_result(bench.controller, trial, {LEFT: True, STEP: 2})
    bench.choose()
    assert bench.controller.paused == ["a"]
    assert bench.controller.trained == []


def test_shedding_sends_the_youngest_back_to_the_queue_and_no_more():
    bench = Bench(FIFOScheduler())
    old, young = (bench.trial(name, n, checkpoint="/c/checkpoint-1.pt") for n, name in enumerate("ab"))
    command = Command(Action.SHED, Origin.GOVERNOR, "test", shed_trials=5)
    bench.in_force.report("n", NodeReport(command))
    assert bench.result(old, 1, 0.5) == TrialScheduler.CONTINUE
    assert bench.result(young, 1, 0.5) == TrialScheduler.NOOP
    assert bench.choose() is None
    assert bench.released == ["b"]
    assert bench.result(old, 2, 0.5) == TrialScheduler.CONTINUE


def test_finishing_waits_until_each_trial_has_left_its_work():
    bench = Bench(FIFOScheduler())
    first, second = bench.trial("a"), bench.trial("b", 1)
    bench.in_force.finish("asked to")
    assert bench.result(first, 1, 0.5) == TrialScheduler.NOOP
    bench.choose()
    assert bench.left == ["asked to"]
    assert bench.scheduler.on_trial_result(bench.controller, second, {LEFT: True, STEP: 2}) == TrialScheduler.NOOP
    with pytest.raises(Finished, match="asked to"):
        bench.choose()
    assert bench.left == ["asked to"]


def test_the_scheduler_pickles_without_the_trials_that_it_holds():
    """Tune pickles its configuration; a trial holds an actor's handle, which does not travel."""
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    trial.handle = lambda: None
    bench.command(Action.PAUSE)
    bench.result(trial, 1, 0.5)
    bench.scheduler._recorder = bench.scheduler._leave = None
    copy = pickle.loads(pickle.dumps(bench.scheduler))
    assert isinstance(copy.inner, FIFOScheduler)


def test_a_trial_that_the_operator_holds_stops_at_its_report_and_the_others_continue():
    bench = Bench(FIFOScheduler())
    held, other = bench.trial("a", 3), bench.trial("b", 4)
    bench.in_force.set_operator([Command(Action.HOLD, Origin.OPERATOR, "test", trial_scope("e", 3))])
    assert bench.result(held, 1, 0.5) == TrialScheduler.NOOP
    assert bench.result(other, 1, 0.5) == TrialScheduler.CONTINUE
    bench.choose()
    assert bench.controller.trained == []
    assert bench.registry.entry("a").reported
    bench.in_force.set_operator([])
    bench.choose()
    assert bench.controller.trained == ["a"]
    assert not bench.registry.entry("a").reported


def test_a_released_trial_that_the_operator_holds_waits_while_others_are_chosen():
    """Ray's schedulers would take up any PAUSED trial again, the first in the list."""
    bench = Bench(FIFOScheduler(), release_after_s=0.0)
    held, other = (bench.trial(name, n, checkpoint="/c/checkpoint-1.pt") for n, name in enumerate("ab"))
    bench.controller.get_trials = lambda: [held, other]
    for trial in (held, other):
        trial.placement_group_factory = None
    bench.in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "test", trial_scope("e", 0))])
    assert bench.result(held, 1, 0.5) == TrialScheduler.NOOP
    assert bench.choose() is None
    assert bench.controller.paused == ["a"]
    other.status = Trial.PAUSED
    assert bench.choose() is other
    bench.in_force.set_operator([])
    assert bench.choose() is held


def test_a_trial_that_must_be_alone_waits_for_the_others_and_then_runs_alone():
    bench = Bench(FIFOScheduler())
    alone, other, late = (bench.trial(name, n) for n, name in enumerate("abc"))
    for trial in (alone, other, late):
        trial.placement_group_factory = None
    bench.controller.get_trials = lambda: [late, alone, other]
    bench.registry.entry("a").memory = {"alone": True}
    for trial, name in ((alone, "a"), (late, "c")):
        trial.status, bench.registry.entry(name).running = Trial.PAUSED, False
    assert bench.choose() is None
    bench.registry.entry("b").running, other.status = False, Trial.PENDING
    assert bench.choose() is None, "its worker died, and Tune will start it again"
    other.status = Trial.TERMINATED
    assert bench.choose() is alone
    bench.registry.entry("a").running = True
    assert bench.choose() is None
    bench.registry.close("a")
    bench.controller.get_trials = lambda: [late, other]
    assert bench.choose() is late


def test_a_trial_that_must_be_alone_and_that_the_operator_holds_delays_no_other():
    bench = Bench(FIFOScheduler())
    alone, other = (bench.trial(name, n) for n, name in enumerate("ab"))
    bench.controller.get_trials = lambda: [alone, other]
    for trial, name in ((alone, "a"), (other, "b")):
        trial.placement_group_factory = None
        trial.status, bench.registry.entry(name).running = Trial.PAUSED, False
    bench.registry.entry("a").memory = {"alone": True}
    bench.in_force.set_operator([Command(Action.PAUSE, Origin.OPERATOR, "test", trial_scope("e", 0))])
    assert bench.choose() is other


def test_trials_at_work_go_on_when_the_number_at_once_goes_down():
    """The search starts no other one instead; to save and unload one would only cost its time."""
    bench = Bench(Scripted(TrialScheduler.CONTINUE), saves=True, now=1)
    running = [bench.trial("a", 0), bench.trial("b", 1)]
    assert [bench.result(trial, 1, 0.5) for trial in running] == [TrialScheduler.CONTINUE] * 2
    bench.in_force.report("n", NodeReport(Command(Action.SHED, Origin.GOVERNOR, "hot", shed_trials=1)))
    assert bench.result(running[1], 2, 0.5) == TrialScheduler.NOOP, "SHED asks for less than runs now"
