"""Train the trial of the chaos test: each batch depends on all batches before it, and is noted in a diary.

So the right losses of a trial can be computed without running it, and a lost, exchanged or half-written checkpoint
shows. The product never touches the diary, so it tells which batches really ran.
"""

from __future__ import annotations

import hashlib
import os
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from ray import tune

EPOCHS, BATCHES = 6, 8
EPOCHS_BETWEEN = 2
"""The epochs between two checkpoints, so that more than one must be trained again."""
PADDING_BYTES = 200_000
"""A checkpoint of a few bytes would be written too fast for a kill to hit it."""


def first_link(part: int, number: int, x: float) -> str:
    """Return the state before the first batch."""
    return hashlib.sha256(f"{part} {number} {x.hex()}".encode()).hexdigest()


def next_link(link: str, batch: int) -> str:
    return hashlib.sha256(f"{link} {batch}".encode()).hexdigest()


def loss_after(epoch: int, link: str, x: float) -> float:
    """Return a loss that falls with the epochs, with noise from the whole chain of batches."""
    return (x - 1.0) ** 2 + 1.0 / epoch + int(link[:8], 16) / 2**34


def expected_losses(part: int, number: int, x: float) -> Iterator[float]:
    """Yield the losses of epoch 1, 2, ... of a trial."""
    link = first_link(part, number, x)
    for epoch in range(1, EPOCHS + 1):
        for batch in range((epoch - 1) * BATCHES, epoch * BATCHES):
            link = next_link(link, batch)
        yield loss_after(epoch, link, x)


class Chain(tune.Trainable):
    """A chain of batches. Config: `x` is sampled, `part` the experiment, `diary` and `hurry` are paths."""

    sweep_gate: Any
    sweep_number: int

    def setup(self, config: dict[str, Any]) -> None:
        self._x, self._part = float(config["x"]), int(config["part"])
        self._diary, self._hurry = config["diary"], Path(config["hurry"])
        self._batch_s = float(config["epoch_s"]) / BATCHES
        self._link, self._batches = first_link(self._part, self.sweep_number, self._x), 0

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        batch_s = 0.0 if self._hurry.exists() else self._batch_s
        end = (self._batches // BATCHES + 1) * BATCHES
        while self._batches < end:
            self.sweep_gate.wait()
            self._note("batch", self._batches)
            time.sleep(batch_s)
            self._link = next_link(self._link, self._batches)
            self._batches += 1
        epoch = self._batches // BATCHES
        self._note("epoch", epoch)
        return {"loss": loss_after(epoch, self._link, self._x)}

    def _note(self, what: str, number: int) -> None:
        """Note the beginning of a batch, or the end of an epoch."""
        line = f"{time.monotonic()} {os.getpid()} {self._part} {self.sweep_number} {what} {number}\n"
        # One write to a file opened for appending: lines of several processes do not mix.
        file = os.open(self._diary, os.O_WRONLY | os.O_APPEND | os.O_CREAT, 0o600)
        try:
            os.write(file, line.encode())
        finally:
            os.close(file)

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"link": self._link, "batches": self._batches, "padding": os.urandom(PADDING_BYTES)}

    def load_checkpoint(self, checkpoint: Mapping[str, Any] | None) -> None:
        if checkpoint is None:
            raise ValueError("expected a checkpoint, found None")
        self._link, self._batches = str(checkpoint["link"]), int(checkpoint["batches"])
