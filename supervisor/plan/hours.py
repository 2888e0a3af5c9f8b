"""Divides the hours of a plan over its experiments. Pure."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from supervisor.errors import PlanError
from supervisor.plan.matrix import Cell, cells
from supervisor.plan.schema import Plan


def shares(plan: Plan, chosen: Sequence[Cell], total: float | None = None) -> dict[str, float | None]:
    """Return the hours of each of the `chosen` cells by name; None for one without a limit.

    A cell's own `max_hours` stand. The others share the plan's `hours`; with `total`, these are scaled so that all
    chosen cells have `total` together. Raises PlanError when the own ones leave nothing of `total`.
    """
    own = {cell.name: cell.plan.max_hours for cell in chosen}
    open_cells = [cell.name for cell in chosen if cell.plan.max_hours is None]
    weights = _weights(plan, chosen)
    if total is None:
        return {**own, **{name: round(weights[name], 6) for name in open_cells if name in weights}}
    rest = total - sum(hours for hours in own.values() if hours is not None)
    if rest <= 0 or not open_cells:
        taken = "every experiment has its own max_hours" if not open_cells else "the max_hours of experiments take all"
        raise PlanError(f"--hours {total:g}: {taken}", key="hours", remedy="take max_hours out, or give more --hours")
    whole = sum(weights.get(name, 1.0) for name in open_cells)
    return {**own, **{name: round(rest * weights.get(name, 1.0) / whole, 6) for name in open_cells}}


def _weights(plan: Plan, chosen: Sequence[Cell]) -> dict[str, float]:
    """Return the hours that the plan itself gives each cell; empty without `hours`."""
    if plan.hours is None:
        return {}
    everything = list(cells(plan))
    if isinstance(plan.hours, int | float):
        return {cell.name: plan.hours / len(everything) for cell in chosen}
    ((axis, by_value),) = plan.hours.items()
    count = Counter(str(cell.axes[axis]) for cell in everything)
    given = {str(value): hours for value, hours in by_value.items()}
    return {cell.name: given[value] / count[value] for cell in chosen for value in [str(cell.axes[axis])]}
