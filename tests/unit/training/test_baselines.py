"""Test the baselines: fitted on train windows, fed with windows as the model sees them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from tests.unit.training.small_trial import config
from training.baselines import fit_baselines, summaries
from training.grid import Architecture
from training.model import PatchTST
from training.scores import Forecast, scores
from training.settings import TrialSettings


def test_baselines_learn_a_learnable_label_from_train_windows_only() -> None:
    """The label is whether the last day lies above its window's mean: every baseline but prior and volatility sees it,
    though the labels of the other parts were never shown."""
    rng = np.random.default_rng(0)
    table = rng.normal(100, 1, size=(1_500, 3))
    context = 20
    days = np.arange(context - 1, 1_500)
    above = np.array([table[day, 2] > table[day - context + 1 : day + 1, 2].mean() for day in days], np.float64)
    labels = np.full(1_500, np.nan)
    labels[days] = above
    parts = {"train": days[:1_000], "val": days[1_000:1_200], "test": days[1_200:]}
    shown = labels.copy()
    shown[np.concatenate([parts["val"], parts["test"]])] = np.nan
    settings = TrialSettings.from_config(config(Path("any"), context=context))
    volatility = rng.normal(size=1_500)
    found = {b.name: b for b in fit_baselines(table, volatility, shown, parts, settings, seed=1, threads=1)}
    rate = float(labels[parts["train"]].mean())
    for name in ("logistic", "forest", "boosting"):
        assert scores(Forecast(found[name].probabilities["test"], labels[parts["test"]], rate))["auc"] > 0.95, name
    assert (found["prior"].probabilities["val"] == rate).all()
    assert scores(Forecast(found["volatility"].probabilities["test"], labels[parts["test"]], rate))["auc"] < 0.6


SIZES = {"revin": 12, "revin_scale": 15, "zscore": 12, "none": 12}


@pytest.mark.parametrize("normalisation", SIZES)
def test_baselines_get_the_level_of_volatility_if_and_only_if_the_model_gets_it(normalisation: str) -> None:
    """They summarise windows as the model sees them: what its normalisation removes, no summary has."""
    settings = TrialSettings.from_config(config(Path("any"), normalisation=normalisation))
    rng = np.random.default_rng(0)
    days = 100 + rng.normal(size=(30, 3)).cumsum(axis=0)
    twice = days.mean(axis=0) + 2 * (days - days.mean(axis=0))
    network = PatchTST(
        Architecture(16, 1, 32, 2, 3, 30, 10, 5, normalisation == "revin_scale"), revin=settings.scales_windows
    ).double()  # fmt: skip
    with torch.no_grad():
        seen = [network.inputs(torch.from_numpy(one)[None]) for one in (days, twice)]
    summed = [summaries(one, np.array([29]), settings) for one in (days, twice)]
    assert summed[0].shape == (1, SIZES[normalisation])
    close = {"rtol": 1e-3, "atol": 1e-3}
    assert torch.allclose(*seen, **close) == np.allclose(*summed, **close) == (normalisation == "revin")


def test_a_summary_of_revin_ignores_the_price_level_and_accepts_flat_features() -> None:
    table = np.column_stack([np.linspace(1, 2, 60), np.full(60, 7.0), np.zeros(60)])
    settings = TrialSettings.from_config(config(Path("any"), normalisation="revin_scale"))
    found = summaries(table, np.arange(29, 60), settings)
    assert found.shape == (31, 15)
    assert np.isfinite(found).all()
    assert np.allclose(found, summaries(table * 1000, np.arange(29, 60), settings), atol=1e-4)
