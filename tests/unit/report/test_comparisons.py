"""Comparisons with simple models on the test: their choice, their p-values, and Holm's correction."""

from __future__ import annotations

from typing import Any

import pytest
from scipy import stats

from supervisor.domain.lifecycle import ProcessState, TrialState
from supervisor.report.comparisons import chosen, comparisons, holm
from supervisor.report.view import ExperimentRow, RunView, TrialRow

BLOCKS = 10


def interval(value: float, reach: float) -> dict[str, float]:
    return {"value": value, "low": value - reach, "high": value + reach}


def experiment_of(
    name: str, val_loss: float, against: dict[str, dict[str, float]] | None, horizon: int = 1
) -> ExperimentRow:
    trial = TrialRow(0, TrialState.TERMINATED, None, "sampled", 1, val_loss, {}, (), 1.0, {}, None, None, None, None)
    evaluation: dict[str, Any] | None = None
    if against is not None:
        evaluation = {
            "models": {
                "patchtst": {"title": "PatchTST", "test": {"bce": {"value": 0.6}}},
                **{model: {"title": f"the {model}", "test": {"bce": {"value": 0.65}}} for model in against},
            },
            "windows": {"test": 42 * BLOCKS},
            "bootstrap": {"block_days": {"test": 42}},
            "against": {model: {"test": difference} for model, difference in against.items()},
        }
    spec = {"trainable": "patchtst", "metric": "val_loss", "mode": "min"}
    cell = {"budget": name, "horizon": horizon}
    return ExperimentRow(
        name, cell, ProcessState.EXITED, None, spec, (trial,), trial, None, None, {"val_loss": val_loss}, evaluation
    )


def run_of(*experiments: ExperimentRow) -> RunView:
    return RunView("r", "p", "f", "s", ProcessState.EXITED, None, 0.0, 1.0, 1.0, {}, (), experiments, {})


def test_holm_multiplies_by_the_number_of_hypotheses_left_and_keeps_the_order() -> None:
    assert holm([0.04, 0.01, 0.03]) == pytest.approx([0.06, 0.03, 0.06])
    assert holm([0.9, 0.8]) == [1.0, 1.0]
    assert holm([]) == []


def test_a_p_value_is_five_percent_where_the_interval_touches_zero() -> None:
    (one,) = comparisons(run_of(experiment_of("2M", 0.6, {"prior": interval(-0.05, 0.05)})))
    assert one.p_value == pytest.approx(0.05)


def test_a_p_value_is_that_of_students_t_with_the_blocks_of_the_test() -> None:
    (one,) = comparisons(run_of(experiment_of("2M", 0.6, {"prior": interval(-0.05, 0.025)})))
    assert one.p_value == pytest.approx(2 * stats.t.sf(2 * stats.t.ppf(0.975, BLOCKS), BLOCKS))
    assert one.result == "better"


def test_an_interval_that_excludes_zero_alone_is_no_claim_among_many() -> None:
    """Each of five comparisons is significant by itself (p = .03); corrected for their number none is."""
    close = interval(-0.05, 0.045)
    found = comparisons(run_of(experiment_of("2M", 0.6, dict.fromkeys("abcde", close))))
    assert all(one.p_value is not None and one.p_value < 0.05 for one in found)
    assert {one.result for one in found} == {"no difference shown"}


def test_a_clear_loss_is_called_worse() -> None:
    (one,) = comparisons(run_of(experiment_of("2M", 0.6, {"forest": interval(0.05, 0.01)})))
    assert one.result == "worse"


def test_a_difference_without_an_interval_is_no_claim() -> None:
    (one,) = comparisons(run_of(experiment_of("2M", 0.6, {"prior": {}})))
    assert (one.difference, one.p_value) == (pytest.approx(-0.05), None)
    assert one.result == "no difference shown"


def test_each_horizon_is_represented_by_its_best_validation_loss() -> None:
    prior = {"prior": interval(-0.05, 0.01)}
    run = run_of(
        experiment_of("2M", 0.62, prior),
        experiment_of("20M", 0.61, prior),
        experiment_of("2M-h3", 0.7, prior, horizon=3),
    )
    assert {group: one.name for group, one in chosen(run).items()} == {"horizon 1": "20M", "horizon 3": "2M-h3"}
    assert [one.experiment for one in comparisons(run)] == ["20M", "2M-h3"]


def test_nothing_is_compared_before_a_test() -> None:
    assert comparisons(run_of(experiment_of("2M", 0.6, None))) == ()
