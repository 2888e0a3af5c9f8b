"""Gathers what the tests of a run show: skill, goal, comparisons, calibration. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from supervisor.report.calibration import Calibration, Threshold, calibration, thresholds
from supervisor.report.comparisons import Comparison, chosen, comparisons
from supervisor.report.predictions import Predictions
from supervisor.report.skill import Goal, Skill, goal_of, skills
from supervisor.report.view import RunView


@dataclass(frozen=True)
class Evaluated:
    """The tests' results; `calibrations` is by experiment, `thresholds` by each group's chosen experiment.

    `goal` is None until a chosen model is tested.
    """

    skills: tuple[Skill, ...]
    goal: Goal | None
    compared: tuple[Comparison, ...]
    calibrations: Mapping[str, Calibration]
    thresholds: Mapping[str, list[Threshold]]

    @classmethod
    def of(cls, run: RunView, predictions: Predictions) -> Evaluated:
        """Gather the results of `run`; without an experiment's `predictions` its calibration is left out."""
        known = skills(run)
        return cls(
            known,
            goal_of(run, known),
            comparisons(run),
            {name: calibration(parts["test"]) for name, parts in predictions.items()},
            {e.name: thresholds(predictions[e.name]["test"]) for e in chosen(run).values() if e.name in predictions},
        )

    def as_json(self) -> dict[str, Any]:
        """Return the results as numbers, for report.json."""
        return {
            "comparisons": [{**asdict(one), "result": one.result} for one in self.compared],
            "skill": [asdict(one) for one in self.skills],
            "goal": None if self.goal is None else {**asdict(self.goal), "missed": self.goal.missed},
            "calibration": {name: asdict(one) for name, one in self.calibrations.items()},
            "thresholds": {name: [asdict(one) for one in several] for name, several in self.thresholds.items()},
        }
