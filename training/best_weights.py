"""The weights of a trial's best epoch, kept aside while it trains on: what early stopping chose, without optimiser."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.checkpoint import read_checkpoint, write_checkpoint

FILE = "best.pt"


def keep_weights(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint's weights into ``folder``, atomically, in place of those of an earlier epoch; their path.

    A third of the checkpoint's size. Raises CheckpointError for a checkpoint that cannot be read.
    """
    state = read_checkpoint(checkpoint)
    path = folder / FILE
    epoch = int(state["progress"]["epoch"])
    write_checkpoint(path, {"identity": state["identity"], "model": state["model"], "epoch": epoch})
    return path


def read_weights(path: Path) -> dict[str, Any]:
    """``identity`` and ``model`` (a state dict), and the ``epoch`` (1-based) they are of. Raises CheckpointError."""
    return read_checkpoint(path)
