"""Knows the points that a study tries before it samples, and adds those that a person asks for meanwhile."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from optuna.study import Study


class Points:
    """The points that `study` tries before it samples: the plan's, then those that a person asked for, in order."""

    def __init__(self, study: Study, numbers: Iterable[int], asked: int) -> None:
        """`numbers` are those of the trials that try a point; `asked` counts the person's points in the study."""
        self.study, self._numbers, self._asked = study, set(numbers), asked

    def __contains__(self, number: int) -> bool:
        return number in self._numbers

    def take(self, spec: Mapping[str, Any], begun: int) -> None:
        """Add the points that a person asked for since; `begun` is the number of the next trial."""
        for point in list(spec.get("asked") or ())[self._asked :]:
            self.study.enqueue_trial(dict(point))
            self._numbers.add(max(begun, max(self._numbers, default=-1) + 1))
            self._asked += 1
