"""The time of a step: the rule of thumb grows with all that costs, and timed steps scale it within their own range."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.preflight.step_times import Basis, TimedStep, of_budget, rule_seconds, scale
from training.grid import Architecture

WIDTHS, DEPTHS, BATCHES = (8, 64, 256, 1024), (1, 4, 32), (16, 64, 256)


def shape(d_model: int = 64, n_layers: int = 4) -> Architecture:
    return Architecture(d_model, n_layers, 4 * d_model, 4, 25, 80, 10, 5)


@st.composite
def timed_step(draw: st.DrawFn, budget: int | None = None) -> TimedStep:
    return TimedStep(
        budget=draw(st.sampled_from([20_000, 2_000_000, 20_000_000])) if budget is None else budget,
        architecture=shape(draw(st.sampled_from(WIDTHS)), draw(st.sampled_from(DEPTHS))),
        batch=draw(st.sampled_from(BATCHES)),
        threads=draw(st.integers(1, 4)),
        at_once=draw(st.integers(1, 4)),
        device="cpu",
        seconds=draw(st.floats(1e-4, 1e3)),
    )


@given(st.lists(timed_step(), min_size=1, max_size=6), st.sampled_from(WIDTHS), st.sampled_from(BATCHES))
def test_a_scale_lies_within_those_of_the_timed_steps(timed: list[TimedStep], width: int, batch: int) -> None:
    factors = [step.factor for step in timed]
    found = scale(timed, shape(width), batch)
    assert min(factors) * 0.999 <= found <= max(factors) * 1.001


@given(timed_step())
def test_a_timed_step_is_predicted_with_its_own_time(step: TimedStep) -> None:
    others = [replace(step, architecture=shape(96, 7), seconds=step.seconds * 5)]
    predicted = scale([*others, step], step.architecture, step.batch) * rule_seconds(
        step.architecture, step.batch, step.threads
    )
    assert predicted == pytest.approx(step.seconds)


def test_without_timed_steps_the_rule_stands() -> None:
    assert scale([], shape(), 64) == 1.0
    assert of_budget([], 2_000_000, 1, 1) == (Basis.RULE, ())


@given(st.lists(timed_step(), min_size=1, max_size=8), st.integers(1, 4), st.integers(1, 4))
def test_a_budgets_own_steps_are_used_and_else_those_of_the_nearest_budget(
    timed: list[TimedStep], threads: int, at_once: int
) -> None:
    budget = timed[0].budget
    basis, found = of_budget(timed, budget, threads, at_once)
    assert found
    assert all(step.budget == budget for step in found)
    own = [s for s in timed if (s.budget, s.threads, s.at_once) == (budget, threads, at_once)]
    assert (basis is Basis.TIMED) == bool(own)
    if own:
        assert list(found) == own


def test_a_budget_that_was_not_timed_takes_the_rate_of_the_nearest() -> None:
    near = TimedStep(20_000_000, shape(512), 32, 1, 2, "cpu", 1.0)
    far = replace(near, budget=20_000)
    assert of_budget([far, near], 200_000_000, 2, 1) == (Basis.SCALED, (near,))


@pytest.mark.parametrize(
    ("slower", "faster"),
    [
        ((shape(128), 64, 1), (shape(64), 64, 1)),
        ((shape(64, 8), 64, 1), (shape(64, 4), 64, 1)),
        ((shape(), 128, 1), (shape(), 64, 1)),
        ((shape(), 64, 1), (shape(), 64, 2)),
    ],
)
def test_the_rule_grows_with_width_depth_and_batch_and_falls_with_threads(
    slower: tuple[Architecture, int, int], faster: tuple[Architecture, int, int]
) -> None:
    assert rule_seconds(*slower) > rule_seconds(*faster)
