"""Open the sealed test windows: the one place that reads days which the search never sees."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import ProcessedManifest, read_manifest
from training.data.splits import Indices, TestOpening, open_test, split_days
from training.data.windows import fit_zscore, read_dataset, target_labels
from training.settings import TrialSettings


@dataclass(frozen=True)
class OpenedWindows:
    """A dataset with all its days.

    ``days`` (rows, features) are the model's float64 inputs, ``table`` the same unscaled; ``labels`` (rows,) are 1, 0
    or NaN; ``dates`` (rows,) are ISO days. The parts hold the last day of each window.
    """

    days: NDArray[np.float64]
    table: NDArray[np.float64]
    labels: NDArray[np.float64]
    dates: tuple[str, ...]
    train: Indices
    val: Indices
    test: Indices
    manifest: ProcessedManifest

    def part_labels(self, part: Indices) -> NDArray[np.float64]:
        """Return the labels of a part: (windows,) 1 or 0."""
        return self.labels[part]

    def part_dates(self, part: Indices) -> list[str]:
        """Return the last visible day of each window of a part: (windows,)."""
        return [self.dates[row] for row in part]


def open_windows(settings: TrialSettings, opening: TestOpening) -> OpenedWindows:
    """Read all three parts of a trial's dataset, after writing the opening's record to disk.

    Raises SealedTestError if this test was opened before, DatasetError and SplitError as ``load_windows``.
    """
    path = Path(settings.dataset)
    manifest = read_manifest(path)
    frame = read_dataset(path, manifest)
    splits = split_days(len(frame), settings.context, settings.split, settings.fold)
    test = open_test(splits, opening)
    table = frame[list(manifest.features)].to_numpy(np.float64, copy=True)
    days = table
    if settings.normalisation == "zscore":
        mean, deviation = fit_zscore(table, splits.train_indices, settings.context)
        days = (table - mean) / deviation
    return OpenedWindows(
        days=days,
        table=table,
        labels=target_labels(frame, settings.horizon, settings.target),
        dates=tuple(f"{day:%Y-%m-%d}" for day in frame.index),
        train=splits.train_indices,
        val=splits.val_indices,
        test=test,
        manifest=manifest,
    )
