"""Test HardwareAwareScheduler: the calls it passes on, the trials it holds, its restart. No Ray running."""

from __future__ import annotations

import math
from types import SimpleNamespace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler, TrialScheduler

from actors.driver.commands_in_force import NodeReport
from actors.driver.pruner import pruner, replay
from actors.trial.result_keys import STEP
from supervisor.domain.command import Action, Command, Origin
from tests.unit.driver.scheduler_bench import Bench, FirstInLine, Scripted

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
