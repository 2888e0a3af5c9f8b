"""Keep the weights of a trial's best epoch in files of their own; the last one gets the name that the test reads.

A checkpoint names its best epoch, so that epoch's weights are on the disk before the checkpoint is. While a trial runs
they are in `best-EPOCH.pt`; those that a kept checkpoint names stay. When it ends, the best one becomes `best.pt`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from training.atomic_file import sync_folder
from training.checkpoint import read_checkpoint, write_checkpoint
from training.errors import CheckpointError

FILE = "best.pt"
_OF_AN_EPOCH = re.compile(r"best-(\d+)\.pt")


def keep_weights(weights: Mapping[str, Any], folder: Path) -> Path:
    """Write a session's ``weights``, a third of a checkpoint, into ``folder``; return their path."""
    path = folder / f"best-{weights['epoch']}.pt"
    write_checkpoint(path, weights)
    return path


def forget_later(folder: Path, epoch: int | None) -> None:
    """Remove the weights of epochs after ``epoch``, which a resumed trial trains again; None: of all."""
    for at, path in _kept(folder):
        if at > (epoch or 0):
            path.unlink(missing_ok=True)


def forget_earlier(folder: Path, named: Sequence[int]) -> None:
    """Remove the weights of epochs before the last of ``named``, but for those: no kept checkpoint names them."""
    for at, path in _kept(folder):
        if named and at < named[-1] and at not in named:
            path.unlink(missing_ok=True)


def settle(folder: Path, epoch: int) -> Path:
    """Give the weights of the best ``epoch`` the name FILE; return their path.

    Raises CheckpointError when they are missing: a trial must not end with a value that has no weights.
    """
    path = folder / FILE
    found = folder / f"best-{epoch}.pt"
    if found.exists():
        found.replace(path)
        sync_folder(folder)
    elif not path.exists() or read_weights(path)["epoch"] != epoch:
        raise CheckpointError(f"{folder}: expected the weights of the best epoch {epoch}, found none")
    return path


def read_weights(path: Path) -> dict[str, Any]:
    """Read ``identity``, ``model`` (a state dict), ``precision`` and ``epoch``, from 1. Raises CheckpointError."""
    return read_checkpoint(path)


def _kept(folder: Path) -> list[tuple[int, Path]]:
    """Return the weights in ``folder`` by epoch, oldest first."""
    if not folder.is_dir():
        return []
    named = ((_OF_AN_EPOCH.fullmatch(path.name), path) for path in folder.iterdir())
    return sorted((int(match[1]), path) for match, path in named if match is not None)
