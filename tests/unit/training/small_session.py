"""A session of the smallest trial, for tests."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from tests.unit.training.small_trial import config, no_gate
from training.memory import MemoryLimit
from training.session import TrainingSession


def made(
    dataset: Path, gate: Callable[[], float] = no_gate, limit: MemoryLimit | None = None, **changes: Any
) -> TrainingSession:
    return TrainingSession(config(dataset, **{"dropout": 0.2, "precision": "auto", **changes}), gate=gate, limit=limit)
