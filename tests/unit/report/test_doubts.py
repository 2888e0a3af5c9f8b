"""The doubts about a scaling answer: slopes that only averaging shows, and budgets that are left out."""

from __future__ import annotations

from supervisor.report.scaling.answer import _only_across, _partial
from supervisor.report.scaling.points import SizePoint
from supervisor.report.scaling.slope import Interval, Slope


def _slope(low: float, high: float) -> Slope:
    return Slope((low + high) / 2, Interval(low, high), 2, 0.1)


def test_a_slope_that_only_averaging_the_groups_shows_is_a_doubt() -> None:
    """It is one only if every group's interval contains zero and that across budgets does not."""
    flat, falling = _slope(-0.02, 0.01), _slope(-0.02, -0.01)
    assert _only_across([flat, flat, None], falling)
    assert not _only_across([flat, falling], falling)
    assert not _only_across([flat, flat], flat)
    assert not _only_across([], None)


def test_a_budget_that_a_group_lacks_is_left_out_and_named() -> None:
    cells = [("2M", "horizon 1"), ("2M", "horizon 3"), ("20M", "horizon 1")]
    points = [SizePoint("e", group, budget, 2, 0.5, 0, True) for budget, group in cells]
    assert _partial(points) == ["20M"]
    assert _partial(points[:2]) == []
