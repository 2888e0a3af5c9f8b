"""A forecast: the same answers as on the dataset, no look ahead, and a refusal where anything differs."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from supervisor.cli.show import forecast as verb
from tests.unit.training.small_trial import BARS, config, no_gate
from training import predict
from training.best_weights import FILE, keep_weights, settle
from training.data.features import FEATURE_VERSION
from training.data.manifest import manifest_path, read_manifest, write_manifest
from training.data.tiers import TIERS
from training.errors import BadFile, CheckpointError, DatasetError, TrainingError
from training.inference import architecture_of, load_model, probabilities
from training.predict import Request, forecast
from training.session import TrainingSession

CONTEXT = 30
SEEDS = {8: 11, 9: 12}


def trained(folder: Path, dataset: Path, **changes: Any) -> list[dict[str, Any]]:
    """Train one epoch of each seed; return the trials of a request."""
    trials = []
    for number, seed in SEEDS.items():
        session = TrainingSession(config(dataset, seed=seed, max_epochs=1, **changes), gate=no_gate)
        epoch = session.step()
        weights = session.weights(copied=True)
        assert weights is not None
        (folder / str(number)).mkdir(parents=True)
        keep_weights(weights, folder / str(number))
        settle(folder / str(number), epoch.best_epoch)
        trials.append(
            {
                "number": number,
                "config": config(dataset, seed=seed, max_epochs=1, **changes),
                "weights": str(folder / str(number) / FILE),
                "zscore": session.record()["zscore"],
            }
        )
        session.close()
    return trials


@pytest.fixture(scope="module")
def trials(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> list[dict[str, Any]]:
    return trained(tmp_path_factory.mktemp("weights"), dataset)


def asked(trials: list[dict[str, Any]], bars: Path = BARS, days: int = 4, **changes: Any) -> Request:
    return Request.from_json({"trials": trials, "bars": str(bars), "days": days, "threads": 1, **changes})


def cut_off(folder: Path, rows: int) -> Path:
    """Write the first `rows` bars into a file of their own."""
    lines = BARS.read_text(encoding="utf-8").splitlines()
    path = folder / f"first-{rows}.csv"
    path.write_text("\n".join(lines[: rows + 1]) + "\n", encoding="utf-8")
    return path


def answers_on_the_dataset(dataset: Path, trial: dict[str, Any], days: int) -> list[float]:
    """Answer the last windows of the registered dataset, whose features were computed at its import."""
    own = Request.from_json({"trials": [trial], "bars": "x", "days": days, "threads": 1}).trials[0]
    manifest = read_manifest(dataset)
    table = pd.read_parquet(dataset)[list(manifest.features)].to_numpy(np.float64)
    model, precision = load_model(own, architecture_of(own.settings), manifest.sha256, "cpu")
    rows = np.arange(len(table) - days, len(table), dtype=np.int64)
    return probabilities(model, torch.from_numpy(table.astype(np.float32)), rows, CONTEXT, precision, 16).tolist()


def test_a_forecast_of_the_datasets_own_bars_is_what_the_model_says_on_the_dataset(
    dataset: Path, trials: list[dict[str, Any]]
) -> None:
    found = forecast(asked(trials))
    last = pd.read_parquet(dataset).index[-4:]
    assert found["days"] == [f"{day:%Y-%m-%d}" for day in last]
    for trial in trials:
        expected = answers_on_the_dataset(dataset, trial, 4)
        assert found["by_trial"][str(trial["number"])] == pytest.approx(expected, abs=1e-6)
    assert found["mean"] == pytest.approx(np.mean(list(found["by_trial"].values()), axis=0))
    assert all(0.0 < value < 1.0 for value in found["mean"])
    assert (found["ticker"], found["tier"], found["horizon"]) == ("TEST", "a25", 3)
    assert json.loads(json.dumps(found, allow_nan=False)) == found


def test_a_forecast_does_not_look_ahead(trials: list[dict[str, Any]], tmp_path: Path) -> None:
    """Later bars change no answer of an earlier day."""
    rows = len(BARS.read_text(encoding="utf-8").splitlines()) - 1
    whole = forecast(asked(trials, days=6))
    before = forecast(asked(trials, cut_off(tmp_path, rows - 3), days=3))
    assert before["days"] == whole["days"][:3]
    assert before["mean"] == pytest.approx(whole["mean"][:3], abs=1e-6)


def test_scales_of_the_training_are_used_where_a_trial_standardised_its_inputs(
    stationary: Path, tmp_path: Path
) -> None:
    trials = trained(tmp_path, stationary, normalisation="zscore")
    found = forecast(asked(trials))
    manifest, trial = read_manifest(stationary), trials[0]
    table = pd.read_parquet(stationary)[list(manifest.features)].to_numpy(np.float64)
    scaled = (table - np.asarray(trial["zscore"]["mean"])) / np.asarray(trial["zscore"]["deviation"])
    own = asked([trial]).trials[0]
    model, precision = load_model(own, architecture_of(own.settings), manifest.sha256, "cpu")
    rows = np.arange(len(table) - 4, len(table), dtype=np.int64)
    expected = probabilities(model, torch.from_numpy(scaled.astype(np.float32)), rows, CONTEXT, precision, 16)
    assert found["by_trial"]["8"] == pytest.approx(expected.tolist(), abs=1e-6)
    with pytest.raises(CheckpointError, match="lacks the scales"):
        forecast(asked([{**trial, "zscore": None}]))


def rebuilt(dataset: Path, folder: Path, **changes: Any) -> Path:
    """Copy the dataset's manifest with changes; a forecast reads no more of it."""
    path = folder / dataset.name
    write_manifest(replace(read_manifest(dataset), **changes), manifest_path(path))
    return path


