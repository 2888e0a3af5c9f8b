"""Reads what an experiment's test left: every probability, beside its day and what came. Standard library only."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

from supervisor.errors import ReportFailed

MAX_PREDICTIONS_BYTES = 64 * 2**20
"""A history of 100 years with ten forecasts of each day takes about 20 MB."""


def read_predictions(path: Path, sha256: str) -> dict[str, Any]:
    """The content of predictions.json: `val` and `test`, each with days, labels and probabilities by forecaster.

    Raises ReportFailed when the file is missing, too large or not the one that the store knows by its SHA-256.
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
