"""Sleeps as the trial of benchmarks/stages/eta_real.py: epochs of a known length, which no other program makes longer.

Config: `x` is sampled, `epoch_s` the length of an epoch, `fails` the number of a trial that raises an error, or -1.
The file is copied beside the plan, so it imports nothing of this repository.
"""

from __future__ import annotations

import math
import random
import time
from collections.abc import Mapping
from typing import Any

from ray import tune

PARTS = 10
"""The batches of an epoch: a pause begins between two of them."""
FAILS_AT = 2
"""The epoch in which a trial that fails does so."""


def pace_of(number: int) -> float:
    """Return the factor by which a trial's epochs take longer than others'."""
    return math.exp(random.Random(number).gauss(0.0, 0.15))


def loss_after(epoch: int, x: float) -> float:
    """Return a loss that falls with the epochs; the nearer `x` is to 1, the lower it is."""
    return (x - 1.0) ** 2 + 1.0 / epoch


class Sleeper(tune.Trainable):
    """Sleeps through its epochs, and waits at the gate between two batches."""

    sweep_gate: Any
    sweep_number: int

    def setup(self, config: dict[str, Any]) -> None:
        self._x, self._fails = float(config["x"]), int(config["fails"])
        self._batch_s = float(config["epoch_s"]) * pace_of(self.sweep_number) / PARTS
        self._epoch = 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        for _ in range(PARTS):
            self.sweep_gate.wait()
            time.sleep(self._batch_s)
        self._epoch += 1
        if self._epoch == FAILS_AT and self.sweep_number == self._fails:
            raise ValueError(f"trial {self.sweep_number} fails in epoch {FAILS_AT}, as its plan says")
        return {"loss": loss_after(self._epoch, self._x)}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"epoch": self._epoch}

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | None) -> None:
        if checkpoint is None:
            raise ValueError("expected a checkpoint, found None")
        self._epoch = int(checkpoint["epoch"])