@pytest.mark.parametrize(
    ("changes", "error", "words"),
    [
        ({"sha256": "ab" * 32}, CheckpointError, "dataset_sha256 differ"),
        ({"feature_version": FEATURE_VERSION + 1}, DatasetError, "the model would see other numbers"),
        ({"features": TIERS["a25"][::-1]}, DatasetError, "the model would see other numbers"),
        ({"tier": "a99"}, DatasetError, "expected one of the tiers"),
    ],
)
def test_another_dataset_or_other_features_are_refused_with_a_cure(
    dataset: Path, trials: list[dict[str, Any]], tmp_path: Path,
    changes: dict[str, Any], error: type[TrainingError], words: str,
) -> None:  # fmt: skip
    other = str(rebuilt(dataset, tmp_path, **changes))
    moved = [{**trial, "config": {**trial["config"], "dataset": other}} for trial in trials]
    with pytest.raises(error, match=words) as refusal:
        forecast(asked(moved))
    assert "supervisord start PLAN --new" in refusal.value.remedy


def test_weights_of_another_trial_or_none_are_refused(trials: list[dict[str, Any]], tmp_path: Path) -> None:
    swapped = [{**trials[0], "weights": trials[1]["weights"]}]
    with pytest.raises(CheckpointError, match="seed differ"):
        forecast(asked(swapped))
    with pytest.raises(CheckpointError, match="does not exist"):
        forecast(asked([{**trials[0], "weights": str(tmp_path / "best.pt")}]))


def test_a_history_that_is_too_short_is_refused_with_the_days_it_needs(
    trials: list[dict[str, Any]], tmp_path: Path
) -> None:
    with pytest.raises(TrainingError, match=r"expected at least 2\d\d days, found 250") as refusal:
        forecast(asked(trials, cut_off(tmp_path, 250), days=40))
    assert "--days" in refusal.value.remedy
    with pytest.raises(BadFile, match="no such file"):
        forecast(asked(trials, tmp_path / "none.csv"))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda frame: frame.drop(columns=["close"]), "close"),
        (lambda frame: frame.iloc[[*range(10), 20, *range(10, 20), *range(21, len(frame))]], "order|before|after"),
        (lambda frame: frame.assign(high=frame["high"].where(frame.index != 300, -1.0)), "high"),
    ],
    ids=["a column is missing", "the days are not in order", "a price is negative"],
)
def test_faulty_bars_are_refused_with_their_fault(
    trials: list[dict[str, Any]], tmp_path: Path, change: Callable[[pd.DataFrame], pd.DataFrame], words: str
) -> None:
    path = tmp_path / "faulty.csv"
    change(pd.read_csv(BARS)).to_csv(path, index=False)
    with pytest.raises(BadFile, match=words) as refusal:
        forecast(asked(trials, path))
    assert refusal.value.remedy


def test_a_tier_with_vix_asks_for_its_bars(dataset: Path, trials: list[dict[str, Any]], tmp_path: Path) -> None:
    """The weights of another width are refused first, so the check of the weights is left out here."""
    manifest = replace(read_manifest(dataset), tier="a25_vix", features=TIERS["a25_vix"])
    with pytest.raises(TrainingError, match="needs VIX bars, too") as refusal:
        predict.inputs_of(asked(trials), manifest, CONTEXT)
    assert refusal.value.remedy == "Give them with --vix FILE."


def test_a_refusal_is_printed_with_its_remedy_and_a_fault_of_the_machine_fails(
    trials: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(body: dict[str, Any]) -> tuple[int, str]:
        monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(body).encode())))
        code = predict.main()
        return code, capsys.readouterr().out

    body = {"trials": trials, "bars": "none.csv", "days": 2, "threads": 1}
    code, out = run(body)
    assert (code, json.loads(out)) == (0, {"refused": "none.csv: no such file", "remedy": "Check the path."})
    code, out = run({**body, "bars": str(BARS)})
    assert (code, len(json.loads(out)["mean"])) == (0, 2)
    assert run({"days": 2}) == (1, "")


def test_a_model_that_answers_no_number_is_refused(
    trials: list[dict[str, Any]], monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    body = {"trials": trials, "bars": str(BARS), "days": 2, "threads": 1}
    monkeypatch.setattr(sys, "stdin", SimpleNamespace(buffer=io.BytesIO(json.dumps(body).encode())))
    monkeypatch.setattr(predict, "probabilities", lambda *_: np.array([0.5, np.nan]))
    assert predict.main() == 0
    assert "found one that is no number" in json.loads(capsys.readouterr().out)[predict.REFUSED]


def test_the_verb_has_the_names_of_the_child() -> None:
    """The command line cannot import training before it needs it, so it has the names as constants of its own."""
    assert (verb.WEIGHTS, verb.REFUSED) == (FILE, predict.REFUSED)
