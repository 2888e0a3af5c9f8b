"""Open the sealed test windows: the one place that reads days which the search never sees."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import ProcessedManifest
from training.data.splits import Indices, TestOpening, open_test
from training.data.windows import fit_zscore, log_volatility, read_parts
from training.settings import TrialSettings


@dataclass(frozen=True)
class OpenedWindows:
    """A dataset with the days of one test. Those of other folds' tests, and for a fold all later days, are NaN.

    ``days`` (rows, features) are the model's float64 inputs; ``log_volatility`` (rows,) is the baseline's one number;
    ``labels`` (rows,) are 1, 0 or NaN; ``dates`` (rows,) are ISO days. The parts hold the last day of each window.
    """

    days: NDArray[np.float64]
    log_volatility: NDArray[np.float64]
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
    """Read train, validation and the own test of a trial, after writing the opening's record to disk.

    Raises SealedTestError if this test was opened before; DatasetError, SplitError and SettingsError as
    ``load_windows``.
    """
    manifest, frame, splits, labels = read_parts(settings)
    test = open_test(splits, opening)
    days = frame[list(manifest.features)].to_numpy(np.float64, copy=True)
    closed = ~(splits.visible_rows | splits.test_rows)
    days[closed] = np.nan
    labels[closed] = np.nan
    if settings.normalisation == "zscore":
        mean, deviation = fit_zscore(days, splits.train_indices, settings.context)
        days = (days - mean) / deviation
    return OpenedWindows(
        days=days,
        log_volatility=np.where(closed, np.nan, log_volatility(frame)),
        labels=labels,
        dates=tuple(f"{day:%Y-%m-%d}" for day in frame.index),
        train=splits.train_indices,
        val=splits.val_indices,
        test=test,
        manifest=manifest,
    )
