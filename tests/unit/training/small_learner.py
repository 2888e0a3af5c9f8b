"""A learner on the smallest trial, for tests of the loop."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from tests.unit.training.small_trial import config, no_gate
from training.build import build_learner
from training.data.windows import MarketWindows, load_windows
from training.grid import grid_of
from training.loop import Epoch, Learner, epochs
from training.memory import predict_trial_memory
from training.settings import TrialSettings


def made(dataset: Path, micro_batch: int | None = None, **changes: Any) -> tuple[Learner, MarketWindows]:
    torch.set_num_threads(1)
    settings = TrialSettings.from_config(config(dataset, **changes))
    windows = load_windows(settings)
    architecture = grid_of(settings, windows.manifest.num_features).architecture(0, 1)
    memory = predict_trial_memory(architecture, settings.batch_size, micro_batch=micro_batch)
    return build_learner(settings, architecture, "cpu", memory), windows


def closing_after(batches: int) -> Callable[[], float]:
    """Make a gate that lets so many batches pass, then raises once, then stays open."""
    left = iter([*[False] * batches, True])

    def gate() -> float:
        if next(left, False):
            raise InterruptedError
        return 0.0

    return gate


class Clock:
    """A clock on which each reading is a second later; a test may add more."""

    def __init__(self) -> None:
        self.now_s = 0.0

    def __call__(self) -> float:
        self.now_s += 1.0
        return self.now_s


def run(learner: Learner, windows: MarketWindows, gate: Callable[[], float] = no_gate) -> list[Epoch]:
    return list(epochs(learner, windows, gate, Clock()))


def weights(learner: Learner) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in learner.model.parameters()])
