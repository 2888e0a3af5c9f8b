"""Warm start: carries the best configurations of the next smaller budget over to an experiment's size.

A larger model wants a smaller learning rate. It is scaled by (d_small / d_large)^0.8 * (L_small / L_large)^0.4, where d
is the width and L the depth of the two architectures: a little gentler than the 1 / d of muP for Adam (Yang et al.,
"Tensor Programs V", 2022) and the 1 / sqrt(L) of its extension to depth ("Tensor Programs VI", 2023).
Shape and heads go by their quantile in their grid. Pure; standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from supervisor.domain.finalists import best_different, search_trials

if TYPE_CHECKING:
    from training.grid import Grid

WIDTH_EXPONENT, DEPTH_EXPONENT = 0.8, 0.4
BUDGET = "budget"
ORDINALS = ("shape_rank", "heads_log2")
LEARNING_RATE = "learning_rate"

Spec = Mapping[str, Any]
Trial = Mapping[str, Any]


def donor(spec: Spec, specs: Sequence[Spec]) -> Spec | None:
    """Find the run's experiment of the next smaller budget with the same other axes; None if there is none."""
    own = _size(spec)
    if own is None:
        return None
    others = {axis: value for axis, value in spec["cell"].items() if axis != BUDGET}
    smaller = [
        (size, other)
        for other in specs
        if {axis: value for axis, value in other["cell"].items() if axis != BUDGET} == others
        and (size := _size(other)) is not None
        and size < own
    ]
    return max(smaller, key=lambda found: found[0])[1] if smaller else None


def points(spec: Spec, donor_spec: Spec, donor_trials: Sequence[Trial]) -> list[dict[str, Any]]:
    """Return the donor's best as points of `spec`'s space, best first, without those that are enqueued already.

    At most `warm_start.top` points, and no more than the search has trials for; none without `warm_start`. A
    parameter or choice that the space does not have is left out of a point and sampled.
    """
    warm = spec.get("warm_start")
    if warm is None:
        return []
    search = search_trials(donor_spec)
    own = [trial for trial in donor_trials if int(trial["number"]) < search]
    found: list[dict[str, Any]] = []
    for trial in best_different(own, str(donor_spec["mode"]), int(warm["top"])):
        point = _carried(spec, donor_spec, trial)
        if point and point not in found and point not in spec["enqueue"]:
            found.append(point)
    return found[: max(0, search_trials(spec) - len(spec["enqueue"]))]


def rescaled(learning_rate: float, small: tuple[int, int], large: tuple[int, int]) -> float:
    """Scale a learning rate that did well at `small` (width, depth) to an architecture of `large`."""
    width, depth = small[0] / large[0], small[1] / large[1]
    return float(learning_rate * width**WIDTH_EXPONENT * depth**DEPTH_EXPONENT)


def _carried(spec: Spec, donor_spec: Spec, trial: Trial) -> dict[str, Any]:
    space, params = spec["space"], trial["params"]
    point: dict[str, Any] = {}
    for name, value in params.items():
        if name in space and name in donor_spec["space"]:
            carried = _by_quantile(value, donor_spec["space"][name], space[name]) if name in ORDINALS else value
            if (allowed := _allowed(carried, space[name])) is not None:
                point[name] = allowed
    sizes = _sizes(spec, donor_spec, trial, point)
    if LEARNING_RATE in point and sizes is not None:
        rate = _allowed(rescaled(float(params[LEARNING_RATE]), *sizes), space[LEARNING_RATE])
        point[LEARNING_RATE] = rate
    return point


def _sizes(
    spec: Spec, donor_spec: Spec, trial: Trial, point: Mapping[str, Any]
) -> tuple[tuple[int, int], tuple[int, int]] | None:
    """Return (width, depth) of the donor's architecture and of the architecture at `point`; None if one is unknown."""
    from supervisor.plan.expansion import grid_of

    num_features = (trial.get("record") or {}).get("num_features")
    if num_features is None:
        return None
    small = _shape(grid_of(donor_spec["config"], num_features), {**donor_spec["config"], **trial["params"]})
    large = _shape(grid_of(spec["config"], num_features), {**spec["config"], **point})
    return None if small is None or large is None else (small, large)


def _shape(grid: Grid, settings: Mapping[str, Any]) -> tuple[int, int] | None:
    if any(name not in settings for name in ORDINALS):
        return None
    architecture = grid.architecture(*(int(settings[name]) for name in ORDINALS))
    return architecture.d_model, architecture.n_layers


def _by_quantile(value: Any, source: Mapping[str, Any], target: Mapping[str, Any]) -> Any:
    """Move `value` to the same quantile of another whole-number dimension."""
    if source["type"] != "int" or target["type"] != "int":
        return value
    span = source["high"] - source["low"]
    quantile = 0.5 if span == 0 else (value - source["low"]) / span
    return target["low"] + round(quantile * (target["high"] - target["low"]))


def _allowed(value: Any, dimension: Mapping[str, Any]) -> Any | None:
    """Limit `value` to the dimension's bounds; None for a choice that it does not offer."""
    if dimension["type"] == "categorical":
        return (
            value if any(value == choice and type(value) is type(choice) for choice in dimension["choices"]) else None
        )
    if isinstance(value, bool) or not isinstance(value, int | float):
        return None
    bounded = min(max(value, dimension["low"]), dimension["high"])
    if dimension["type"] == "float":
        return float(bounded)
    step = dimension.get("step") or 1
    return int(dimension["low"] + (round(bounded) - dimension["low"]) // step * step)


def _size(spec: Spec) -> int | None:
    """Return the parameter count of a spec's budget; None for a cell without one."""
    from training.errors import SettingsError
    from training.settings import parse_budget

    budget = spec["cell"].get(BUDGET)
    if spec["trainable"] != "patchtst" or budget is None:
        return None
    try:
        return parse_budget(str(budget))
    except SettingsError:
        return None
