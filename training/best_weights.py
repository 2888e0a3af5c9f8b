"""Keep the weights of a trial's best epoch in a file of their own."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from training.checkpoint import read_checkpoint, write_checkpoint

FILE = "best.pt"


def keep_weights(checkpoint: Path, folder: Path) -> Path:
    """Copy a checkpoint's weights into ``folder``, replacing those of an earlier epoch; return their path.

    They take a third of the checkpoint's size. Raises CheckpointError for a checkpoint that cannot be read.
    """
    state = read_checkpoint(checkpoint)
    path = folder / FILE
    epoch = int(state["progress"]["epoch"])
    write_checkpoint(path, {"identity": state["identity"], "model": state["model"], "epoch": epoch})
    return path


def read_weights(path: Path) -> dict[str, Any]:
    """Read ``identity``, ``model`` (a state dict) and their ``epoch``, from 1. Raises CheckpointError."""
    return read_checkpoint(path)
