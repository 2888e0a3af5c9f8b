"""The answer of a plan with budgets: its points, its verdict and its doubts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervisor.report import __main__ as report
from supervisor.report.answer_text import sentences
from supervisor.report.evaluated import Evaluated
from supervisor.report.evaluation_section import evaluation_section, fold_tables
from supervisor.report.importance import importance
from supervisor.report.predictions import predictions_of
from supervisor.report.scaling.answer import ScalingAnswer, as_json, scaling_answer
from supervisor.report.scaling.section import scaling_section
from tests.unit.report.budgets_view import NOW, finalized, grid_of, made_view, run_of, with_tests
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


def answer_of_tests(folder: Path, slope: float, tests_slope: float) -> tuple[ScalingAnswer, list[str]]:
    """Answer for a run whose validation and test losses follow two slopes; also its sentences."""
    run = run_of(with_tests(finalized(made_view(slope)), folder, tests_slope))
    answer = scaling_answer(run, predictions_of(run, folder)[0])
    assert answer is not None
    return answer, sentences(run, answer, ())


def test_the_verdict_is_that_of_the_tests_and_validation_stands_beside(tmp_path: Path) -> None:
    answer, (first, *_) = answer_of_tests(tmp_path, -0.05, 0.0)
    assert (answer.part, answer.analysis.verdict, answer.beside) == ("test", "no scaling detected", "scaling")
    assert first.startswith("No scaling detected on the test: the loss changes by ")
    assert "which excludes a fall of more than" in first
    assert first.endswith("; validation disagrees (larger models are better).")
    assert not any("validation" in doubt for doubt in answer.doubts)


def test_tests_and_validation_that_agree_say_so(tmp_path: Path) -> None:
    answer, (first, *_) = answer_of_tests(tmp_path, -0.05, -0.05)
    assert answer.analysis.slope is not None
    assert -0.05 in answer.analysis.slope.interval
    assert first.startswith("Larger models are better on the test: ")
    assert first.endswith("; validation agrees.")


def test_the_points_of_the_tests_are_the_seeds_mean_losses_over_the_days(tmp_path: Path) -> None:
    view = with_tests(finalized(made_view(-0.05)), tmp_path)
    points = answer_to(view).points
    seeds = [seed for e in view["experiments"] for seed in e["evaluation"]["models"]["patchtst"]["seeds"]]
    assert [(p.trial, p.loss) for p in points] == [(seed["trial"], seed["test"]["bce"]) for seed in seeds]
    assert all(point.finalized for point in points)


def test_the_section_of_an_experiment_has_its_test_by_fold(tmp_path: Path) -> None:
    view = with_tests(finalized(made_view(-0.05, horizons=(1,))), tmp_path)
    view["experiments"][1]["evaluation"]["folds"] = view["experiments"][1]["evaluation"]["folds"][:1]
    tables = fold_tables(run_of(view))
    assert list(tables) == ["20k-h1", "200k-h1", "600k-h1"], "one fold alone is the test of the section above"
    assert "2001-01-02 to 2001-12-30" in tables["20k-h1"]
    assert "+0.1667" in tables["20k-h1"]
    assert "Better than volatility alone in 1 of 2 folds." in tables["20k-h1"]


def untest(view: dict[str, Any], **changes: Any) -> dict[str, Any]:
    view["experiments"][3] |= {"evaluation": None} | changes
    return view


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"missing": "its test was not opened"}, "its test was not opened: 60k-h3"),
        ({"state": "FATAL"}, "ended without a test: 60k-h3"),
        ({"state": "RUNNING"}, "not tested yet: 60k-h3"),
        ({"finalized": None, "state": "RUNNING"}, "not finished: 60k-h3"),
        ({"state": "STOPPED", "trials": [], "finalized": None}, "not finished: 60k-h3"),
    ],
)
def test_a_missing_test_makes_the_verdict_provisional_and_says_why(
    tmp_path: Path, changes: dict[str, Any], reason: str
) -> None:
    run = run_of(untest(with_tests(finalized(made_view(-0.05)), tmp_path, 0.0), **changes))
    answer = scaling_answer(run, predictions_of(run, tmp_path)[0])
    assert answer is not None
    assert (answer.part, answer.validation, answer.analysis.verdict) == ("val", None, "scaling")
    first = sentences(run, answer, ())[0]
    assert first.startswith(f"Provisional, from validation, because tests are missing ({reason}): larger models are ")
    assert any("The verdict rests on losses on the validation windows" in doubt for doubt in answer.doubts)


def test_a_test_without_a_finite_loss_is_a_missing_one(tmp_path: Path) -> None:
    view = with_tests(finalized(made_view(-0.05)), tmp_path)
    for seed in view["experiments"][3]["evaluation"]["models"]["patchtst"]["seeds"]:
        seed["test"]["bce"] = None
    assert answer_to(view).provisional == "no finite test loss: 60k-h3"


@pytest.mark.parametrize("state", ["SKIPPED", "FATAL"])
def test_a_cell_that_ended_without_a_value_is_left_out_and_the_tests_decide(tmp_path: Path, state: str) -> None:
    view = untest(with_tests(finalized(made_view(-0.05)), tmp_path), state=state, trials=[], finalized=None)
    answer = answer_to(view)
    assert (answer.part, answer.provisional) == ("test", None)
    assert "No point yet from 60k-h3." in answer.doubts
    assert any("budget 60k" in doubt for doubt in answer.doubts)


def test_a_plan_without_finalisation_or_with_a_trainable_of_ones_own_has_no_test() -> None:
    view = made_view(-0.05)
    for experiment in view["experiments"]:
        del experiment["spec"]["finalize"]
    expected = "not finalised by the plan, so not tested: 20k-h1, 20k-h3, 60k-h1, 60k-h3 and 4 more"
    assert answer_to(view).provisional == expected
    for experiment in view["experiments"]:
        experiment["spec"]["trainable"] = "my:train"
    assert str(answer_to(view).provisional).startswith("a trainable of your own has no test here: ")


@pytest.mark.parametrize("loss", [None, float("nan"), float("inf"), 0.0])
def test_a_seed_without_a_logarithm_of_its_loss_is_left_out(tmp_path: Path, loss: float | None) -> None:
    view = with_tests(finalized(made_view(-0.05)), tmp_path)
    view["experiments"][0]["evaluation"]["models"]["patchtst"]["seeds"][1]["test"]["bce"] = loss
    answer = answer_to(view)
    assert (answer.part, len(answer.points)) == ("test", 8 * 3 - 1)


@pytest.mark.parametrize("budgets", [2, 4])
def test_one_seed_a_cell_is_enough_and_two_budgets_have_no_table(tmp_path: Path, budgets: int) -> None:
    view = made_view(-0.05, horizons=(1,))
    view["experiments"] = view["experiments"][:budgets]
    run = run_of(with_tests(finalized(view, seeds=1), tmp_path))
    answer = scaling_answer(run, predictions_of(run, tmp_path)[0])
    assert answer is not None
    assert ("<table" in scaling_section(answer, [])) == (budgets == 4)
    first = sentences(run, answer, ())[0]
    assert ("No answer about scaling, too few points: 2 budgets have a point" in first) == (budgets == 2)


def test_the_predictions_of_a_test_let_the_days_into_the_interval(tmp_path: Path) -> None:
    run = run_of(with_tests(finalized(made_view(-0.05)), tmp_path))
    plain, found = scaling_answer(run), scaling_answer(run, predictions_of(run, tmp_path)[0])
    assert plain is not None
    assert found is not None
    assert not plain.analysis.resampled
    assert found.analysis.resampled
    assert plain.analysis.slope is not None
    assert found.analysis.slope is not None
    assert found.analysis.slope.interval.low <= plain.analysis.slope.interval.low
    assert not any("does not hold other days" in doubt for doubt in found.doubts)


def test_predictions_of_some_points_only_are_not_resampled(tmp_path: Path) -> None:
    run = run_of(with_tests(finalized(made_view(-0.05)), tmp_path))
    (tmp_path / run.experiments[2].name / "predictions.json").write_bytes(b"changed")
    found = scaling_answer(run, predictions_of(run, tmp_path)[0])
    assert found is not None
    assert (found.part, found.analysis.resampled) == ("test", False)


def test_the_report_begins_with_the_answer_then_doubts_then_experiments(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    view = with_tests(finalized(made_view(-0.05)), tmp_path)
    view["run"]["data"] = {"source": "package arch.data"}
    text = report.write(view, tmp_path, NOW).read_text()
    expected = [
        "Larger models are better on the test",
        "On the test (corrected for 4 comparisons), the search beats prior, volatility at horizon 1, 3.",
        "The best configuration for horizon 1 is trial",
        "<h2>Doubts</h2>",
        "<h2>Experiments</h2>",
        "Does the loss scale with size?",
        "against volatility, validation",
        "<strong>reached</strong>",
        "calibration error",
        "no tradable return",
    ]
    assert [text.find(part) for part in expected] == sorted(text.find(part) for part in expected)
    assert all(part in text for part in expected)
    assert "test loss 0.6000 [0.5000, 0.7000]" in text
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert len(numbers["answer"]) == 3
    assert {one["result"] for one in numbers["comparisons"]} == {"better"}
    assert numbers["scaling"]["losses"] == "test"
    assert numbers["goal"] == {"missed_groups": [], "pooled": pytest.approx(0.1 / 0.6), "missed": False}


def test_a_missed_goal_is_the_first_sentence(tmp_path: Path) -> None:
    run = run_of(with_tests(finalized(made_view(-0.05)), tmp_path, against=0.006))
    found = Evaluated.of(run, {})
    first, second, _ = sentences(run, scaling_answer(run), found.compared, found.goal)
    assert first.startswith(
        "The goal (better than volatility alone on validation, no worse on the pooled test) is missed on validation at "
        "horizon 1, 3 and on the pooled test (skill -0.010); on the test (corrected for 4 comparisons), "
    )
    assert second.startswith("Larger models are better on the test")


def test_no_scaling_has_no_law_in_page_and_numbers(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(report, "MAX_DRAWN_EXPERIMENTS", 0)
    text = report.write(finalized(made_view(0.0)), tmp_path, NOW).read_text()
    assert "ended without a test: 20k-h1, 20k-h3, 60k-h1, 60k-h3 and 4 more): no scaling detected: " in text
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
    assert "larger models are better" in page
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
        "param_count": 20_000,
        "dates": {"test": ["2016-01-04", "2018-12-31"]},
        "models": {
            "patchtst": {"title": "PatchTST <3 seeds>", "test": scores, "seeds": []},
            "prior": {"title": "class prior", "test": scores | {"auc": {"value": None, "low": None, "high": None}}},
        },
    }
    run = run_of(view)
    text = evaluation_section(run, Evaluated.of(run, {}))
    assert "PatchTST &lt;3 seeds&gt;" in text
    assert text.count("0.6123") == 9
    assert "[0.580, 0.640]" in text
    assert (
        "2016-01-04 to 2018-12-31; these days have now been opened 2 times; 640 of them were opened before by mini-1"
        in text
    )
    view["experiments"][0]["evaluation"]["folds"] = [
        {"dates": {"test": [f"{year}-01-04", f"{year}-12-30"]}} for year in (2009, 2018)
    ]
    run = run_of(view)
    assert "days 2009-01-04 to 2009-12-30, 2018-01-04 to 2018-12-30;" in evaluation_section(run, Evaluated.of(run, {}))


def test_without_a_test_there_is_no_test_section() -> None:
    run = run_of(made_view(-0.05))
    assert evaluation_section(run, Evaluated.of(run, {})) == ""
