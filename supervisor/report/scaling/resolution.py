"""Says before a run which slope the budgets of its plan can tell from zero. Pure."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from scipy import special, stats

from supervisor.report.scaling.slope import CONFIDENCE, DECADE, Array
from supervisor.report.view import SIZE_AXIS

CELL_NOISE = 0.01
"""The assumed standard deviation of log L between two searches of one cell."""


@dataclass(frozen=True)
class Resolution:
    """The slopes a decade that a plan can tell from zero, by the noise that its groups share: none of it, all of it."""

    independent: float
    shared: float


def resolution(log_sizes: Array, groups: int, noise: float = CELL_NOISE) -> Resolution | None:
    """Return the expected half-width of the slope's interval a decade; None for fewer than three budgets.

    `log_sizes` are the natural logarithms of the budgets, `noise` is the standard deviation of log L of a cell. The
    half-width is t times the slope's standard error; the expectation of the estimated deviation is c4 times the true
    one (Montgomery, "Introduction to Statistical Quality Control", 2009, section 3.6, with df = budgets - 2).
    """
    df = len(log_sizes) - 2
    spread = float(((log_sizes - log_sizes.mean()) ** 2).sum()) if df >= 1 else 0.0
    if spread == 0.0:
        return None
    c4 = math.sqrt(2 / df) * math.exp(special.gammaln((df + 1) / 2) - special.gammaln(df / 2))
    shared = float(stats.t.ppf((1 + CONFIDENCE) / 2, df)) * c4 * noise / math.sqrt(spread) * DECADE
    return Resolution(shared / math.sqrt(groups), shared)


def resolution_sentence(sizes: Sequence[float], groups: int, noise: float = CELL_NOISE) -> str:
    """Say which slope the budgets `sizes` of a plan, each with `groups` horizons, can tell from zero."""
    count = len(set(sizes))
    found = resolution(np.log(np.array(sorted(set(sizes)), np.float64)), groups, noise)
    if found is None:
        return f"scaling: {count} budgets give no interval of a slope; a scaling answer needs three or more"
    low, high = f"{found.independent:.3f}".lstrip("0"), f"{found.shared:.3f}".lstrip("0")
    reach = low if low == high else f"{low} to {high}"
    ends = "" if low == high else f" ({low} where groups are independent, {high} where they share it)"
    return (
        f"scaling: {count} budgets can tell a change of log loss of about {reach} a decade of parameters from none,\n"
        f"      at {noise:.0%} noise between searches of a cell{ends};\n"
        "      more budgets help, more seeds hardly do"
    )


def scaling_resolution(cells: Sequence[Mapping[str, object]]) -> str | None:
    """Return the sentence for the cells of a plan; None with fewer than two budgets, or for a budget without a size."""
    from training.errors import TrainingError
    from training.settings import parse_budget

    sized = [cell for cell in cells if SIZE_AXIS in cell]
    try:
        sizes = sorted({float(parse_budget(str(cell[SIZE_AXIS]))) for cell in sized})
    except TrainingError:
        return None
    groups = {tuple((axis, str(value)) for axis, value in cell.items() if axis != SIZE_AXIS) for cell in sized}
    return resolution_sentence(sizes, len(groups)) if len(sizes) >= 2 else None
