"""The one test: the search cannot read its days, it opens once, and it refuses faults before that."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from supervisor.daemon.experiments.evaluation import WEIGHTS
from supervisor.errors import ReportFailed
from supervisor.report.predictions import read_predictions
from training.best_weights import FILE, forget_earlier, forget_later, keep_weights, read_weights, settle
from training.data.manifest import manifest_path, read_manifest, sha256_of, write_manifest
from training.data.sealed_windows import open_windows
from training.data.splits import SplitIndices, TestOpening, split_days
from training.errors import CheckpointError, Diverged, DoesNotFit, SealedTestError, SettingsError
from training.evaluation import Request, evaluate
from training.inference import device_here
from training.scores import SCORES, Forecast, scores
from training.session import TrainingSession
from training.settings import SplitSettings, TrialSettings

SPLIT = {"min_val_windows": 20}
FOLDS = {"kind": "folds", "train_fraction": 0.5, "val_fraction": 0.2, "min_val_windows": 20}
EPOCHS = 3


def config(dataset: Path, seed: int = 1, **changes: Any) -> dict[str, Any]:
    return {
        "budget": "20k", "horizon": 3, "grid": {"d_model": [16, 32], "n_layers": [1, 2], "n_heads": [2, 4]},
        "shape_rank": 0, "heads_log2": 1, "learning_rate": 1e-3, "dataset": str(dataset), "seed": seed, "context": 30,
        "split": SPLIT, "max_epochs": EPOCHS, "device": "cpu", "normalisation": "revin_scale", **changes,
    }  # fmt: skip


def kept(session: TrainingSession, *, copied: bool = True) -> dict[str, Any]:
    """Return a session's weights; a machine that runs tests has the memory for a copy of these."""
    found = session.weights(copied=copied)
    assert found is not None
    return found


def train(folder: Path, dataset: Path, seed: int, **changes: Any) -> float:
    """Run a finalisation trial like its trainable; return its best validation loss."""
    folder.mkdir(parents=True)
    session = TrainingSession(config(dataset, seed, **changes), gate=lambda: 0.0)
    while True:
        epoch = session.step()
        if epoch.best_epoch == epoch.number:
            keep_weights(kept(session), folder)
        if epoch.finished:
            settle(folder, epoch.best_epoch)
            session.close()
            return epoch.best_val_loss


@pytest.fixture(scope="module")
def trained(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float]]:
    """Make an experiment's folder with two finalisation trials; return it and their best losses."""
    folder = tmp_path_factory.mktemp("experiment")
    return folder, {number: train(folder / str(number), dataset, seed) for number, seed in ((8, 11), (9, 12))}


def request(dataset: Path, trained: Path, folder: Path, record: str = "test-opened-1.json", **changes: Any) -> Request:
    trials = [
        {"number": number, "config": config(dataset, seed), "weights": str(trained / str(number) / FILE)}
        for number, seed in ((8, 11), (9, 12))
    ]
    opening = {"record": record, "by": "a test", "reason": "it is its turn", "at": "2026-01-01T00:00:00+00:00"}
    body = {"trials": trials, "folder": str(folder), "device": "cpu", "threads": 1, "opening": opening, "draws": 200}
    return Request.from_json({**body, **changes})


