"""The names that a trial and its driver share: keys of results and config, checkpoint names, errors as results."""

from __future__ import annotations

import re
from pathlib import PurePath
from typing import Any, NamedTuple

from actors.trial.memory_retry import Memory
from supervisor.domain.lifecycle import EndReason

STEP = "training_iteration"
END, ERROR, RECORD, CHECKPOINT = "sweep_end", "sweep_error", "sweep_record", "sweep_checkpoint"
"""Keys that our trainables add to a result: its end reason, its error, its record, its checkpoint."""

LEFT = "sweep_left"
"""Key of a result without an epoch: the trial has left its work and waits to be released."""

OUT_OF_MEMORY, SMALLER = "sweep_out_of_memory", "sweep_smaller"
"""Keys of such a result: the error, if memory ran out; settings with which the next attempt takes less memory."""

OWN_KEY = "sweep"
"""Key of a Tune trial's config that carries our own settings; users' trainables never see it."""

MAX_ERROR_CHARACTERS = 4_000
_OUT_OF_MEMORY = (
    "OutOfMemoryError",
    "out of memory",  # of MPS, and of CUDA's own calls
    "MemoryError",
    "can't allocate memory",  # of torch's CPU allocator
    "Cannot allocate memory",  # ENOMEM
    "CUBLAS_STATUS_ALLOC_FAILED",
    "DoesNotFit",
)
_CHECKPOINT = re.compile(r"checkpoint-(\d+)(\.pt)?")


class Whereabouts(NamedTuple):
    """Node and pid of a started trial's worker, and the step that it resumed from; empty if it does not answer.

    `unusable` are the paths of newer checkpoints that it could not read; `smaller` are settings with which its next
    attempt takes less memory (memory_retry.Offer).
    """

    node: str = ""
    pid: int | None = None
    resumed_step: int | None = None
    unusable: tuple[str, ...] = ()
    smaller: Memory | None = None


def checkpoint_step(checkpoint: str | PurePath) -> int | None:
    """Return the step in a checkpoint's name; None for any other name."""
    found = _CHECKPOINT.fullmatch(PurePath(checkpoint).name)
    return int(found[1]) if found else None


def failure_reason(text: str) -> EndReason:
    """Return OOM if the error's `text` says that memory ran out, else ERROR."""
    return EndReason.OOM if any(mark in text for mark in _OUT_OF_MEMORY) else EndReason.ERROR


def failed(reason: EndReason, text: str) -> dict[str, Any]:
    """Return the last result of a trial that failed."""
    return {END: reason.value, ERROR: text[-MAX_ERROR_CHARACTERS:], "done": True}
