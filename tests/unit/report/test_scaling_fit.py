"""The scaling fit finds an existing law, and its verdict follows the slope's interval."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from supervisor.report.scaling.fit import HUBER_DELTA, Problem, descend, huber
from supervisor.report.scaling.law import answer, fit, preferred
from supervisor.report.scaling.slope import Points

FLOORS, FACTORS, ALPHA = (0.40, 0.60, 0.58), (4.0, 6.0, 5.0), 0.25
BUDGETS = (2e6, 2e7, 2e8, 2e9)


@pytest.fixture(autouse=True, scope="module")
def one_thread() -> Iterator[None]:
    """As in the report's process: on matrices of seven rows more threads only wait for one another."""
    with threadpool_limits(1):
        yield


def simulated(
    seed: int,
    *,
    factors: tuple[float, ...] = FACTORS,
    alpha: float = ALPHA,
    deviation: float = 0.01,
    seeds_per_cell: int = 3,
    budgets: tuple[float, ...] = BUDGETS,
) -> Points:
    """Losses of a known law at sizes near `budgets`, with log-normal noise of each seed."""
    rng = np.random.default_rng(seed)
    params, loss, group, numbers = [], [], [], []
    for place, (floor, factor) in enumerate(zip(FLOORS, factors, strict=True)):
        for number, budget in enumerate(budgets):
            size = round(budget * rng.uniform(0.8, 1.2))
            for _ in range(seeds_per_cell):
                params.append(float(size))
                group.append(place)
                numbers.append(number)
                loss.append((floor + factor * size**-alpha) * float(np.exp(rng.normal(0, deviation))))
    return Points(np.array(params), np.array(loss), np.array(group), np.array(numbers))


@pytest.mark.parametrize("seed", range(5))
def test_a_known_law_is_called_scaling_and_its_exponent_is_not_rejected(seed: int) -> None:
    found = answer(simulated(seed), np.random.default_rng(seed))
    assert found.verdict == "scaling"
    assert found.shows_law
    assert found.alpha is not None
    assert ALPHA in found.alpha


def test_flat_losses_give_no_scaling_and_no_exponent_to_show() -> None:
    found = answer(simulated(1, factors=(0.0, 0.0, 0.0)), np.random.default_rng(1))
    assert found.verdict == "no scaling detected"
    assert not found.shows_law


def test_no_scaling_names_the_slope_that_the_interval_excludes() -> None:
    found = answer(simulated(1, factors=(0.0, 0.0, 0.0)), np.random.default_rng(1))
    assert found.slope is not None
    steepest = 100 * (1 - 10**found.slope.interval.low)
    assert f"excludes a fall of more than {steepest:.2f} % a decade" in found.why


def test_a_loss_that_rises_with_size_is_inverse_scaling_with_a_negative_exponent() -> None:
    found = answer(simulated(3, factors=(0.01, 0.01, 0.01), alpha=-0.15), np.random.default_rng(3))
    assert found.verdict == "inverse scaling"
    assert found.law is not None
    assert found.law.alpha < 0


def test_without_noise_the_law_is_found_exactly() -> None:
    law = fit(simulated(0, deviation=0.0))
    assert law.alpha == pytest.approx(ALPHA, abs=1e-3)
    assert law.floors == pytest.approx(FLOORS, rel=1e-3)
    assert law.factors == pytest.approx(FACTORS, rel=2e-2)


@pytest.mark.parametrize("seed", range(3))
def test_no_start_leads_to_a_better_law_than_the_one_that_is_kept(seed: int) -> None:
    points = simulated(seed, deviation=0.02)
    problem = Problem.of(points.params, points.loss, points.group)
    bounds = optimize.Bounds(problem.lowest(), problem.highest())
    every = [
        optimize.minimize(problem.value_and_gradient, start, jac=True, method="L-BFGS-B", bounds=bounds).fun
        for start in problem.starts()
    ]
    assert fit(points).objective <= min(every) * (1 + 1e-5)


def test_many_fits_at_once_reach_what_a_single_optimiser_reaches() -> None:
    points = simulated(5)
    law = fit(points)
    problem = Problem.of(points.params, points.loss, points.group)
    _, costs = descend(problem, problem.y[None, :], law.theta[None, :] + 0.05)
    assert costs[0] == pytest.approx(law.objective, rel=0.02)


@given(seed=st.integers(0, 10_000))
def test_the_gradient_is_that_of_the_objective(seed: int) -> None:
    points = simulated(seed)
    problem = Problem.of(points.params, points.loss, points.group)
    theta = problem.starts()[seed % len(problem.starts())]
    _, gradient = problem.value_and_gradient(theta)
    step = 1e-6
    for place in range(len(theta)):
        shift = np.zeros(len(theta))
        shift[place] = step
        slope_there = problem.value_and_gradient(theta + shift)[0] - problem.value_and_gradient(theta - shift)[0]
        assert gradient[place] == pytest.approx(slope_there / (2 * step), rel=1e-3, abs=0.5)


def test_the_objective_is_a_sum_so_twice_the_points_cost_twice() -> None:
    points = simulated(2)
    twice = Points(np.tile(points.params, 2), np.tile(points.loss, 2), np.tile(points.group, 2))
    one, two = (Problem.of(p.params, p.loss, p.group) for p in (points, twice))
    theta = one.starts()[3]
    assert two.value_and_gradient(theta)[0] == pytest.approx(2 * one.value_and_gradient(theta)[0])


def test_huber_is_quadratic_within_delta_and_linear_beyond() -> None:
    residual = np.array([0.5, 1.0, 3.0, -3.0]) * HUBER_DELTA
    assert huber(residual) == pytest.approx([0.125, 0.5, 2.5, 2.5])


def test_two_sizes_are_too_few_for_a_law() -> None:
    found = answer(simulated(0, budgets=(2e6, 2e7)), np.random.default_rng(0))
    assert found.verdict == "too few points"
    assert found.law is None
    assert "2 budgets" in found.why


def test_no_points_at_all_are_too_few() -> None:
    nothing = Points(np.array([]), np.array([]), np.array([], np.int64))
    assert answer(nothing, np.random.default_rng(0)).verdict == "too few points"


@pytest.mark.parametrize("loss", [0.0, -0.1, float("nan"), float("inf")])
def test_a_loss_without_a_logarithm_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Points(np.array([1e6]), np.array([loss]), np.array([0]))


def test_on_flat_losses_aicc_prefers_a_model_without_a_law_and_the_prior_to_a_law() -> None:
    scores = answer(
        simulated(7, factors=(0.0, 0.0, 0.0), deviation=0.001), np.random.default_rng(7), prior_loss=FLOORS
    ).scores
    aicc = {score.model: score.aicc for score in scores if score.aicc is not None}
    assert preferred(scores) in ("constant", "class prior")
    assert aicc["class prior"] < aicc["law with floor"]


def test_aicc_prefers_a_law_where_there_is_one() -> None:
    assert preferred(answer(simulated(1), np.random.default_rng(1), prior_loss=FLOORS).scores) is None
