"""Checks by the first reports of a search whether trials report the plan's metric at all. Pure.

A wrong name must not cost the training of every trial. A metric that comes in some reports only is allowed; one that is
missing in two reports of a trial, or at its end, or is no number, counts against the plan.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from actors.trial.report_values import described
from actors.trial.result_keys import CHECKPOINT, FILLED_IN_BY_TUNE, LEFT_OUT, SECONDS, STEP

REPORTS_WITHOUT = 2
"""A trial that validates every second epoch reports its metric by then."""

MAX_NAMES = 50
MAX_SHOWN = 20
_NO_METRICS = FILLED_IN_BY_TUNE | {SECONDS, CHECKPOINT, LEFT_OUT}


@dataclass
class Seen:
    """The reports of one trial: their names, the steps without the metric, and its first value that is no number.

    `number` says that one had a number, finite or not.
    """

    names: dict[str, None] = field(default_factory=dict)
    without: set[int] = field(default_factory=set)
    odd: str | None = None
    number: bool = False

    def add(self, metric: str, result: Mapping[str, Any]) -> None:
        """Take note of a report; a second time changes nothing."""
        left_out = dict(result.get(LEFT_OUT, ()))
        for name in (*result, *left_out):
            if name not in _NO_METRICS and len(self.names) < MAX_NAMES:
                self.names[name] = None
        value = result.get(metric)
        if isinstance(value, int | float) and not isinstance(value, bool):
            self.number = True
        elif value is not None or metric in left_out:
            self.odd = self.odd or left_out.get(metric) or described(value)
        else:
            self.without.add(int(result.get(STEP, 0)))

    def problem(self, metric: str) -> str:
        """Say why no report has the metric as a number."""
        if self.odd is not None:
            return f"it reported {self.odd} as {metric!r}, the plan's metric: expected a number"
        return f"no report has {metric!r}, the plan's metric; {_names(metric, self.names)}"


def _names(metric: str, names: Iterable[str]) -> str:
    found = list(names)
    if not found:
        return "it reported nothing else"
    near = difflib.get_close_matches(metric, found, n=1, cutoff=0.5) or [
        name for name in found if name.rpartition("/")[2] == metric or metric in name or name in metric
    ]
    more = "" if len(found) <= MAX_SHOWN else f" and {len(found) - MAX_SHOWN} more"
    listed = f"it reported {', '.join(found[:MAX_SHOWN])}{more}"
    return f"{listed}; did you mean {near[0]}?" if near else listed


class MetricCheck:
    """Ends a search none of whose first trials reports the metric; `enough` trials must agree."""

    def __init__(self, metric: str, enough: int, *, at_end: bool = False, known: bool = False) -> None:
        """`at_end` is the plan's `metric_at: end`; `known` says that an earlier driver has seen the metric."""
        self._metric, self._enough, self.at_end, self._known = metric, enough, at_end, known
        self._against: set[int] = set()
        self.problem: str | None = None
        """The reason to end the search; None while there is none."""

    def look(self, number: int, seen: Seen, *, ended: bool = False) -> bool:
        """Judge a trial by its reports so far; return whether it must end: without a metric, its work is in vain."""
        self._known = self._known or seen.number
        lacks = len(seen.without) >= REPORTS_WITHOUT or (ended and bool(seen.without))
        if seen.number or self.at_end or not (seen.odd or lacks):
            return False
        if not self._known:
            self._against.add(number)
            if len(self._against) >= self._enough:
                self.problem = (
                    f"trial {number}, as each of the first {self._enough}: {seen.problem(self._metric)} (a metric that "
                    "only comes later needs `metric_at: end` in the plan)"
                )
        return seen.odd is not None or self.problem is not None
