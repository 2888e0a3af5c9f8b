"""Views of a run with budgets, finalised and tested, for the tests of its answer."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np

from supervisor.report.architectures import with_architectures
from supervisor.report.view import RunView, read_view
from training.grid import Grid, build_grid, param_count
from training.scores import log_losses
from training.settings import parse_budget

GRID = {"d_model": [8, 12, 16, 24, 32, 48, 64, 96], "n_layers": [1, 2, 3, 4, 6, 8], "n_heads": [2, 4]}
BUDGETS = ("20k", "60k", "200k", "600k")
FEATURES = 25
NOW = 1_790_007_200.0


def grid_of(budget: str) -> Grid:
    return build_grid(parse_budget(budget), GRID, FEATURES, 80, 10, 5, scales=False)


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
        "config": {
            "budget": budget, "grid": GRID, "context": 80, "patch": 10, "stride": 5,
            "normalisation": "revin", "target": {"price": "high", "threshold": 0.01},
        },
        "space": space, "metric": "val_loss", "mode": "min", "max_trials": 12, "finalize": {"top": 1, "seeds": 3},
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


def with_tests(view: dict[str, Any], folder: Path, slope: float = -0.05, against: float = -0.1) -> dict[str, Any]:
    """Add a test to each experiment, whose losses follow N^slope; `against` is the difference to each simple model."""
    for experiment in view["experiments"]:
        final = experiment["finalized"]
        size, parts = final["param_count"], {}
        parts["val"] = _part(final["trials"], final["val_losses"])
        parts["test"] = _part(final["trials"], [0.6 * (size / 20_000) ** slope] * len(final["trials"]))
        content = json.dumps({"schema": 1, **parts}).encode()
        (folder / experiment["name"]).mkdir()
        (folder / experiment["name"] / "predictions.json").write_bytes(content)
        score = {"value": 0.6, "low": 0.5, "high": 0.7}
        own = {part: dict.fromkeys(("bce", "skill", "auc"), score) for part in ("val", "test")}
        seeds = [
            {"trial": trial, **{part: {"bce": _loss(found, trial)} for part, found in parts.items()}}
            for trial in final["trials"]
        ]
        difference = {"value": against, "low": against - 0.02, "high": against + 0.02}
        experiment["evaluation"] = {
            "param_count": size,
            "opening": {"by": "ann", "reason": "finalised", "at": "2026-01-02T03:04:05", "openings": 1},
            "dates": {"test": ["2016-01-04", "2018-12-31"]}, "windows": {"test": 420},
            "bootstrap": {"block_days": {"test": 42}},
            "models": {
                "patchtst": {"title": "PatchTST", **own, "seeds": seeds},
                "prior": {"title": "class prior", **own},
                "volatility": {"title": "logistic on volatility", **own},
            },
            "against": {name: dict.fromkeys(("val", "test"), difference) for name in ("prior", "volatility")},
            "folds": [_fold(fold, against) for fold in (1, 2)],
            "predictions": {"file": "predictions.json", "sha256": hashlib.sha256(content).hexdigest()},
        }  # fmt: skip
    return view


def _fold(fold: int, against: float) -> dict[str, Any]:
    """Make a fold whose models differ by `against` in the first one, and by its opposite in the second."""
    own = 0.6 + (against if fold == 1 else -against)
    losses = {"patchtst": own, "prior": 0.6, "volatility": 0.6}
    return {
        "fold": fold, "dates": {"test": [f"200{fold}-01-02", f"200{fold}-12-30"]}, "windows": {"test": 100},
        "base_rate": {"test": 0.3}, "bce": {name: {"val": loss, "test": loss} for name, loss in losses.items()},
    }  # fmt: skip


def _part(trials: list[int], losses: list[float]) -> dict[str, Any]:
    """Make 200 days of one part: the mean loss of each trial is about that in `losses`."""
    days = np.random.default_rng(1)
    labels = (days.uniform(size=200) < 0.3).astype(int)
    hard = days.uniform(0.5, 1.5, 200)
    hard /= hard.mean()
    by_trial = {}
    for trial, loss in zip(trials, losses, strict=True):
        daily = loss * hard * np.exp(np.random.default_rng(trial).normal(0, 0.01, 200))
        by_trial[str(trial)] = np.where(labels == 1, np.exp(-daily), 1 - np.exp(-daily)).tolist()
    dates = [f"2015-{day:03}" for day in range(200)]
    return {"days": dates, "labels": labels.tolist(), "probabilities": {**by_trial, "prior": [0.3] * 200}}


def _loss(part: dict[str, Any], trial: int) -> float:
    return float(log_losses(np.array(part["probabilities"][str(trial)]), np.array(part["labels"])).mean())
