"""The slope across budgets: its regression, its resamples, and the slope that a plan can resolve."""

from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

from supervisor.report.scaling.resampling import DailyLosses, resampled, widened
from supervisor.report.scaling.resolution import resolution, resolution_sentence, scaling_resolution
from supervisor.report.scaling.slope import Interval, Points, Slope, budget_means, slope
from training.block_bootstrap import draw_weights

BUDGETS = (2e6, 2e7, 2e8, 2e9)


def plan_of(seed: int, *, budgets: tuple[float, ...] = BUDGETS, groups: int = 3, seeds: int = 3) -> Points:
    """Losses of a plan whose sizes differ a little between groups, with 1 % noise."""
    rng = np.random.default_rng(seed)
    group, budget, _ = (part.ravel() for part in np.indices((groups, len(budgets), seeds)))
    size = np.array(budgets)[budget] * (1 + 0.1 * group)
    loss = np.array([0.45, 0.66, 0.67])[group] * (size / 2e8) ** -0.02 * np.exp(rng.normal(0, 0.01, len(size)))
    return Points(size, loss, group, budget)


def found_in(points: Points) -> Slope:
    found = slope(points)
    assert found is not None
    return found


def test_the_slope_equals_scipys_regression_of_the_averages_over_groups() -> None:
    points = plan_of(4)
    x, y = (
        [np.log(values[points.budgets() == budget]).mean() for budget in range(4)]
        for values in (points.params, points.loss)
    )
    found, theirs = found_in(points), stats.linregress(x, y)
    assert found.value == pytest.approx(theirs.slope)
    assert found.p_value == pytest.approx(theirs.pvalue)
    reach = stats.t.ppf(0.975, 2) * theirs.stderr
    assert (found.interval.low, found.interval.high) == pytest.approx((theirs.slope - reach, theirs.slope + reach))


@pytest.mark.parametrize(("groups", "seeds"), [(1, 1), (3, 1), (3, 5)])
def test_groups_and_seeds_give_no_degrees_of_freedom(groups: int, seeds: int) -> None:
    assert found_in(plan_of(1, groups=groups, seeds=seeds)).df == 2


def test_copies_of_a_group_do_not_narrow_the_interval() -> None:
    """Horizons that share all of their noise are one piece of evidence."""
    one = plan_of(2, groups=1)
    copies = Points(
        np.tile(one.params, 3), np.tile(one.loss, 3), np.repeat(np.arange(3), len(one.loss)), np.tile(one.budgets(), 3)
    )
    assert found_in(copies).interval.low == pytest.approx(found_in(one).interval.low)


def test_a_budget_that_a_group_lacks_does_not_count() -> None:
    points = plan_of(3)
    kept = ~((points.group == 2) & (points.budgets() == 3))
    partial = Points(points.params[kept], points.loss[kept], points.group[kept], points.budgets()[kept])
    assert len(budget_means(partial)[0]) == 3


def test_equal_sizes_are_one_budget_where_budgets_are_not_numbered() -> None:
    points = plan_of(1, groups=1)
    assert found_in(Points(points.params, points.loss, points.group)) == found_in(points)


@pytest.mark.parametrize("budgets", [(2e6, 2e7), (2e6,)])
def test_fewer_than_three_budgets_have_no_slope(budgets: tuple[float, ...]) -> None:
    assert slope(plan_of(1, budgets=budgets)) is None


def daily(points: Points, tilt: float, days: int = 300) -> DailyLosses:
    """Make losses by day; `tilt` is the deviation of a day's own slope a decade."""
    rng = np.random.default_rng(5)
    lean = rng.normal(0, tilt, days)
    losses = points.loss[:, None] * (1 + np.log10(points.params / 6e7)[:, None] * (lean - lean.mean()))
    return DailyLosses(losses, draw_weights(days, 10, 400, 1), days / 10)


@pytest.mark.parametrize("seed", range(5))
def test_resampling_never_narrows_the_interval(seed: int) -> None:
    points = plan_of(seed)
    plain = found_in(points)
    wide = widened(points, plain, daily(points, 0.0), np.random.default_rng(seed)).interval
    assert wide.low <= plain.interval.low
    assert wide.high >= plain.interval.high


