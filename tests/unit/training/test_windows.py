"""Windows: labels follow their definition, no normalisation looks ahead, and the test's days are hidden."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.small_trial import build
from training.data.imports import import_file
from training.data.manifest import manifest_path, read_manifest, sha256_of, write_manifest
from training.data.sealed_windows import open_windows
from training.data.splits import TestOpening, split_days
from training.data.windows import base_rates, fit_zscore, load_windows, log_volatility, target_labels
from training.errors import DatasetError, SettingsError, SplitError
from training.loop import gather
from training.model import LARGEST_SHARE, LEAST_SHARE, log_scales, normalise_window
from training.settings import TargetSettings, TrialSettings

BARS = Path(__file__).parents[1] / "data" / "bars.csv"
FOLDS = {"context": 20, "split": {"kind": "folds", "train_fraction": 0.5, "val_fraction": 0.2, "min_val_windows": 20}}


def trial(dataset: Path, **changes: Any) -> TrialSettings:
    return TrialSettings.from_config(
        {
            "budget": "20k",
            "horizon": 3,
            "grid": {"d_model": [16, 32], "n_layers": [1, 2], "n_heads": [2, 4]},
            "shape_rank": 0,
            "heads_log2": 1,
            "learning_rate": 1e-3,
            "dataset": str(dataset),
            "seed": 1,
            "context": 30,
            "split": {"min_val_windows": 20},
            **changes,
        }
    )


@given(
    prices=st.lists(st.floats(1, 1000), min_size=3, max_size=40),
    horizon=st.integers(1, 6),
    threshold=st.sampled_from([0.01, 0.02, 0.03, 0.05]),
    price=st.sampled_from(["high", "close"]),
)
def test_a_label_is_one_when_the_price_reaches_the_threshold_within_the_horizon(
    prices: list[float], horizon: int, threshold: float, price: Any
) -> None:
    frame = pd.DataFrame({"close": prices, "high": np.array(prices) * 1.015})
    labels = target_labels(frame, horizon, TargetSettings(price, threshold))
    for t in range(len(frame)):
        ahead = frame[price].iloc[t + 1 : t + 1 + horizon]
        if len(ahead) < horizon:
            assert np.isnan(labels[t])
        else:
            assert labels[t] == float(ahead.max() >= frame["close"].iloc[t] * (1 + threshold))


def test_the_input_width_comes_from_the_dataset(dataset: Path) -> None:
    windows = load_windows(trial(dataset))
    assert windows.days.shape[1] == read_manifest(dataset).num_features == 25
    assert windows.days.dtype == torch.float32


def test_every_horizon_is_judged_on_the_same_dates(dataset: Path) -> None:
    for changes in ({}, FOLDS, {**FOLDS, "fold": 2}):
        parts = [load_windows(trial(dataset, horizon=horizon, **changes)) for horizon in (1, 3, 5)]
        assert all(torch.equal(parts[0].val, part.val) and torch.equal(parts[0].train, part.train) for part in parts)


@pytest.mark.parametrize("changes", [{}, FOLDS, {**FOLDS, "fold": 1}, {**FOLDS, "fold": 3}])
def test_only_the_days_of_the_sealed_tests_and_those_after_a_fold_are_nan(
    dataset: Path, changes: dict[str, Any]
) -> None:
    settings_ = trial(dataset, **changes)
    windows = load_windows(settings_)
    hidden = ~split_days(len(windows.days), settings_.context, settings_.split, settings_.fold).visible_rows
    assert hidden.sum() > 50
    assert torch.isnan(windows.days[torch.from_numpy(hidden)]).all()
    assert torch.isnan(windows.labels[torch.from_numpy(hidden)]).all()
    for part in (windows.train, windows.val):
        assert torch.isfinite(gather(windows.days, part, settings_.context)).all()
        assert torch.isfinite(windows.labels[part]).all()


@pytest.mark.parametrize("normalisation", ["revin", "revin_scale", "zscore", "none"])
def test_changing_validation_and_test_days_changes_no_train_window(
    stationary: Path, normalisation: str, tmp_path: Path
) -> None:
    dataset = stationary
    settings_ = trial(dataset, normalisation=normalisation)
    before = load_windows(settings_)
    border = int(before.train[-1]) + 1 + settings_.split.purge
    other = rewritten(dataset, tmp_path / dataset.name, lambda frame: frame.iloc[border:].mul(1.5))
    after = load_windows(replace(settings_, dataset=str(other)))
    seen = gather(before.days, before.train, settings_.context), gather(after.days, after.train, settings_.context)
    assert torch.equal(*seen)
    assert torch.equal(before.labels[before.train], after.labels[after.train])
    assert not torch.equal(before.days[border : border + 30], after.days[border : border + 30])


def rewritten(dataset: Path, target: Path, change: Any) -> Path:
    """A registered copy of a dataset whose last rows are those of ``change``."""
    frame = pd.read_parquet(dataset)
    tail = change(frame)
    pd.concat([frame.iloc[: len(frame) - len(tail)], tail]).to_parquet(target)
    write_manifest(replace(read_manifest(dataset), sha256=sha256_of(target)), manifest_path(target))
    return target


def test_revin_of_a_window_depends_on_that_window_only() -> None:
    windows = torch.randn(4, 30, 3)
    alone = torch.cat([normalise_window(windows[i : i + 1]) for i in range(4)])
    torch.testing.assert_close(normalise_window(windows), alone)


@given(scale=st.floats(1e-3, 1e9), shift=st.floats(-1e3, 1e3))
def test_revin_removes_scale_and_level(scale: float, shift: float) -> None:
    windows = torch.randn(2, 50, 3, dtype=torch.float64, generator=torch.Generator().manual_seed(1))
    once, moved = normalise_window(windows), normalise_window((windows + shift) * scale)
    torch.testing.assert_close(once, moved, atol=0.05, rtol=0.05)
    torch.testing.assert_close(once.mean(dim=1), torch.zeros(2, 3, dtype=torch.float64), atol=1e-9, rtol=0)


def test_revin_of_a_flat_feature_is_zero_not_noise() -> None:
    flat = torch.full((1, 80, 1), 123456.789)
    assert normalise_window(flat).abs().max() < 0.1


def test_twice_the_deviation_moves_the_scales_by_log_2_and_a_flat_feature_has_the_least() -> None:
    windows = 100 + torch.randn(4, 80, 3, dtype=torch.float64)
    mean = windows.mean(dim=1, keepdim=True)
    moved = log_scales(mean + 2 * (windows - mean)) - log_scales(windows)
    torch.testing.assert_close(moved, torch.full((4, 3), math.log(2), dtype=torch.float64))
    for level in (0.0, 123456.789):
        assert log_scales(torch.full((1, 80, 1), level)).item() == pytest.approx(math.log(LEAST_SHARE))
    around_zero = windows - mean
    torch.testing.assert_close(
        log_scales(around_zero), torch.full((4, 3), math.log(LARGEST_SHARE), dtype=torch.float64)
    )


@pytest.mark.parametrize("scaled", [1.0, 1e9])
def test_scales_do_not_depend_on_the_level_of_the_price(scaled: float) -> None:
    windows = 100 + torch.randn(4, 80, 3)
    torch.testing.assert_close(log_scales(windows * scaled), log_scales(windows), atol=1e-3, rtol=0)


def test_zscore_of_inputs_that_grow_with_the_price_is_refused_with_their_names(dataset: Path, tmp_path: Path) -> None:
    """The mean close of the train years says nothing of later ones."""
    with pytest.raises(
        SettingsError, match=r"TEST_dataset_a25.parquet has inputs that grow with the price \(open, high"
    ) as caught:
        load_windows(trial(dataset, normalisation="zscore"))
    assert caught.value.key == "normalisation"
    assert "s28" in caught.value.remedy
    opening = TestOpening(tmp_path / "record.json", "a test", "a reason", "sha", "now")
    with pytest.raises(SettingsError, match="grow with the price"):
        open_windows(trial(dataset, normalisation="zscore"), opening)
    assert not opening.record.exists()


@pytest.mark.parametrize("tier", ["a20", "a25", "s28", "a25_vix", "s28_vix"])
def test_the_number_of_the_volatility_baseline_is_the_same_for_every_tier(tier: str, tmp_path: Path) -> None:
    """Log VIX where a tier has it, else log of ATR 14 / close: so all inputs are compared with the same baseline."""
    import_file(BARS, "^VIX", tmp_path, calendar=None)
    frame = pd.read_parquet(build(tmp_path, tier))
    plain = pd.read_parquet(build(tmp_path, "a25_vix" if tier.endswith("_vix") else "a25"))
    expected = plain["vix_close"] if tier.endswith("_vix") else plain["atr_14"] / plain["close"]
    np.testing.assert_allclose(log_volatility(frame), np.log(expected), rtol=1e-12)


def test_zscore_is_fitted_on_the_days_that_train_windows_see() -> None:
    table = np.random.default_rng(0).normal(size=(200, 2))
    mean, deviation = fit_zscore(table, np.arange(29, 100), context=30)
    np.testing.assert_allclose(mean, table[:100].mean(axis=0))
    np.testing.assert_allclose(deviation, table[:100].std(axis=0))


def test_zscore_leaves_a_constant_feature_at_zero() -> None:
    table = np.full((100, 1), 7.0)
    mean, deviation = fit_zscore(table, np.arange(29, 80), context=30)
    assert ((table - mean) / deviation == 0).all()


def test_a_zscore_trial_records_mean_and_deviation(stationary: Path) -> None:
    windows = load_windows(trial(stationary, normalisation="zscore"))
    assert windows.zscore is not None
    assert len(windows.zscore["mean"]) == len(windows.zscore["deviation"]) == 28
    assert load_windows(trial(stationary)).zscore is None


def test_a_changed_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    copy = tmp_path / dataset.name
    copy.write_bytes(dataset.read_bytes() + b"x")
    manifest_path(copy).write_bytes(manifest_path(dataset).read_bytes())
    with pytest.raises(DatasetError, match="has changed"):
        load_windows(trial(copy))


def test_a_missing_dataset_is_refused(dataset: Path, tmp_path: Path) -> None:
    with pytest.raises(DatasetError, match="not registered"):
        load_windows(trial(tmp_path / "gone.parquet"))
    lost = tmp_path / dataset.name
    manifest_path(lost).write_bytes(manifest_path(dataset).read_bytes())
    with pytest.raises(DatasetError, match="does not exist, though its manifest does"):
        load_windows(trial(lost))


def test_labels_of_one_class_are_refused_with_a_cure(dataset: Path) -> None:
    with pytest.raises(SplitError, match="expected train labels of both classes, found only 0") as caught:
        load_windows(trial(dataset, target={"price": "close", "threshold": 0.5}))
    assert "threshold" in caught.value.remedy


def test_too_few_validation_windows_are_refused(dataset: Path) -> None:
    with pytest.raises(SplitError, match="at least 200"):
        load_windows(trial(dataset, split={}))


def test_base_rates_grow_with_the_horizon(dataset: Path) -> None:
    rates = base_rates(dataset)
    assert 0 < rates[1] <= rates[3] <= rates[5] < 1
