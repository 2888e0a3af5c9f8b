"""Reads the predictions of a test: the probability of each day by each seed and simple model."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supervisor.errors import ReportFailed
from supervisor.report.view import RunView

MAX_PREDICTIONS_BYTES = 64 * 2**20
"""A history of 100 years with ten forecasts for each day takes about 20 MB."""

Array = NDArray[np.float64]


@dataclass(frozen=True)
class Part:
    """The windows of one part: `labels` (windows,), and the `probabilities` (windows,) of each forecaster by name."""

    days: tuple[str, ...]
    labels: Array
    probabilities: Mapping[str, Array]

    @classmethod
    def of(cls, body: Mapping[str, Any]) -> Part:
        found = {name: np.asarray(values, np.float64) for name, values in body["probabilities"].items()}
        return cls(tuple(body["days"]), np.asarray(body["labels"], np.float64), found)

    def of_seeds(self) -> dict[int, Array]:
        """Return the probabilities of the chosen configuration's seeds, by the number of their trial."""
        return {int(name): values for name, values in self.probabilities.items() if name.isdigit()}

    def mean(self) -> Array:
        """Return the mean probability over the seeds, (windows,)."""
        return np.asarray(np.mean(list(self.of_seeds().values()), axis=0), np.float64)

    def losses_by_day(self) -> dict[int, dict[str, float]]:
        """Return the log loss of each day, by the number of a seed's trial."""
        from training.scores import log_losses

        losses = {trial: log_losses(values, self.labels).tolist() for trial, values in self.of_seeds().items()}
        return {trial: dict(zip(self.days, values, strict=True)) for trial, values in losses.items()}


Predictions = Mapping[str, Mapping[str, Part]]
"""Experiment, then val or test."""


def read_predictions(path: Path, sha256: str) -> dict[str, Part]:
    """Read the parts val and test of a predictions.json.

    Raises ReportFailed if the file is missing, too large, or its SHA-256 is not the one in the store.
    """
    try:
        if path.stat().st_size > MAX_PREDICTIONS_BYTES:
            raise ReportFailed(f"{path} is over {MAX_PREDICTIONS_BYTES:,} bytes")
        content = path.read_bytes()
    except OSError as error:
        raise ReportFailed(f"{path} cannot be read: {error}") from error
    if hashlib.sha256(content).hexdigest() != sha256:
        raise ReportFailed(f"{path} has changed since the test: its SHA-256 is not the one in the store")
    body = json.loads(content)
    return {part: Part.of(body[part]) for part in ("val", "test")}


def predictions_of(run: RunView, folder: Path) -> tuple[dict[str, dict[str, Part]], list[str]]:
    """Return the predictions of each tested experiment, and a sentence for each that could not be read."""
    found, unread = {}, []
    for experiment in run.experiments:
        if experiment.evaluation is None:
            continue
        kept = experiment.evaluation["predictions"]
        try:
            found[experiment.name] = read_predictions(folder / experiment.name / kept["file"], kept["sha256"])
        except ReportFailed as error:
            unread.append(f"{experiment.name}: no reliability diagram: {error.message}.")
    return found, unread
