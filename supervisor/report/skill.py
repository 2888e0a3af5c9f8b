"""Measures the skill of each group's chosen model against prior and volatility, and whether the goal is reached. Pure.

The goal: better than volatility alone on validation in each group (such as a horizon), and at least equal on the test,
pooled over the groups. It compares mean losses; what they prove is for the corrected comparisons to say.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.report.comparisons import chosen
from supervisor.report.view import RunView

YARDSTICKS = ("prior", "volatility")
RIVAL = "volatility"
PARTS = {"val": "validation", "test": "test"}


@dataclass(frozen=True)
class Skill:
    """The share of a simple model's log loss that a group's chosen model saves; negative is worse.

    The ends of its 95 % interval are None where the test gave none.
    """

    group: str
    experiment: str
    against: str
    part: str
    value: float
    low: float | None
    high: float | None


@dataclass(frozen=True)
class Goal:
    """The groups that are not better than volatility on validation, and the pooled test's skill; None if untested."""

    missed_groups: tuple[str, ...]
    pooled: float | None

    @property
    def missed(self) -> bool:
        return bool(self.missed_groups) or (self.pooled is not None and self.pooled < 0)


def skills(run: RunView) -> tuple[Skill, ...]:
    """Return the skill of each group's chosen model, where it was tested."""
    return tuple(
        _skill(group, experiment.name, experiment.evaluation, against, part)
        for group, experiment in chosen(run).items()
        if experiment.evaluation is not None
        for against in YARDSTICKS
        if against in experiment.evaluation.get("against", {})
        for part in PARTS
        if experiment.evaluation["against"][against].get(part, {}).get("value") is not None
    )


def _skill(group: str, name: str, evaluation: Mapping[str, Any], against: str, part: str) -> Skill:
    """Divide the difference in loss by the simple model's loss; a lower loss is more skill."""
    loss = float(evaluation["models"][against][part]["bce"]["value"])
    found = evaluation["against"][against][part]
    low, high = (None if found.get(end) is None else -float(found[end]) / loss for end in ("high", "low"))
    return Skill(group, name, against, part, -float(found["value"]) / loss, low, high)


def goal_of(run: RunView, known: Sequence[Skill]) -> Goal | None:
    """Judge the goal by the `skills` of `run`; None where no group's chosen model was compared with volatility."""
    found = [one for one in known if one.against == RIVAL]
    if not found:
        return None
    missed = tuple(one.group for one in found if one.part == "val" and one.value <= 0)
    tested = {one.group: one.value for one in found if one.part == "test"}
    return Goal(missed, sum(tested.values()) / len(tested) if set(tested) == set(chosen(run)) else None)