@pytest.fixture(scope="module")
def tested(dataset: Path, trained: tuple[Path, dict[int, float]], tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("tested")
    return folder, evaluate(request(dataset, trained[0], folder))


def test_the_file_of_the_best_weights_has_one_name() -> None:
    """The daemon cannot import training, so it has the name as a constant of its own."""
    assert WEIGHTS == FILE


def poisoned(dataset: Path, folder: Path, split: dict[str, Any], context: int) -> Path:
    """Copy the dataset with NaN in each day that a test window touches, whichever fold's."""
    copy = folder / dataset.name
    frame = pd.read_parquet(dataset)
    sealed = split_days(len(frame), context, SplitSettings(**split)).sealed_rows
    assert sealed.sum() > 30
    frame.loc[sealed, :] = np.nan
    frame.to_parquet(copy)
    write_manifest(replace(read_manifest(dataset), sha256=sha256_of(copy)), manifest_path(copy))
    return copy


def losses(dataset: Path, split: dict[str, Any], context: int) -> list[tuple[float, float]]:
    """Train a trial of the search and one of each fold; return every loss."""
    found = []
    for fold in dict.fromkeys((None, *SplitSettings(**split).test_folds)):
        session = TrainingSession(config(dataset, split=split, context=context, fold=fold), gate=lambda: 0.0)
        found += [(epoch.train_loss, epoch.val_loss) for epoch in (session.step() for _ in range(EPOCHS))]
    return found


@pytest.mark.parametrize("split", [SPLIT, FOLDS])
def test_no_trial_ever_reads_a_test_block(dataset: Path, tmp_path: Path, split: dict[str, Any]) -> None:
    """Poison the test blocks on the disk: all losses stay the same to the last bit."""
    assert losses(poisoned(dataset, tmp_path, split, 20), split, 20) == losses(dataset, split, 20)


@pytest.mark.parametrize("unsealed", [True, False])
def test_a_planted_leak_of_a_single_test_window_is_found(
    dataset: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, unsealed: bool
) -> None:
    """Let training see one window of a test: the poison is found, and the seal alone stops the trial."""

    def leaky(rows: int, context: int, settings: SplitSettings, fold: int | None = None) -> SplitIndices:
        found = split_days(rows, context, settings, fold)
        visible = np.ones_like(found.visible_rows) if unsealed else found.visible_rows
        stolen = found.test_indices._hidden[:1]
        return replace(found, train_indices=np.append(found.train_indices, stolen), visible_rows=visible)

    monkeypatch.setattr("training.data.windows.split_days", leaky)
    # Else the windows of the tests before were mapped, and the planted ones kept for those after.
    monkeypatch.setattr("training.data.windows.shared_arrays", lambda folder, key, make: make())
    with pytest.raises(Diverged):
        losses(poisoned(dataset, tmp_path, FOLDS, 20) if unsealed else dataset, FOLDS, 20)


def test_too_little_memory_is_found_before_the_test_is_opened(
    dataset: Path, trained: tuple[Path, dict[int, float]], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("training.inference.device_memory_bytes", lambda *_: 1000)
    with pytest.raises(DoesNotFit):
        evaluate(request(dataset, trained[0], tmp_path))
    assert list(tmp_path.iterdir()) == []


def test_the_best_epochs_weights_are_kept_and_no_others(dataset: Path, tmp_path: Path) -> None:
    """A copy is of the epoch at which it was taken, whatever is trained before it is written."""
    session = TrainingSession(config(dataset), gate=lambda: 0.0)
    session.step()
    first = read_weights(keep_weights(kept(session, copied=False), tmp_path))["model"]
    expected = {name: value.clone() for name, value in first.items()}
    copied = kept(session)
    session.step()
    found = read_weights(keep_weights(copied, tmp_path))
    assert (found["epoch"], "optimizer" in found) == (1, False)
    assert all(torch.equal(found["model"][name], value) for name, value in expected.items())
    keep_weights(kept(session), tmp_path)
    assert read_weights(settle(tmp_path, 2))["epoch"] == 2
    assert settle(tmp_path, 2) == tmp_path / FILE, "a second time, after a kill"
    with pytest.raises(CheckpointError, match="the weights of the best epoch 7"):
        settle(tmp_path, 7)


def test_weights_that_no_checkpoint_names_are_removed(tmp_path: Path) -> None:
    for epoch in (1, 2, 4, 9):
        (tmp_path / f"best-{epoch}.pt").touch()
    forget_earlier(tmp_path, (2, 4))
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-2.pt", "best-4.pt", "best-9.pt"]
    forget_later(tmp_path, 4)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["best-2.pt", "best-4.pt"]
    forget_earlier(tmp_path, ())
    forget_later(tmp_path, None)
    assert list(tmp_path.iterdir()) == []


def test_the_tests_validation_loss_equals_the_trials(
    tested: tuple[Path, dict[str, Any]], trained: tuple[Path, dict[int, float]]
) -> None:
    """This shows that weights are the best epoch's, and windows and labels the search's."""
    seeds = tested[1]["models"]["patchtst"]["seeds"]
    for seed in seeds:
        assert seed["val"]["bce"] == pytest.approx(trained[1][seed["trial"]], rel=1e-6)
    mean = sum(seed["test"]["bce"] for seed in seeds) / 2
    assert tested[1]["models"]["patchtst"]["test"]["bce"]["value"] == pytest.approx(mean)


def test_every_forecaster_has_every_score_with_its_interval(tested: tuple[Path, dict[str, Any]]) -> None:
    result = tested[1]
    assert list(result["models"]) == ["patchtst", "prior", "volatility", "logistic", "forest", "boosting"]
    for model in result["models"].values():
        for part in ("val", "test"):
            assert set(model[part]) == set(SCORES)
            for found in model[part].values():
                assert found["low"] <= found["value"] <= found["high"]
    assert result["models"]["prior"]["test"]["skill"]["value"] == 0
    assert json.loads(json.dumps(result, allow_nan=False)) == result


def test_the_result_says_on_which_device_the_answers_were_computed(tested: tuple[Path, dict[str, Any]]) -> None:
    assert tested[1]["device"] == {"asked": "cpu", "used": "cpu"}


def test_without_the_trials_gpu_the_test_runs_on_the_cpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("training.inference.available_devices", lambda: ["cpu"])
    assert device_here("cuda") == "cpu"
    monkeypatch.setattr("training.inference.available_devices", lambda: ["cpu", "cuda"])
    assert device_here("cuda") == "cuda"


def test_the_paired_difference_is_that_of_the_two_losses(tested: tuple[Path, dict[str, Any]]) -> None:
    models, against = tested[1]["models"], tested[1]["against"]
    for name, parts in against.items():
        for part, found in parts.items():
            expected = models["patchtst"][part]["bce"]["value"] - models[name][part]["bce"]["value"]
            assert found["value"] == pytest.approx(expected)


def test_the_parts_follow_each_other_and_share_no_day_of_a_label(tested: tuple[Path, dict[str, Any]]) -> None:
    dates = tested[1]["dates"]
    assert dates["train"][0] < dates["train"][1] < dates["val"][0] < dates["val"][1] < dates["test"][0]


def test_the_predictions_file_has_every_probability_and_its_hash(tested: tuple[Path, dict[str, Any]]) -> None:
    folder, result = tested
    kept = read_predictions(folder / result["predictions"]["file"], result["predictions"]["sha256"])
    rate = result["base_rate"]["train"]
    for part in ("val", "test"):
        labels = kept[part].labels
        assert len(kept[part].days) == len(labels) == result["windows"][part]
        for seed in result["models"]["patchtst"]["seeds"]:
            found = scores(Forecast(kept[part].of_seeds()[seed["trial"]], labels, rate))
            assert found == pytest.approx(seed[part])
        assert set(kept[part].probabilities) == {"8", "9", "prior", "volatility", "logistic", "forest", "boosting"}


def test_changed_predictions_are_refused(tested: tuple[Path, dict[str, Any]], tmp_path: Path) -> None:
    content = (tested[0] / "predictions.json").read_bytes()
    (tmp_path / "predictions.json").write_bytes(content + b" ")
    with pytest.raises(ReportFailed, match="has changed since the test"):
        read_predictions(tmp_path / "predictions.json", hashlib.sha256(content).hexdigest())
    with pytest.raises(ReportFailed, match="cannot be read"):
        read_predictions(tmp_path / "nowhere.json", "0")


def test_a_second_opening_with_the_same_record_is_refused(
    dataset: Path, trained: tuple[Path, dict[int, float]], tested: tuple[Path, dict[str, Any]]
) -> None:
    before = (tested[0] / "predictions.json").read_bytes()
    with pytest.raises(SealedTestError, match="opened before"):
        evaluate(request(dataset, trained[0], tested[0]))
    assert (tested[0] / "predictions.json").read_bytes() == before


@pytest.mark.parametrize("fault", ["missing", "of another seed", "cut short"])
def test_unusable_weights_are_found_before_the_test_is_opened(
    dataset: Path, trained: tuple[Path, dict[int, float]], tmp_path: Path, fault: str
) -> None:
    """The test opens only once, so a fault that can be found before must not use the opening up."""
    weights = tmp_path / FILE
    if fault == "of another seed":
        weights.write_bytes((trained[0] / "8" / FILE).read_bytes())
    elif fault == "cut short":
        weights.write_bytes((trained[0] / "9" / FILE).read_bytes()[:-5])
    asked = request(dataset, trained[0], tmp_path)
    first, second = asked.trials
    with pytest.raises(CheckpointError):
        evaluate(replace(asked, trials=(first, replace(second, weights=weights))))
    assert not asked.opening.record.exists()


def test_the_process_answers_a_refusal_in_one_line(dataset: Path, tmp_path: Path) -> None:
    body = {
        "trials": [{"number": 8, "config": config(dataset), "weights": str(tmp_path / FILE)}], "folder": str(tmp_path),
        "device": "cpu", "threads": 1, "opening": {"record": "r.json", "by": "x", "reason": "y", "at": "z"},
    }  # fmt: skip
    done = subprocess.run(
        [sys.executable, "-P", "-m", "training.evaluation"],
        input=json.dumps(body), capture_output=True, text=True, timeout=120, check=False,
    )  # fmt: skip
    assert done.returncode == 0
    assert json.loads(done.stdout) == {"refused": f"CheckpointError: {tmp_path / FILE} does not exist"}
    assert done.stderr == ""


TWO_FOLDS = {"context": 20, "split": {**FOLDS, "folds": 2}}
CHAINS = ((8, 11, 2), (9, 12, 2), (10, 11, 1), (11, 12, 1))
"""Number, seed and fold of each trial."""


def folds_request(dataset: Path, trained: Path, folder: Path) -> Request:
    trials = [
        {
            "number": number,
            "config": config(dataset, seed, fold=fold, **TWO_FOLDS),
            "weights": str(trained / str(number) / FILE),
        }
        for number, seed, fold in CHAINS
    ]
    return request(dataset, trained, folder, trials=trials)


@pytest.fixture(scope="module")
def walked(dataset: Path, tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[int, float], dict[str, Any]]:
    """Train two seeds on each of two folds and test them; return their folder, best losses and the result."""
    folder = tmp_path_factory.mktemp("folds")
    losses = {n: train(folder / str(n), dataset, seed, fold=fold, **TWO_FOLDS) for n, seed, fold in CHAINS}
    return folder, losses, evaluate(folds_request(dataset, folder, folder))


class TestFolds:
    """Each fold's block is opened once and answered by the trials of that fold; scores are pooled and by fold."""

    def test_each_block_has_its_own_record(self, walked: Any, dataset: Path) -> None:
        folder = walked[0]
        records = sorted(path.name for path in folder.glob("test-opened*"))
        assert records == ["test-opened-1-fold-1.json", "test-opened-1-fold-2.json"]
        with pytest.raises(SealedTestError, match="opened before"):
            evaluate(folds_request(dataset, folder, folder))

    def test_a_folds_own_trials_answer_its_windows(self, walked: Any) -> None:
        """Each trial's best validation loss is found again on its own fold, averaged over the seeds."""
        _, losses, result = walked
        assert [fold["fold"] for fold in result["folds"]] == [1, 2]
        for fold, numbers in zip(result["folds"], ((10, 11), (8, 9)), strict=True):
            expected = sum(losses[number] for number in numbers) / 2
            assert fold["bce"]["patchtst"]["val"] == pytest.approx(expected, rel=1e-6)
        assert [(s["trial"], s["trials"], s["seed"]) for s in result["models"]["patchtst"]["seeds"]] == [
            (8, [10, 8], 11), (9, [11, 9], 12)
        ]  # fmt: skip

    def test_scores_are_pooled_over_all_windows(self, walked: Any) -> None:
        folder, _, result = walked
        kept = json.loads((folder / "predictions.json").read_text())
        for part in ("val", "test"):
            days, folds = kept[part]["days"], np.array(kept[part]["folds"])
            assert days == sorted(set(days))
            counts = [fold["windows"][part] for fold in result["folds"]]
            assert folds.tolist() == [1] * counts[0] + [2] * counts[1]
            labels = np.array(kept[part]["labels"], np.float64)
            prior = np.array(kept[part]["probabilities"]["prior"])
            assert [set(prior[folds == n]) for n in (1, 2)] == [{f["base_rate"]["train"]} for f in result["folds"]]
            for seed in result["models"]["patchtst"]["seeds"]:
                own = np.array(kept[part]["probabilities"][str(seed["trial"])])
                assert scores(Forecast(own, labels, prior)) == pytest.approx(seed[part])
            for name in ("patchtst", "prior", "forest"):
                parts = [fold["bce"][name][part] for fold in result["folds"]]
                assert result["models"][name][part]["bce"]["value"] == pytest.approx(np.average(parts, weights=counts))
        assert result["models"]["prior"]["test"]["skill"]["value"] == 0
        assert json.loads(json.dumps(result, allow_nan=False)) == result

    def test_training_precedes_each_folds_validation_and_this_its_test(self, walked: Any) -> None:
        for fold in walked[2]["folds"]:
            dates = fold["dates"]
            assert dates["train"][1] < dates["val"][0] < dates["val"][1] < dates["test"][0]
        assert walked[2]["folds"][0]["dates"]["test"][1] < walked[2]["folds"][1]["dates"]["val"][0]

    def test_a_seed_without_a_fold_is_refused_before_the_test_is_opened(
        self, walked: Any, dataset: Path, tmp_path: Path
    ) -> None:
        asked = folds_request(dataset, walked[0], tmp_path)
        with pytest.raises(SettingsError, match="not the folds of seed 12"):
            evaluate(replace(asked, trials=asked.trials[:-1]))
        assert list(tmp_path.iterdir()) == []

    def test_an_opening_shows_no_other_folds_test(self, dataset: Path, tmp_path: Path) -> None:
        settings = TrialSettings.from_config(config(dataset, fold=1, **TWO_FOLDS))
        windows = open_windows(settings, TestOpening(tmp_path / "record.json", "a test", "a reason", "sha", "now"))
        last = split_days(len(windows.days), 20, settings.split, fold=2)
        assert np.isnan(windows.days[last.test_rows]).all()
        assert np.isnan(windows.labels[last.test_rows]).all()
        assert not np.isnan(windows.days[windows.test]).any()


def test_opened_windows_are_scaled_by_the_train_days_alone(stationary: Path, tmp_path: Path) -> None:
    settings = TrialSettings.from_config(config(stationary, normalisation="zscore"))
    opening = TestOpening(tmp_path / "record.json", "a test", "a reason", "sha", "now")
    windows = open_windows(settings, opening)
    seen = np.unique(windows.train[:, None] + np.arange(-29, 1)[None, :])
    assert np.abs(windows.days[seen].mean(axis=0)).max() < 1e-6
    assert not np.isnan(windows.days[windows.test]).any()
    assert set(np.unique(windows.part_labels(windows.test))) <= {0.0, 1.0}
