"""The figures of the test: reliability agrees with the predictions, and the predictions are verified."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.report.drawing import style
from supervisor.report.evaluation_figures import BINS, reliability, reliability_bins, skill
from supervisor.report.predictions import predictions_of
from supervisor.report.view import read_view

NOW = 1_790_000_000.0
SCORE = {"value": 0.1, "low": -0.05, "high": 0.2}


def view_of(folder: Path, *, sha256: str | None = None) -> dict[str, Any]:
    """Make a run with one tested experiment and write its predictions into `folder`."""
    rng = np.random.default_rng(1)
    said = rng.uniform(0.1, 0.6, 400)
    labels = (rng.uniform(size=400) < said).astype(int)
    test = {"days": [], "labels": labels.tolist(), "probabilities": {"8": said.tolist(), "prior": [0.3] * 400}}
    content = json.dumps({"schema": 1, "val": test, "test": test}).encode()
    (folder / "a").mkdir()
    (folder / "a" / "predictions.json").write_bytes(content)
    evaluation = {
        "models": {
            "patchtst": {"title": "PatchTST", "test": {"skill": SCORE}},
            "prior": {"title": "class prior", "test": {"skill": {"value": 0.0, "low": None, "high": None}}},
        },
        "predictions": {"file": "predictions.json", "sha256": sha256 or hashlib.sha256(content).hexdigest()},
    }
    experiment: dict[str, Any] = {
        "name": "a", "state": "EXITED", "reason": None, "started_wall": NOW, "ended_wall": NOW, "trials": [],
        "spec": {"cell": {}, "mode": "min", "metric": "val_loss"}, "evaluation": evaluation,
    }  # fmt: skip
    run: dict[str, Any] = {
        "id": "r", "plan": "p", "fingerprint": "ab", "source": "built-in", "data": {}, "state": "EXITED",
        "reason": None, "created_wall": NOW, "ended_wall": NOW,
    }  # fmt: skip
    return {"run": run, "commands": [], "lost": [], "experiments": [experiment]}


def test_a_tested_experiment_has_a_reliability_diagram_and_its_skill(tmp_path: Path) -> None:
    run = read_view(view_of(tmp_path), NOW)
    with style():
        predictions, unread = predictions_of(run, tmp_path)
        drawing = reliability(predictions)
        scores = skill(run)
    assert unread == []
    assert drawing is not None
    assert scores is not None
    assert "<svg" in drawing.svg
    assert scores.svg.count(">PatchTST<") == 1


def test_predictions_that_changed_since_the_test_are_reported_and_not_drawn(tmp_path: Path) -> None:
    run = read_view(view_of(tmp_path, sha256="0" * 64), NOW)
    predictions, unread = predictions_of(run, tmp_path)
    assert reliability(predictions) is None
    assert "changed since the test" in unread[0]


def test_missing_predictions_are_reported(tmp_path: Path) -> None:
    run = read_view(view_of(tmp_path), NOW)
    (tmp_path / "a" / "predictions.json").unlink()
    assert "cannot be read" in predictions_of(run, tmp_path)[1][0]


def test_true_probabilities_are_within_their_intervals() -> None:
    """95 % of many bins must contain the truth, within the error of counting."""
    rng = np.random.default_rng(3)
    held = []
    for _ in range(100):
        said = rng.uniform(0.05, 0.95, 400)
        bins = reliability_bins(said, (rng.uniform(size=400) < said).astype(np.float64))
        held += [b.low <= b.predicted <= b.high for b in bins]
    assert 0.93 <= np.mean(held) <= 0.98


@given(
    pairs=st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=1, max_size=60),
)
def test_bins_hold_every_window_once_and_stay_within_zero_and_one(pairs: list[tuple[float, bool]]) -> None:
    said = np.array([p for p, _ in pairs])
    came = np.array([float(label) for _, label in pairs])
    bins = reliability_bins(said, came)
    assert len(bins) == min(BINS, len(pairs))
    assert all(-1e-9 <= b.low <= b.observed + 1e-9 and b.observed <= b.high + 1e-9 <= 1 + 2e-9 for b in bins)
    assert [b.predicted for b in bins] == sorted(b.predicted for b in bins)
    sizes = [len(part) for part in np.array_split(said, len(bins))]
    assert sum(b.observed * n for b, n in zip(bins, sizes, strict=True)) == pytest.approx(came.sum())
