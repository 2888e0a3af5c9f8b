"""Test HardwareAwareScheduler: trials that leave their workers, are shed, or must be alone. No Ray running."""

from __future__ import annotations

import pickle

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from actors.driver.commands_in_force import NodeReport
from actors.driver.scheduler import Finished
from actors.trial.result_keys import LEFT, STEP
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.scope import trial_scope
from tests.unit.driver.scheduler_bench import Bench, Scripted


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
