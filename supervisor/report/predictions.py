"""Reads the predictions of a test: the probability of each day by each seed and baseline."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from supervisor.errors import ReportFailed
from supervisor.report.view import RunView

MAX_PREDICTIONS_BYTES = 64 * 2**20
"""A history of 100 years with ten forecasts for each day takes about 20 MB."""

LossesByDay = dict[tuple[str, int], dict[str, float]]
"""Experiment and trial: the log loss of each validation day."""


def read_predictions(path: Path, sha256: str) -> dict[str, Any]:
    """Read predictions.json: `val` and `test`, each with days, labels and probabilities by forecaster.

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
    found: dict[str, Any] = json.loads(content)
    return found


def validation_losses(run: RunView, folder: Path) -> LossesByDay:
    """Return the losses of each tested seed; experiments without readable predictions are left out."""
    found: LossesByDay = {}
    for experiment in run.experiments:
        if experiment.evaluation is None:
            continue
        kept = experiment.evaluation["predictions"]
        try:
            part = read_predictions(folder / experiment.name / kept["file"], kept["sha256"])["val"]
        except ReportFailed:
            continue  # the test's section names it
        labels = np.asarray(part["labels"], np.float64)
        for name, probabilities in part["probabilities"].items():
            if name.isdigit():
                losses = _log_losses(np.asarray(probabilities, np.float64), labels)
                found[experiment.name, int(name)] = dict(zip(part["days"], losses.tolist(), strict=True))
    return found


def _log_losses(probabilities: NDArray[np.float64], labels: NDArray[np.float64]) -> NDArray[np.float64]:
    from training.scores import log_losses

    return log_losses(probabilities, labels)
