"""Load a processed dataset as tensors: a float32 table of days, labels, and the days of each part.

They are mapped from a file beside the datasets (shared_arrays), so that the trials of a node share their pages.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor

from training.data.manifest import ProcessedManifest, read_manifest, sha256_of
from training.data.shared_arrays import Arrays, shared_arrays
from training.data.splits import Indices, SplitIndices, split_days
from training.data.tiers import LEAST, check_normalisation
from training.errors import DatasetError, SplitError
from training.settings import SplitSettings, TargetSettings, TrialSettings

# A deviation below this share of the mean is rounding, not movement; dividing by it would magnify noise.
FLAT_SHARE = 1e-8


@dataclass(frozen=True)
class MarketWindows:
    """The data of a trial.

    ``days`` (rows, features) float32; ``labels`` (rows,) float32, 1 or 0; ``train`` and ``val`` (samples,) int64 hold
    the last visible day of each window. Days of the sealed test hold NaN, so that using them by mistake shows;
    ``sealed`` names them (``day_set``), and no value of theirs.
    """

    days: Tensor
    labels: Tensor
    train: Tensor
    val: Tensor
    manifest: ProcessedManifest
    base_rate_train: float
    base_rate_val: float
    zscore: Mapping[str, list[float]] | None
    sealed: Mapping[str, str]
    mapped: bool = False
    """True: the tensors are pages of a file that other processes may share; a write would be this process's own."""

    def to(self, device: torch.device) -> MarketWindows:
        """Copy the tensors to ``device``."""
        moved = {name: getattr(self, name).to(device) for name in _TENSORS}
        return replace(self, **moved)


_TENSORS = ("days", "labels", "train", "val")


def load_windows(settings: TrialSettings) -> MarketWindows:
    """Read, verify, split, normalise and label a trial's dataset, or map what another trial has made of it.

    Raises DatasetError when the file is missing or has changed, SplitError when a part is too small or has labels of
    one class only, SettingsError for zscore of inputs that grow with the price.
    """
    path = Path(settings.dataset)
    manifest = read_manifest(path)
    check_normalisation(settings.normalisation, manifest.features, manifest.file)
    _require_unchanged(path, manifest)
    found = shared_arrays(windows_folder(path), _key(settings, manifest), lambda: _prepared(settings))
    tensors: dict[str, Any] = {name: torch.from_numpy(found.arrays[name]) for name in _TENSORS}
    return MarketWindows(**tensors, manifest=manifest, mapped=found.mapped, **found.facts)


def windows_folder(dataset: Path) -> Path:
    """Return the folder of the files that trials map: beside that of the datasets. It may be deleted at any time."""
    return (dataset.parent.parent if dataset.parent.name == "processed" else dataset.parent) / "windows"


def _key(settings: TrialSettings, manifest: ProcessedManifest) -> dict[str, object]:
    """Return all that decides the content of a trial's windows."""
    own = ("context", "fold", "horizon", "normalisation")
    return {
        "code": _code_digest(),
        "numpy": np.__version__,
        "dataset": manifest.sha256,
        "features": list(manifest.features),
        "split": asdict(settings.split),
        "target": asdict(settings.target),
        **{name: getattr(settings, name) for name in own},
    }


@cache
def _code_digest() -> str:
    """Return a SHA-256 of the code that makes windows: a file that other code has made is not read."""
    sources = sorted(Path(__file__).parent.glob("*.py"))
    return hashlib.sha256(b"\0".join(source.read_bytes() for source in sources)).hexdigest()


def _prepared(settings: TrialSettings) -> Arrays:
    manifest, frame, splits, labels = read_parts(settings)
    _require_both_classes(labels, splits)
    table = frame[list(manifest.features)].to_numpy(np.float64, copy=True)
    zscore = None
    if settings.normalisation == "zscore":
        mean, deviation = fit_zscore(table, splits.train_indices, settings.context)
        table = (table - mean) / deviation
        zscore = {"mean": mean.tolist(), "deviation": deviation.tolist()}
    table[~splits.visible_rows] = np.nan
    labels[~splits.visible_rows] = np.nan
    arrays: dict[str, NDArray[Any]] = {
        "days": table.astype(np.float32),
        "labels": labels.astype(np.float32),
        "train": splits.train_indices,
        "val": splits.val_indices,
    }
    facts = {
        "base_rate_train": float(labels[splits.train_indices].mean()),
        "base_rate_val": float(labels[splits.val_indices].mean()),
        "zscore": zscore,
        "sealed": day_set(pd.DatetimeIndex(frame.index[splits.sealed_rows])),
    }
    return Arrays(arrays, facts)


