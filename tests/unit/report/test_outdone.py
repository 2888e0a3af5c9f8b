"""The answer says so when simpler models do better on the test."""

from __future__ import annotations

from typing import Any

from supervisor.domain.lifecycle import ProcessState
from supervisor.report.scaling_answer import _only_pooled, _outdone
from supervisor.report.scaling_law import Interval, Slope
from supervisor.report.view import ExperimentRow


def _tested(**losses: float) -> ExperimentRow:
    models: dict[str, Any] = {
        name: {"title": f"the {name}", "test": {"bce": {"value": loss, "low": None, "high": None}}}
        for name, loss in losses.items()
    }
    return ExperimentRow(
        "e", {}, ProcessState.EXITED, None, {"trainable": "patchtst"}, (), None, None, None, None, {"models": models}
    )


def test_a_baseline_that_is_mostly_better_is_named_with_its_count() -> None:
    rows = [
        _tested(patchtst=0.6, forest=0.5, prior=0.7),
        _tested(patchtst=0.6, forest=0.5),
        _tested(patchtst=0.4, forest=0.5),
    ]
    assert _outdone(rows) == ["On the test, a simpler model is better: the forest, in 2 of 3 experiments."]


def test_nothing_is_said_where_the_model_leads_or_nothing_was_tested() -> None:
    untested = ExperimentRow("e", {}, ProcessState.RUNNING, None, {}, (), None, None, None)
    assert _outdone([_tested(patchtst=0.4, forest=0.5), untested]) == []
    assert _outdone([]) == []


def _slope(low: float, high: float) -> Slope:
    return Slope((low + high) / 2, Interval(low, high), 2, 0.1)


def test_a_pooled_slope_that_no_group_shows_is_a_doubt() -> None:
    """Only when every group's interval holds zero, and the pooled one does not."""
    flat, falling = _slope(-0.02, 0.01), _slope(-0.02, -0.01)
    assert _only_pooled([flat, flat, None], falling)
    assert not _only_pooled([flat, falling], falling)
    assert not _only_pooled([flat, flat], flat)
    assert not _only_pooled([], None)
