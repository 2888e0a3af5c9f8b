"""The scaling fit finds an existing law, rejects a missing one, and its intervals are honest."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from scipy import optimize, stats
from threadpoolctl import threadpool_limits  # type: ignore[import-untyped]  # it ships no types

from supervisor.report.scaling_fit import ALPHA_BOUNDS, HUBER_DELTA, Problem, descend, huber
from supervisor.report.scaling_law import Answer, Points, answer, bootstrap, fit, slope

FLOORS, FACTORS, ALPHA = (0.40, 0.60, 0.58), (4.0, 6.0, 5.0), 0.25
BUDGETS = (2e6, 2e7, 2e8, 2e9)
SIMULATIONS = pytest.mark.parametrize("simulations", [10, pytest.param(100, marks=pytest.mark.slow)])
"""A share of 90 % needs 100 simulations to be shown well; 10 find a gross error."""


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
    params, loss, group = [], [], []
    for place, (floor, factor) in enumerate(zip(FLOORS, factors, strict=True)):
        for budget in budgets:
            size = round(budget * rng.uniform(0.8, 1.2))
            for _ in range(seeds_per_cell):
                params.append(float(size))
                group.append(place)
                loss.append((floor + factor * size**-alpha) * float(np.exp(rng.normal(0, deviation))))
    return Points(np.array(params), np.array(loss), np.array(group))


def answers(simulations: int, draws: int, **law: float) -> list[Answer]:
    return [
        answer(simulated(seed, **law), np.random.default_rng(seed), draws=draws)  # type: ignore[arg-type]
        for seed in range(simulations)
    ]


@SIMULATIONS
def test_the_known_law_is_inside_its_intervals_in_at_least_90_percent_of_simulations(simulations: int) -> None:
    found, least = answers(simulations, draws=200), 0.9 * simulations
    assert all(one.verdict == "scaling" for one in found)
    for group in range(3):
        assert sum(FLOORS[group] in one.floors[group] for one in found) >= least
        assert sum(FACTORS[group] in one.factors[group] for one in found) >= least
    assert sum(one.alpha is not None and ALPHA in one.alpha for one in found) >= least


def test_intervals_are_narrow() -> None:
    """An interval from 0 to infinity would pass the test of coverage."""
    found = answer(simulated(1), np.random.default_rng(1), draws=200)
    assert found.alpha is not None
    assert found.alpha.high - found.alpha.low < 0.25
    assert all(floor.high - floor.low < 0.12 for floor in found.floors)


@SIMULATIONS
@pytest.mark.parametrize("seeds_per_cell", [1, 3])
def test_flat_losses_give_no_scaling_in_at_least_90_percent_of_simulations(
    seeds_per_cell: int, simulations: int
) -> None:
    flat = answers(simulations, draws=20, factors=(0.0, 0.0, 0.0), seeds_per_cell=seeds_per_cell)  # type: ignore[arg-type]
    assert sum(one.verdict == "no scaling detected" for one in flat) >= 0.9 * simulations


def test_a_loss_that_rises_with_size_is_inverse_scaling_with_a_negative_exponent() -> None:
    found = answer(simulated(3, factors=(0.01, 0.01, 0.01), alpha=-0.15), np.random.default_rng(3), draws=50)
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


def test_a_slope_of_one_group_equals_scipys_regression() -> None:
    means = simulated(4, seeds_per_cell=1)
    own = Points(means.params[:4], means.loss[:4], means.group[:4])
    found, theirs = slope(own), stats.linregress(np.log(own.params), np.log(own.loss))
    assert found is not None
    assert found.value == pytest.approx(theirs.slope)
    assert found.p_value == pytest.approx(theirs.pvalue)
    reach = stats.t.ppf(0.975, 2) * theirs.stderr
    assert (found.interval.low, found.interval.high) == pytest.approx((theirs.slope - reach, theirs.slope + reach))
    assert found.df == 2


def test_seeds_of_a_cell_are_not_counted_as_independent_cells() -> None:
    found = slope(simulated(4, seeds_per_cell=5).cell_means())
    assert found is not None
    assert found.df == 12 - 3 - 1


def test_two_sizes_are_too_few_for_a_law() -> None:
    found = answer(simulated(0, budgets=(2e6, 2e7)), np.random.default_rng(0), draws=10)
    assert found.verdict == "too few points"
    assert found.law is None
    with pytest.raises(ValueError, match="no fit"):
        found.band(0, np.array([1e6]))


def test_no_points_at_all_are_too_few() -> None:
    nothing = Points(np.array([]), np.array([]), np.array([], np.int64))
    assert answer(nothing, np.random.default_rng(0)).verdict == "too few points"


@pytest.mark.parametrize("loss", [0.0, -0.1, float("nan"), float("inf")])
def test_a_loss_without_a_logarithm_is_refused(loss: float) -> None:
    with pytest.raises(ValueError, match="positive"):
        Points(np.array([1e6]), np.array([loss]), np.array([0]))


def test_a_class_prior_that_fits_better_than_any_law_prevents_the_verdict() -> None:
    points = simulated(7, factors=(0.0, 0.0, 0.0), deviation=0.001)
    found = answer(points, np.random.default_rng(7), prior_loss=FLOORS, draws=20)
    by_model = {score.model: score.aicc for score in found.scores}
    prior, law = by_model["class prior"], by_model["law with floor"]
    assert prior is not None
    assert law is not None
    assert prior < law
    assert found.verdict == "no scaling detected"


def test_the_band_holds_the_fitted_curve() -> None:
    found = answer(simulated(1), np.random.default_rng(1), draws=200)
    assert found.law is not None
    sizes = np.geomspace(2e6, 2e9, 7)
    low, high = found.band(1, sizes)
    curve = np.exp(found.law.problem_at(sizes, 1).predict(found.law.theta[None, :])[0])
    assert (low <= curve).all()
    assert (curve <= high).all()


def test_the_same_seed_gives_the_same_intervals() -> None:
    one, two = (answer(simulated(1), np.random.default_rng(9), draws=30) for _ in range(2))
    assert one.alpha == two.alpha


def test_draws_stay_within_the_bounds_even_on_flat_data() -> None:
    points = simulated(2, factors=(0.0, 0.0, 0.0))
    draws = bootstrap(points, fit(points), np.random.default_rng(2), 50)
    assert np.isfinite(draws).all()
    assert (draws[:, -1] >= ALPHA_BOUNDS[0]).all()
    assert (draws[:, -1] <= ALPHA_BOUNDS[1]).all()
