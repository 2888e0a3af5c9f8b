"""The answer of a plan with budgets: its points, its verdict and its doubts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from supervisor.report import __main__ as report
from supervisor.report.answer_section import evaluation_section
from supervisor.report.architectures import with_architectures
from supervisor.report.importance import importance
from supervisor.report.scaling_answer import ScalingAnswer, as_json, scaling_answer
from supervisor.report.view import RunView, read_view
from training.grid import Grid, build_grid, param_count
from training.settings import parse_budget

GRID = {"d_model": [8, 12, 16, 24, 32, 48, 64, 96], "n_layers": [1, 2, 3, 4, 6, 8], "n_heads": [2, 4]}
BUDGETS = ("20k", "60k", "200k", "600k")
FEATURES = 25
NOW = 1_790_007_200.0


def grid_of(budget: str) -> Grid:
    return build_grid(parse_budget(budget), GRID, FEATURES, 80, 10, 5)


def made_view(
    slope: float, *, pruned: bool = False, horizons: tuple[int, ...] = (1, 3), **changes: Any
) -> dict[str, Any]:
    """Make a run whose losses follow N^slope, twelve trials an experiment; `pruned` ones have no record."""
    rng = np.random.default_rng(4)
    experiments = [
        _experiment(budget, horizon, slope, rng, pruned=pruned) | changes for budget in BUDGETS for horizon in horizons
    ]
    run: dict[str, Any] = {
        "id": "r", "plan": "p", "fingerprint": "ab", "source": "built-in", "data": {}, "state": "EXITED",
        "reason": None, "created_wall": NOW, "ended_wall": NOW,
    }  # fmt: skip
    return {"run": run, "commands": [], "lost": [], "experiments": experiments}


def _experiment(budget: str, horizon: int, slope: float, rng: np.random.Generator, *, pruned: bool) -> dict[str, Any]:
    grid = grid_of(budget)
    (low, high), (fewest, most) = grid.axes().values()
    trials = []
    for number in range(12):
        rank, heads = int(rng.integers(low, high + 1)), int(rng.integers(fewest, most + 1))
        architecture = grid.architecture(rank, heads)
        size = param_count(architecture)
        rate = float(rng.uniform(-4, -2))
        loss = (0.4 + 0.1 * horizon) * (size / 20_000) ** slope * (1 + 0.05 * (rate + 3) ** 2)
        loss *= float(np.exp(rng.normal(0, 0.002)))
        record = {
            "param_count": size, "architecture": architecture.as_dict(), "num_features": FEATURES, "base_rate_val": 0.3,
        }  # fmt: skip
        trials.append({
            "number": number, "state": "TERMINATED", "source": "sampled", "attempt": 1, "value": loss, "error": None,
            "end_reason": "pruned" if pruned else "finished", "held_for": None, "started_wall": NOW, "ended_wall": NOW,
            "params": {"shape_rank": rank, "heads_log2": heads, "learning_rate": 10**rate},
            "record": {} if pruned and number else {"num_features": FEATURES} if pruned else record,
            "results": [[1, loss, 1.0]],
        })  # fmt: skip
    space = {
        "learning_rate": {"type": "float", "low": 1e-4, "high": 1e-2, "log": True},
        "heads_log2": {"type": "int", "low": fewest, "high": most},
    }
    spec = {
        "name": f"{budget}-h{horizon}", "cell": {"budget": budget, "horizon": horizon}, "trainable": "patchtst",
        "config": {"budget": budget, "grid": GRID, "context": 80, "patch": 10, "stride": 5}, "space": space,
        "metric": "val_loss", "mode": "min", "max_trials": 12,
    }  # fmt: skip
    return {
        "name": spec["name"], "state": "EXITED", "reason": None, "started_wall": NOW, "ended_wall": NOW, "spec": spec,
        "trials": trials,
    }  # fmt: skip


def run_of(view: dict[str, Any]) -> RunView:
    return with_architectures(read_view(view, NOW))


def finalized(view: dict[str, Any], seeds: int = 3) -> dict[str, Any]:
    """Add the finalisation of each experiment: its best trial, trained again on `seeds` seeds."""
    for place, experiment in enumerate(view["experiments"]):
        best = min(experiment["trials"], key=lambda trial: trial["value"])
        noise = np.random.default_rng(place).normal(0, 0.002, seeds)
        losses = [best["value"] * float(np.exp(deviation)) for deviation in noise]
        experiment["finalized"] = {
            "from_trial": best["number"], "params": best["params"], "param_count": best["record"]["param_count"],
            "trials": [100 + n for n in range(seeds)], "val_losses": losses, "val_loss": float(np.mean(losses)),
        }  # fmt: skip
    return view


def answer_to(view: dict[str, Any]) -> ScalingAnswer:
    answer = scaling_answer(run_of(view))
    assert answer is not None
    return answer


@pytest.fixture(scope="module")
def falling() -> ScalingAnswer:
    """The answer to finalised losses that fall with size: half a second of bootstrap, shared by its tests."""
    return answer_to(finalized(made_view(-0.05)))


@pytest.fixture(scope="module")
def searched() -> ScalingAnswer:
    """The answer to the same losses without a finalisation."""
    return answer_to(made_view(-0.05))


def test_a_loss_that_falls_with_size_is_found_to_scale(falling: ScalingAnswer) -> None:
    assert falling.analysis.verdict == "scaling"
    assert falling.groups == ("horizon 1", "horizon 3")
    pooled = falling.analysis.pooled_slope
    assert pooled is not None
    assert -0.05 in pooled.interval


def test_a_loss_that_does_not_fall_is_not_found_to_scale() -> None:
    assert answer_to(finalized(made_view(0.0))).analysis.verdict == "no scaling detected"


def test_finalised_configurations_give_a_point_per_seed_and_others_their_best_trial() -> None:
    view = finalized(made_view(-0.05))
    view["experiments"][0].pop("finalized")
    answer = answer_to(view)
    assert len(answer.points) == 1 + 7 * 3
    assert [point.experiment for point in answer.points if not point.finalized] == ["20k-h1"]
    assert any("20k-h1 are the best of a search" in doubt for doubt in answer.doubts)


def test_one_seed_per_cell_and_few_budgets_are_doubts(searched: ScalingAnswer) -> None:
    doubts = " ".join(searched.doubts)
    assert "All points are the best of a search" in doubts
    assert "too narrow" in doubts
    assert "With 4 budgets" in doubts


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
    assert "Yes: the loss falls with the number of parameters." in page
    assert {"scaling-loss.png", "scaling-residuals.png", "scaling-shapes.png"} <= {
        file.name for file in (tmp_path / "figures").iterdir()
    }
    numbers = json.loads((tmp_path / "report.json").read_text())
    assert numbers["answer"]["verdict"] == "scaling"
    assert len(numbers["answer"]["points"]) == 4 * 3


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
        "opening": {"by": "ann", "reason": "finalised", "at": "2026-01-02T03:04:05", "openings": 2},
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
    assert "2016-01-04 to 2018-12-31; these days have now been opened 2 times" in text


def test_without_a_test_there_is_no_test_section() -> None:
    assert evaluation_section(run_of(made_view(-0.05)), []) == ""