def read_parts(settings: TrialSettings) -> tuple[ProcessedManifest, pd.DataFrame, SplitIndices, NDArray[np.float64]]:
    """Read, verify, split and label a trial's dataset; nothing is hidden yet. Raises as ``load_windows``."""
    path = Path(settings.dataset)
    manifest = read_manifest(path)
    check_normalisation(settings.normalisation, manifest.features, manifest.file)
    frame = read_dataset(path, manifest)
    splits = split_days(len(frame), settings.context, settings.split, settings.fold)
    return manifest, frame, splits, target_labels(frame, settings.horizon, settings.target)


def day_set(days: pd.DatetimeIndex) -> dict[str, str]:
    """Write days as JSON: ``first`` (ISO), ``last``, and ``bits``, whose bit n (hexadecimal) is n days after the first.

    Ten years take 920 characters, so every finalised trial can name its test days.
    """
    bits = sum(1 << int(offset) for offset in (days - days[0]).days)
    return {"first": f"{days[0]:%Y-%m-%d}", "last": f"{days[-1]:%Y-%m-%d}", "bits": f"{bits:x}"}


def read_dataset(path: Path, manifest: ProcessedManifest) -> pd.DataFrame:
    """Read the table of a registered dataset. Raises DatasetError when it is missing or has changed."""
    _require_unchanged(path, manifest)
    return pd.read_parquet(path)


def _require_unchanged(path: Path, manifest: ProcessedManifest) -> None:
    if not path.is_file():
        raise DatasetError(f"{path} does not exist, though its manifest does")
    if sha256_of(path) != manifest.sha256:
        raise DatasetError(f"{path} has changed: its SHA-256 differs from {path.with_suffix('.json').name}")


def target_labels(frame: pd.DataFrame, horizon: int, target: TargetSettings) -> NDArray[np.float64]:
    """Label each day: 1 where max(price over t+1 .. t+horizon) >= close_t * (1 + threshold), else 0; NaN at the end."""
    price, close = frame[target.price].to_numpy(np.float64), frame["close"].to_numpy(np.float64)
    labels = np.full(len(frame), np.nan)
    if len(frame) > horizon:
        highest = np.lib.stride_tricks.sliding_window_view(price[1:], horizon).max(axis=1)
        labels[: len(frame) - horizon] = highest >= close[: len(frame) - horizon] * (1 + target.threshold)
    return labels


def log_volatility(frame: pd.DataFrame) -> NDArray[np.float64]:
    """Return the one number of the baseline "volatility": log VIX, or log of ATR 14 / close without VIX: (rows,).

    ``frame`` is the table of a dataset of any tier; all of them have VIX or ATR in some form.
    """
    for name in ("vix_log", "vix_close", "atr_14_log"):
        if name in frame:
            values = frame[name].to_numpy(np.float64)
            return values if name.endswith("_log") else np.log(values)
    share: NDArray[np.float64] = (frame["atr_14"] / frame["close"]).to_numpy(np.float64)
    return np.log(np.maximum(share, LEAST))


def base_rates(path: Path, horizons: Sequence[int] = (1, 3, 5)) -> dict[int, float]:
    """Return the share of days that reach the default target, by horizon, of the days before all folds."""
    frame = read_dataset(path, read_manifest(path))
    early = frame.iloc[: round(len(frame) * SplitSettings().train_fraction / 2)]
    return {h: float(np.nanmean(target_labels(early, h, TargetSettings()))) for h in horizons}


def fit_zscore(
    table: NDArray[np.float64], train: Indices, context: int
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Compute mean and deviation (features,) over the rows that train windows see."""
    rows = np.unique(train[:, None] + np.arange(-context + 1, 1)[None, :])
    seen = table[rows]
    mean, deviation = seen.mean(axis=0), seen.std(axis=0)
    flat = deviation <= FLAT_SHARE * np.abs(mean)
    return mean, np.where(flat, 1.0, deviation)


def default_zscore(frame: pd.DataFrame, features: tuple[str, ...], context: int = 80) -> dict[str, object]:
    """Compute a manifest's ``zscore``: mean and deviation over the train rows of the default split, and that split.

    Raises SplitError for a history that is too short to split, SettingsError for inputs that grow with the price.
    """
    check_normalisation("zscore", features, "the tier")
    split = SplitSettings()
    splits = split_days(len(frame), context, split)
    mean, deviation = fit_zscore(frame[list(features)].to_numpy(np.float64), splits.train_indices, context)
    return {
        "context": context,
        "split": {"kind": split.kind, "train_fraction": split.train_fraction, "purge": split.purge},
        "mean": mean.tolist(),
        "deviation": deviation.tolist(),
    }


def _require_both_classes(labels: NDArray[np.float64], splits: SplitIndices) -> None:
    for name, indices in (("train", splits.train_indices), ("validation", splits.val_indices)):
        rate = float(labels[indices].mean())
        if rate in (0.0, 1.0):
            raise SplitError(
                f"expected {name} labels of both classes, found only {rate:.0f}",
                "Choose another target.threshold, a longer horizon or a longer history.",
            )