def test_days_that_tilt_the_line_widen_the_interval() -> None:
    """Their slope is the same at every budget, so the line leaves no residual that could show it."""
    points = plan_of(1)
    plain = found_in(points)
    wide = widened(points, plain, daily(points, 1.0), np.random.default_rng(1)).interval
    assert wide.high - wide.low > 3 * (plain.interval.high - plain.interval.low)


def test_resamples_spread_about_the_slope() -> None:
    points = plan_of(1)
    drawn = resampled(points, daily(points, 0.0), np.random.default_rng(1))
    assert drawn.shape == (400,)
    assert abs(np.median(drawn) - found_in(points).value) < drawn.std()
    assert drawn.std() > 0


def test_a_points_weight_is_its_share_of_the_mean_of_its_budget() -> None:
    """Budgets average their cells, and cells their seeds; an incomplete budget has no weight."""
    points = plan_of(3)
    kept = ~((points.group == 2) & (points.budgets() == 3))
    partial = Points(points.params[kept], points.loss[kept], points.group[kept], points.budgets()[kept])
    for some in (points, partial):
        shares = some.share_of_budgets()
        assert np.log(some.loss) @ shares == pytest.approx(budget_means(some)[1])
        assert shares.sum(axis=0) == pytest.approx(1)


def test_resamples_of_cells_take_all_noise_from_the_lines_residuals() -> None:
    """Seeds are not drawn again inside their cell: on a perfect line of noisy seeds no resample leaves it."""
    points = plan_of(1)
    x, y = budget_means(points)
    line = np.polynomial.Polynomial.fit(x, y, 1)
    straight = np.exp(np.log(points.loss) + (line(x) - y)[points.budgets()])
    on_line = Points(points.params, straight, points.group, points.budgets())
    drawn = resampled(on_line, daily(on_line, 0.0), np.random.default_rng(1))
    assert drawn == pytest.approx(found_in(on_line).value)


def test_the_hull_holds_both_intervals() -> None:
    assert Interval(0, 2).hull(Interval(-1, 1)) == Interval(-1, 2)


def test_the_resolution_is_the_mean_reach_of_the_interval_on_flat_losses() -> None:
    rng, reach = np.random.default_rng(6), []
    for _ in range(400):
        noise = rng.normal(0, 0.01, 4)
        found = found_in(Points(np.array(BUDGETS), np.exp(noise), np.zeros(4, np.int64)))
        reach.append((found.interval.high - found.interval.low) / 2 * np.log(10))
    expected = resolution(np.log(BUDGETS), 1)
    assert expected is not None
    assert np.mean(reach) == pytest.approx(expected.shared, rel=0.15)


def test_four_budgets_a_decade_apart_resolve_between_one_and_two_percent_a_decade() -> None:
    found = resolution(np.log(BUDGETS), 3)
    assert found is not None
    assert found.independent == pytest.approx(0.0098, abs=2e-4)
    assert found.shared == pytest.approx(0.0170, abs=2e-4)


def test_more_budgets_between_the_same_ends_resolve_more() -> None:
    four, seven = (resolution(np.linspace(np.log(2e6), np.log(2e9), count), 3) for count in (4, 7))
    assert four is not None
    assert seven is not None
    assert seven.shared < 0.7 * four.shared


def test_a_plan_says_which_slope_it_can_resolve() -> None:
    cells = [{"budget": budget, "horizon": h} for budget in ("2M", "20M", "200M", "2B") for h in (1, 3, 5)]
    text = scaling_resolution(cells)
    assert text is not None
    assert "4 budgets" in text
    assert "about .010 to .017 a decade" in text
    assert all(len(line) <= 120 for line in text.splitlines())


def test_two_budgets_are_told_that_they_give_no_interval() -> None:
    assert "2 budgets give no interval" in resolution_sentence([2e6, 2e7], 3)


@pytest.mark.parametrize(
    "cells", [[{"budget": "2M"}], [{"horizon": 1}], [{"budget": "small"}, {"budget": "large"}], []]
)
def test_a_plan_without_two_sizes_says_nothing_about_scaling(cells: list[dict[str, object]]) -> None:
    assert scaling_resolution(cells) is None
