"""Test the parts of benchmarks/stages/eta_real.py that need no run: its plans, its trials' lengths, its table."""

from __future__ import annotations

import json
import math

import pytest

from benchmarks.eta import Asked
from benchmarks.stages.eta_plans import DAEMON, DRIVER, PAUSE, STORIES, WORKER, Story
from benchmarks.stages.eta_real import rows, summary
from benchmarks.trials.sleeping import loss_after, pace_of
from supervisor.plan.expansion import expand
from supervisor.plan.loader import parse_plan

STARTS_S = 90.0
"""The time that a run's starts may take beside its epochs."""


def planned_s(story: Story) -> float:
    """The seconds of all epochs of a run, as if its pruner ended no trial."""
    plan = json.loads(story.plan_text())
    total = 0.0
    for keys in story.by_budget.values():
        one = {**plan, **keys, "config": {**plan["config"], **keys.get("config", {})}}
        total += one["max_trials"] * one["max_epochs"] * one["config"]["epoch_s"] / one["concurrency"]
    return total


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_each_plan_is_one_of_two_or_three_unequal_experiments(story: Story) -> None:
    specs = expand(parse_plan(story.plan_text(), story.name).plan)
    assert 2 <= len(specs) <= 3
    budgets = {(spec.max_trials, spec.max_epochs, spec.config["epoch_s"]) for spec in specs}
    assert len(budgets) == len(specs)


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.name)
def test_a_run_takes_one_to_four_minutes(story: Story) -> None:
    acts_s = sum(act.lasts_s for act in story.acts)
    assert 60.0 <= planned_s(story) + acts_s <= 5 * 60.0 - STARTS_S / 2


def test_the_runs_are_paused_pruned_and_killed_and_one_trial_fails() -> None:
    acts = {act.what for story in STORIES for act in story.acts}
    assert acts == {PAUSE, WORKER, DRIVER, DAEMON}
    plans = [json.loads(story.plan_text()) for story in STORIES]
    assert sum("pruner" in plan for plan in plans) >= 2
    assert any(plan["config"]["fails"] >= 0 for plan in plans)
    for story in STORIES:
        assert [act.epochs for act in story.acts] == sorted(act.epochs for act in story.acts)


def test_trials_differ_in_pace_and_the_same_trial_does_not() -> None:
    paces = [pace_of(number) for number in range(200)]
    assert paces == [pace_of(number) for number in range(200)]
    assert 0.5 < min(paces) < 0.9
    assert 1.1 < max(paces) < 2.0
    assert loss_after(1, 1.0) > loss_after(5, 1.0)
    assert loss_after(5, 1.0) < loss_after(5, 2.0)


def test_the_table_says_what_was_promised_and_what_happened() -> None:
    answers = [Asked(0.1, 100.0, 50.0, 40.0, 90.0), Asked(0.6, 40.0, 44.0, 30.0, 60.0)]
    found = rows("run", answers)
    assert found == [
        ("run", "10%", "50 s", "40 to 90 s", "100 s", "no", "2.00"),
        ("run", "30%", "?", "?", "?", "-", "-"),
        ("run", "60%", "44 s", "30 to 60 s", "40 s", "yes", "1.10"),
    ]
    assert math.isclose(float(found[2][-1]), 44.0 / 40.0)
    assert summary(answers) == "of 2 answers 1 intervals held the end, 1 medians were within a factor of 1.5"
