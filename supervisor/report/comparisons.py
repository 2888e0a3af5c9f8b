"""Compares the best model of each group with the simple models on the test, corrected for their number. Pure.

A group is every axis of the plan but the budget, such as a horizon. The model that stands for a group is the one with
the least validation loss, so the test takes no part in choosing it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from scipy import stats

from supervisor.report.view import OWN_TRAINABLE, SIZE_AXIS, ExperimentRow, RunView

CONFIDENCE = 0.95
MIN_BLOCKS = 3

Result = Literal["better", "worse", "no difference shown"]


@dataclass(frozen=True)
class Comparison:
    """A group's model against one baseline on the test windows.

    `difference` is the model's log loss minus the baseline's. `p_value` is for this comparison alone, `adjusted` is
    corrected for all comparisons of the report; None where the test gave no interval, which shows no difference.
    """

    group: str
    experiment: str
    baseline: str
    title: str
    difference: float
    p_value: float | None
    adjusted: float | None = None

    @property
    def result(self) -> Result:
        if self.adjusted is None or self.adjusted > 1 - CONFIDENCE or self.difference == 0:
            return "no difference shown"
        return "better" if self.difference < 0 else "worse"


def group_name(experiment: ExperimentRow) -> str:
    """Name every axis of the experiment but the budget."""
    return ", ".join(f"{axis} {value}" for axis, value in experiment.cell.items() if axis != SIZE_AXIS) or "all"


def chosen(run: RunView) -> dict[str, ExperimentRow]:
    """Return each group's experiment with the best finalised validation value; without one, the best of a search.

    Experiments that are not finalised, whose best values are too good, count only where none of the group is.
    """
    by_group: dict[str, ExperimentRow] = {}
    for experiment in sorted(run.experiments, key=_rank):
        if experiment.best is not None:
            by_group.setdefault(group_name(experiment), experiment)
    order = dict.fromkeys(map(group_name, run.experiments))
    return {group: by_group[group] for group in order if group in by_group}


def _rank(experiment: ExperimentRow) -> tuple[bool, float]:
    final, best = experiment.finalized, experiment.best
    value = final["val_loss"] if final is not None else 0.0 if best is None or best.value is None else best.value
    return final is None, value if experiment.minimised else -value


def comparisons(run: RunView) -> tuple[Comparison, ...]:
    """Compare each group's chosen model with each baseline; p-values are adjusted over all of them together."""
    found = [one for group, experiment in chosen(run).items() for one in _of(group, experiment)]
    known = [one.p_value for one in found if one.p_value is not None]
    adjusted = iter(holm(known))
    return tuple(one if one.p_value is None else replace(one, adjusted=next(adjusted)) for one in found)


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values adjusted for their number (Holm, Scand. J. Statist. 6, 1979), in their order."""
    order = sorted(range(len(p_values)), key=p_values.__getitem__)
    adjusted, least = [0.0] * len(p_values), 0.0
    for place, number in enumerate(order):
        least = max(least, min(1.0, (len(p_values) - place) * p_values[number]))
        adjusted[number] = least
    return adjusted


def _of(group: str, experiment: ExperimentRow) -> list[Comparison]:
    evaluation = experiment.evaluation
    if evaluation is None or OWN_TRAINABLE not in evaluation["models"]:
        return []
    own = evaluation["models"][OWN_TRAINABLE]["test"]["bce"]["value"]
    found = []
    for name, model in evaluation["models"].items():
        if name == OWN_TRAINABLE:
            continue
        against = evaluation.get("against", {}).get(name, {}).get("test", {})
        difference = against.get("value")
        if difference is None:
            difference = own - model["test"]["bce"]["value"]
        p_value = _p_value(against, _blocks(evaluation))
        found.append(Comparison(group, experiment.name, name, str(model["title"]), difference, p_value))
    return found


def _blocks(evaluation: Mapping[str, Any]) -> float | None:
    block = evaluation.get("bootstrap", {}).get("block_days", {}).get("test")
    return None if not block else float(evaluation["windows"]["test"]) / float(block)


def _p_value(against: Mapping[str, Any], blocks: float | None) -> float | None:
    """Read a p-value from a difference's interval, which Student's t with `blocks` degrees of freedom made.

    The end towards zero counts, so the value is below .05 exactly where the 95 % interval leaves zero out.
    """
    value, low, high = against.get("value"), against.get("low"), against.get("high")
    if value is None or low is None or high is None or blocks is None or blocks < MIN_BLOCKS:
        return None
    reach = high - value if value < 0 else value - low
    if reach <= 0:
        return None
    return float(2 * stats.t.sf(abs(value) / reach * stats.t.ppf((1 + CONFIDENCE) / 2, blocks), blocks))
