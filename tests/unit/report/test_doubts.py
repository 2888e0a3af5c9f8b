"""The doubts of an answer: simpler models that are better on the test, and slopes that only pooling shows."""

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


def test_a_baseline_that_is_better_in_most_tests_is_named_with_its_count() -> None:
    rows = [
        _tested(patchtst=0.6, forest=0.5, prior=0.7),
        _tested(patchtst=0.6, forest=0.5),
        _tested(patchtst=0.4, forest=0.5),
    ]
    assert _outdone(rows) == ["On the test, a simpler model is better: the forest, in 2 of 3 experiments."]


def test_no_doubt_if_the_model_is_best_or_nothing_was_tested() -> None:
    untested = ExperimentRow("e", {}, ProcessState.RUNNING, None, {}, (), None, None, None)
    assert _outdone([_tested(patchtst=0.4, forest=0.5), untested]) == []
    assert _outdone([]) == []


def _slope(low: float, high: float) -> Slope:
    return Slope((low + high) / 2, Interval(low, high), 2, 0.1)


def test_a_slope_that_only_pooling_shows_is_a_doubt() -> None:
    """It is one only if every group's interval contains zero and the pooled one does not."""
    flat, falling = _slope(-0.02, 0.01), _slope(-0.02, -0.01)
    assert _only_pooled([flat, flat, None], falling)
    assert not _only_pooled([flat, falling], falling)
    assert not _only_pooled([flat, flat], flat)
    assert not _only_pooled([], None)
