"""The names that a trial and its driver share: keys of results and config, checkpoint names, errors as results."""

from __future__ import annotations

from typing import Any, NamedTuple

from actors.trial.memory_retry import Memory
from supervisor.domain.lifecycle import EndReason

STEP, SECONDS = "training_iteration", "time_this_iter_s"
"""Tune's keys of a result's epoch and its length."""
END, ERROR, RECORD, CHECKPOINT = "sweep_end", "sweep_error", "sweep_record", "sweep_checkpoint"
"""Keys that our trainables add to a result: its end reason, its error, its record, its checkpoint."""

LEFT = "sweep_left"
"""Key of a result without an epoch: the trial has left its work and waits to be released."""

OUT_OF_MEMORY, SMALLER = "sweep_out_of_memory", "sweep_smaller"
"""Keys of such a result: the error, if memory ran out; settings with which the next attempt takes less memory."""

LEFT_OUT = "sweep_left_out"
"""Key of the values that a report's plain form leaves out: pairs of a name and what it was."""

FILLED_IN_BY_TUNE = frozenset({
    "config", "date", "done", "experiment_tag", "hostname", "iterations_since_restore", "node_ip", "pid",
    "should_checkpoint", "checkpoint_dir_name", "time_since_restore", "time_total_s", "timestamp",
    "timesteps_since_restore", "timesteps_total", "training_iteration", "trial_id",
})  # fmt: skip
"""Keys that Tune adds to a result and that are no metrics. `time_this_iter_s` stays: it is the epoch's length."""

RESERVED = (
    FILLED_IN_BY_TUNE - {"done", STEP, "time_total_s", "timesteps_total"}
    | {"timesteps_this_iter", "episodes_this_iter", "__duplicate__", END, ERROR, RECORD, CHECKPOINT}
    | {LEFT, OUT_OF_MEMORY, SMALLER, LEFT_OUT}
)
"""Names that mean something to Tune or to us, and that a user's report may not set."""

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


class Whereabouts(NamedTuple):
    """Node and pid of a started trial's worker, and the step that it resumed from; empty if it does not answer.

    `unusable` are the paths of newer checkpoints that it could not read; `smaller` are settings with which its next
    attempt takes less memory (memory_retry.Offer). `refused_device` says why it works on the CPU beside an accelerator.
    """

    node: str = ""
    pid: int | None = None
    resumed_step: int | None = None
    unusable: tuple[str, ...] = ()
    smaller: Memory | None = None
    refused_device: str | None = None


def failure_reason(text: str) -> EndReason:
    """Return OOM if the error's `text` says that memory ran out, else ERROR."""
    return EndReason.OOM if any(mark in text for mark in _OUT_OF_MEMORY) else EndReason.ERROR


def shortened(text: str) -> str:
    """Return an error's text, without its middle if it is long: both its kind and its cause stay."""
    if len(text) <= MAX_ERROR_CHARACTERS:
        return text
    return f"{text[:500]}\n[...]\n{text[-(MAX_ERROR_CHARACTERS - 510) :]}"


def failed(reason: EndReason, text: str) -> dict[str, Any]:
    """Return the last result of a trial that failed."""
    return {END: reason.value, ERROR: text[-MAX_ERROR_CHARACTERS:], "done": True}
