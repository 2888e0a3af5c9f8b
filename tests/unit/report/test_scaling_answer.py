"""The answer of a plan with budgets: its points, its verdict and its doubts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervisor.report import __main__ as report
from supervisor.report.answer_section import evaluation_section
from supervisor.report.importance import importance
from supervisor.report.predictions import validation_losses
from supervisor.report.scaling.answer import ScalingAnswer, as_json, scaling_answer
from tests.unit.report.budgets_view import NOW, finalized, grid_of, made_view, run_of, with_predictions
from training.grid import param_count


def answer_to(view: dict[str, Any]) -> ScalingAnswer:
    answer = scaling_answer(run_of(view))
    assert answer is not None
    return answer


@pytest.fixture(scope="module")
def falling() -> ScalingAnswer:
    """The answer to finalised losses that fall with size: shared by its tests."""
    return answer_to(finalized(made_view(-0.05)))


@pytest.fixture(scope="module")
def searched() -> ScalingAnswer:
    """The answer to the same losses without a finalisation."""
    return answer_to(made_view(-0.05))


def test_a_loss_that_falls_with_size_is_found_to_scale(falling: ScalingAnswer) -> None:
    assert falling.analysis.verdict == "scaling"
    assert falling.groups == ("horizon 1", "horizon 3")
    slope = falling.analysis.slope
    assert slope is not None
    assert -0.05 in slope.interval


def test_a_loss_that_does_not_fall_is_not_found_to_scale() -> None:
    assert answer_to(finalized(made_view(0.0))).analysis.verdict == "no scaling detected"


def test_finalised_configurations_give_a_point_per_seed_and_others_their_best_trial() -> None:
    view = finalized(made_view(-0.05))
    view["experiments"][0].pop("finalized")
    answer = answer_to(view)
    assert len(answer.points) == 1 + 7 * 3
    assert [point.experiment for point in answer.points if not point.finalized] == ["20k-h1"]
    assert any("20k-h1 are the best of a search" in doubt for doubt in answer.doubts)


def test_points_of_a_search_and_validation_losses_are_doubts(searched: ScalingAnswer) -> None:
    doubts = " ".join(searched.doubts)
    assert "All points are the best of a search" in doubts
    assert "The verdict rests on losses on the validation windows" in doubts
    assert "does not hold other days" in doubts


def test_one_budget_gives_no_scaling_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    view = finalized(made_view(-0.05, horizons=(1,)))
    view["experiments"] = view["experiments"][:1]
    assert scaling_answer(run_of(view)) is None
    text = report.write(view, tmp_path, NOW).read_text()
    assert "scale with size" not in text
    assert "The best configuration for horizon 1 is" in text


def test_the_predictions_of_a_test_let_the_days_into_the_interval(tmp_path: Path) -> None:
    run = run_of(with_predictions(finalized(made_view(-0.05)), tmp_path))
    plain, found = scaling_answer(run), scaling_answer(run, validation_losses(run, tmp_path))
    assert plain is not None
    assert found is not None
    assert not plain.analysis.resampled
    assert found.analysis.resampled
    assert plain.analysis.slope is not None
    assert found.analysis.slope is not None
    assert found.analysis.slope.interval.low < plain.analysis.slope.interval.low
    assert not any("does not hold other days" in doubt for doubt in found.doubts)


def test_predictions_of_some_points_only_are_not_resampled(tmp_path: Path) -> None:
    run = run_of(with_predictions(finalized(made_view(-0.05)), tmp_path))
    (tmp_path / run.experiments[2].name / "predictions.json").write_bytes(b"changed")
    found = scaling_answer(run, validation_losses(run, tmp_path))
    assert found is not None
    assert not found.analysis.resampled


def test_the_report_begins_with_the_answer_then_doubts_then_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    text = report.write(with_predictions(finalized(made_view(-0.05)), tmp_path), tmp_path, NOW).read_text()
    expected = [
        "Larger models are better (by validation losses)",
        "On the test (corrected for 2 comparisons), the search at horizon 1 beats prior; at horizon 3 beats prior.",
        "The best configuration for horizon 1 is trial",
        "<h2>Doubts</h2>",
        "<h2>Experiments</h2>",
        "Does the loss scale with size?",
    ]
    assert [text.find(part) for part in expected] == sorted(text.find(part) for part in expected)
    assert all(part in text for part in expected)
    assert "test loss 0.6000 [0.5000, 0.7000]" in text
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert len(numbers["answer"]) == 3
    assert [one["result"] for one in numbers["comparisons"]] == ["better", "better"]


def test_no_scaling_has_no_law_in_page_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    text = report.write(finalized(made_view(0.0)), tmp_path, NOW).read_text()
    assert "No scaling detected (by validation losses)" in text
    assert "which excludes a fall of more than" in text
    assert "alpha" not in text
    assert json.loads((tmp_path / "report.json").read_text())["scaling"]["law"] is None


def test_experiments_without_a_value_are_named_as_missing_points() -> None:
    view = made_view(-0.05)
    view["experiments"][3]["trials"] = []
    assert "No point yet from 60k-h3." in answer_to(view).doubts


def test_a_pruned_trial_without_a_record_gets_its_size_from_the_grid() -> None:
    run = run_of(made_view(-0.05, pruned=True))
    for experiment in run.experiments:
        grid = grid_of(experiment.cell["budget"])
        for trial in experiment.trials:
            own = grid.architecture(trial.params["shape_rank"], trial.params["heads_log2"])
            assert trial.param_count == param_count(own)
            assert trial.architecture == own.as_dict()


def test_ordinals_outside_the_grid_leave_the_size_unknown() -> None:
    view = made_view(-0.05, pruned=True)
    view["experiments"][0]["trials"][2]["params"]["shape_rank"] = 999
    assert run_of(view).experiments[0].trials[2].param_count is None


def test_a_plan_without_budgets_has_no_scaling_answer() -> None:
    view = made_view(-0.05)
    for experiment in view["experiments"]:
        experiment["spec"]["cell"] = {"horizon": 1}
    assert scaling_answer(run_of(view)) is None


def test_the_prior_is_the_entropy_of_the_base_rate(searched: ScalingAnswer) -> None:
    entropy = -(0.3 * np.log(0.3) + 0.7 * np.log(0.7))
    assert searched.prior_loss == pytest.approx((entropy, entropy))


def test_the_answer_is_strict_json_and_the_same_each_time(falling: ScalingAnswer) -> None:
    text = json.dumps(as_json(falling), allow_nan=False)
    assert text == json.dumps(as_json(answer_to(finalized(made_view(-0.05)))), allow_nan=False)
    assert json.loads(text)["law"]["E"].keys() == {"horizon 1", "horizon 3"}


def test_the_page_and_the_numbers_have_the_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    page = report.write(finalized(made_view(-0.05, horizons=(1,))), tmp_path, NOW).read_text()
    assert "Larger models are better" in page
    assert {"scaling-loss.png", "scaling-residuals.png", "scaling-shapes.png"} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["scaling"]["verdict"] == "scaling"
    assert len(numbers["scaling"]["points"]) == 4 * 3


def test_the_parameter_that_matters_is_the_most_important() -> None:
    run = run_of(made_view(-0.05))
    shares = [importance(experiment) for experiment in run.experiments]
    rate, heads = (float(np.mean([share[name] for share in shares])) for name in ("learning_rate", "heads_log2"))
    assert rate > heads
    assert all(0 <= value <= 1 for share in shares for value in share.values())


def test_too_few_trials_give_no_importance() -> None:
    view = made_view(-0.05)
    view["experiments"][0]["trials"] = view["experiments"][0]["trials"][:5]
    assert importance(run_of(view).experiments[0]) == {}


def test_a_tested_model_is_shown_beside_its_baselines_with_intervals() -> None:
    score = {"value": 0.61234, "low": 0.58, "high": 0.64}
    scores = dict.fromkeys(("bce", "skill", "auc", "average_precision", "brier"), score)
    view = made_view(-0.05)
    view["experiments"][0]["evaluation"] = {
        "opening": {
            "by": "ann",
            "reason": "finalised",
            "at": "2026-01-02T03:04:05",
            "openings": 2,
            "earlier_looks": [{"run": "mini-1", "days": 640}],
        },
        "dates": {"test": ["2016-01-04", "2018-12-31"]},
        "models": {
            "patchtst": {"title": "PatchTST <3 seeds>", "test": scores},
            "prior": {"title": "class prior", "test": scores | {"auc": {"value": None, "low": None, "high": None}}},
        },
    }
    text = evaluation_section(run_of(view), [])
    assert "PatchTST &lt;3 seeds&gt;" in text
    assert text.count("0.6123") == 9
    assert "[0.580, 0.640]" in text
    assert (
        "2016-01-04 to 2018-12-31; these days have now been opened 2 times; 640 of them were opened before by mini-1"
        in text
    )


def test_without_a_test_there_is_no_test_section() -> None:
    assert evaluation_section(run_of(made_view(-0.05)), []) == ""
