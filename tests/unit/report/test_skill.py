"""Skill against prior and volatility, and the goal: where it is reached, missed or open."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.report.skill import Goal, goal_of, skills
from supervisor.report.view import RunView
from tests.unit.report.test_comparisons import experiment_of, run_of


def run_with(*gains: tuple[float, float] | None) -> RunView:
    """Make a run with one horizon for each pair of gains on validation and test; None is a model without a test."""
    experiments = []
    for place, gain in enumerate(gains):
        one = experiment_of(f"e{place}", 0.6, None if gain is None else {"prior": {}, "volatility": {}}, horizon=place)
        if one.evaluation is not None and gain is not None:
            _set(one.evaluation, gain)
        experiments.append(one)
    return run_of(*experiments)


def goal_for(run: RunView) -> Goal | None:
    return goal_of(run, skills(run))


def _set(evaluation: Any, gain: tuple[float, float]) -> None:
    for name in ("prior", "volatility"):
        evaluation["models"][name] = {"title": name, "val": {"bce": {"value": 0.5}}, "test": {"bce": {"value": 0.5}}}
        evaluation["against"][name] = {
            part: {"value": -value, "low": -value - 0.1, "high": -value + 0.1}
            for part, value in zip(("val", "test"), gain, strict=True)
        }


def test_skill_is_the_share_of_the_other_models_loss_that_is_saved() -> None:
    found = {(one.against, one.part): one for one in skills(run_with((0.05, -0.1)))}
    assert set(found) == {(name, part) for name in ("prior", "volatility") for part in ("val", "test")}
    one = found["volatility", "test"]
    assert (one.value, one.low, one.high) == pytest.approx((-0.2, -0.4, 0.0))


def test_the_goal_is_reached_by_wins_on_validation_and_a_pooled_test_that_is_no_worse() -> None:
    goal = goal_for(run_with((0.01, -0.01), (0.01, 0.01), (0.01, 0.0)))
    assert goal is not None
    assert (goal.missed_groups, goal.pooled, goal.missed) == ((), pytest.approx(0), False)


def test_an_equal_validation_loss_misses_the_goal_at_its_horizon() -> None:
    goal = goal_for(run_with((0.01, 0.1), (0.0, 0.1)))
    assert goal is not None
    assert goal.missed
    assert goal.missed_groups == ("horizon 1",)


def test_a_worse_pooled_test_misses_the_goal() -> None:
    goal = goal_for(run_with((0.01, 0.01), (0.01, -0.02)))
    assert goal is not None
    assert goal.missed
    assert goal.missed_groups == ()


def test_without_every_test_the_goal_is_open_unless_validation_misses_it() -> None:
    goals = [goal_for(run_with((gain, -1), None)) for gain in (0.01, -0.01)]
    assert [None if goal is None else (goal.missed, goal.pooled) for goal in goals] == [(False, None), (True, None)]
    assert goal_for(run_with(None)) is None
