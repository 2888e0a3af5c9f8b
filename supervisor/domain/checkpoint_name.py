"""Reads the step in the name of a checkpoint: checkpoint-STEP, a folder, or checkpoint-STEP.pt, a file. Pure."""

from __future__ import annotations

import re
from pathlib import PurePath

_CHECKPOINT = re.compile(r"checkpoint-(\d+)(\.pt)?")


def checkpoint_step(checkpoint: str | PurePath) -> int | None:
    """Return the step in a checkpoint's name; None for any other name."""
    found = _CHECKPOINT.fullmatch(PurePath(checkpoint).name)
    return int(found[1]) if found else None
