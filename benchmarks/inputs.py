"""Compare what a model is given: inputs without the level of volatility, and two kinds of inputs that keep it.

    python -m benchmarks.inputs [--data DIR --ticker SPY] [--vix] [--seeds 3] [--epochs 20] [--processes 2]

DIR is the data folder of a home, into which `supervisord data import` has put the ticker (and ^VIX for --vix); without
it, or without the ticker there, the embedded S&P 500 is used. One 60k model (48 wide, 2 layers, phase6a-mini's
windows) is trained on each input, horizon, fold and seed. Beside it stand, on the very same validation days, the class
prior and a logistic regression on one number, the log of VIX or of ATR 14 / close. The sealed test is not touched.

Limit: a model's loss is that of its best epoch, as in a search, so it is chosen on the days on which it is compared.
"""

from __future__ import annotations

import argparse
import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from benchmarks.machine import machine
from supervisor.plan.dataset import choose_dataset
from supervisor.plan.schema import Data
from training.data.manifest import read_manifest
from training.data.windows import load_windows, log_volatility, read_dataset
from training.scores import log_losses
from training.session import TrainingSession
from training.settings import TrialSettings

HORIZONS = (1, 3, 5)
INPUTS = (("a25", "revin"), ("s28", "zscore"), ("a25", "revin_scale"))
MODEL: dict[str, Any] = {
    "budget": "60k",
    "grid": {"d_model": [48], "n_layers": [2], "n_heads": [4], "d_ff_ratio": [4]},
    "shape_rank": 0,
    "heads_log2": 2,
    "stride": 10,
    "batch_size": 128,
    "learning_rate": 2e-3,
    "split": {"kind": "folds"},
    "device": "cpu",
    "precision": "fp32",
    "threads": 1,
}


@dataclass(frozen=True)
class Job:
    """One training: the name of its input, and its config."""

    inputs: str
    config: dict[str, Any]

    @property
    def place(self) -> tuple[int, int]:
        """Return horizon and fold: forecasts of one place are of the same days."""
        return self.config["horizon"], self.config["fold"]


@dataclass(frozen=True)
class Trained:
    """The validation loss of a training's best epoch, the number of epochs, the seconds of the whole training."""

    job: Job
    loss: float
    epochs: int
    seconds: float


def train(job: Job) -> Trained:
    """Train one model to its end."""
    started = time.monotonic()
    session = TrainingSession(job.config, gate=lambda: 0.0)
    while not (epoch := session.step()).finished:
        pass
    session.close()
    return Trained(job, epoch.best_val_loss, epoch.number, time.monotonic() - started)


def simple_losses(config: dict[str, Any]) -> tuple[float, float]:
    """Return the validation losses of the class prior and of the logistic regression on volatility."""
    settings = TrialSettings.from_config(config)
    windows = load_windows(settings)
    path = Path(settings.dataset)
    number = log_volatility(read_dataset(path, read_manifest(path)))[:, None]
    train_days, val_days, labels = windows.train.numpy(), windows.val.numpy(), windows.labels.double().numpy()
    model = make_pipeline(StandardScaler(), LogisticRegression()).fit(number[train_days], labels[train_days])
    answers = model.predict_proba(number[val_days])[:, 1]
    prior = np.full(len(val_days), windows.base_rate_train)
    return tuple(float(log_losses(one, labels[val_days]).mean()) for one in (prior, answers))  # type: ignore[return-value]  # two of two


def jobs(datasets: dict[tuple[str, str], str], seeds: int, epochs: int, patience: int) -> Iterator[Job]:
    """List the trainings: for each seed every fold, horizon and input."""
    folds = TrialSettings.__dataclass_fields__["split"].default_factory().folds  # type: ignore[misc]
    for seed in range(1, seeds + 1):
        for fold in range(1, folds + 1):
            for horizon in HORIZONS:
                for (tier, normalisation), dataset in datasets.items():
                    yield Job(
                        f"{tier}, {normalisation}",
                        {
                            **MODEL, "horizon": horizon, "fold": fold, "seed": seed, "dataset": dataset,
                            "normalisation": normalisation, "max_epochs": epochs, "patience": patience,
                        },
                    )  # fmt: skip


def said(one: Trained) -> Trained:
    """Print a training's result and return it."""
    (horizon, fold), seed = one.job.place, one.job.config["seed"]
    where = f"horizon {horizon}, fold {fold}, seed {seed}, {one.job.inputs}"
    print(f"{where}: {one.loss:.4f}, {one.epochs} epochs", flush=True)
    return one


def error(values: Sequence[float]) -> float:
    """Return the standard error of a mean."""
    return float(np.std(values, ddof=1) / np.sqrt(len(values))) if len(values) > 1 else float("nan")


def show(trained: Sequence[Trained]) -> None:
    """Print a row for each horizon and input: mean losses, and the model's less that of volatility alone."""
    simple = {one.job.place: simple_losses(one.job.config) for one in trained}
    print(
        "| horizon | input | validation loss (s.e.) | class prior | volatility alone | loss less volatility's (s.e.) |"
    )
    print("|---:|---|---:|---:|---:|---:|")
    for horizon in HORIZONS:
        for name in dict.fromkeys(one.job.inputs for one in trained):
            own = [one for one in trained if one.job.inputs == name and one.job.place[0] == horizon]
            losses = [one.loss for one in own]
            prior, volatility = (np.mean([simple[one.job.place][k] for one in own]) for k in (0, 1))
            less = [one.loss - simple[one.job.place][1] for one in own]
            print(
                f"| {horizon} | {name} | {np.mean(losses):.4f} ({error(losses):.4f}) | {prior:.4f} | {volatility:.4f} "
                f"| {np.mean(less):+.4f} ({error(less):.4f}) |"
            )


def main() -> None:
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--data", type=Path, help="the data folder of a home (default: a new one with the sample)")
    parser.add_argument("--ticker", default="SPY")
    parser.add_argument("--vix", action="store_true", help="take the tiers with VIX")
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--epochs", type=int, default=20)
    parser.add_argument("--patience", type=int, default=4)
    parser.add_argument("--processes", type=int, default=2)
    asked = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as empty:
        folder = asked.data or Path(empty)
        found = {
            (tier, normalisation): choose_dataset(
                Data(ticker=asked.ticker, tier=tier + "_vix" * asked.vix, fallback="sample"), folder
            )
            for tier, normalisation in INPUTS
        }
        print(machine())
        print(next(iter(found.values())).sentence(), flush=True)
        paths = {key: choice.path for key, choice in found.items()}
        todo = list(jobs(paths, asked.seeds, asked.epochs, asked.patience))
        with ProcessPoolExecutor(asked.processes, mp_context=get_context("spawn")) as pool:
            trained = [said(one) for one in pool.map(train, todo)]
        show(trained)
    epochs, seconds = (sum(getattr(one, name) for one in trained) for name in ("epochs", "seconds"))
    print(
        f"{len(trained)} trainings, {epochs} epochs, {seconds / epochs:.2f} s each; {time.monotonic() - started:.0f} s"
    )


if __name__ == "__main__":
    main()
