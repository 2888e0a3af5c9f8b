"""Estimates how long the trials of an experiment train: those of the search, and those after it.

A rule of thumb for people. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from supervisor.plan.dataset import blocks_of

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.grid import Architecture

FLOPS_PER_CORE = 65e9
"""Float32 operations a second of wide layers on one core: measured on an x86 server core with AVX-512, where a matrix
product reached 67e9. A laptop's core differs by a factor of about two."""
HALF_RATE_WIDTH = 48
"""The d_model that reaches half of FLOPS_PER_CORE, fitted to epochs of 20k to 2M parameters on that core. Narrow layers
spend their time in norms, copies and the interpreter."""
STEP_OVERHEAD_S = 0.002
LAYER_OVERHEAD_S = 0.0005
"""The cost of an optimiser step beside its arithmetic, and of each layer in it (fitted as above)."""
TRIAL_OVERHEAD_S = 1.0
"""A trial's start and end: data, device choice, checkpoint."""
EXPERIMENT_OVERHEAD_S = 10.0
"""An experiment's driver: imports, joining Ray."""
TRAIN_SHARE, VAL_SHARE = 0.70, 0.15
"""The shares of the dataset's rows for training and validation, for a history that is too short for its split."""
BASIS = (
    "time: an estimate, good to a factor of three, from 6 x parameters x tokens a training epoch (Kaplan et al. 2020)\n"
    f"      at up to {FLOPS_PER_CORE / 1e9:g} GFLOP/s a core; likely = less what the pruner saves,\n"
    "      at most = every epoch of every trial"
)
SEARCH, FINAL, FORWARD = "search", "final", "walk-forward"
"""The phases of an experiment."""


def trials(spec: ExperimentSpec) -> dict[str, int]:
    """Return the number of trials of each phase, in order."""
    return dict(zip((SEARCH, FINAL, FORWARD), spec.phases, strict=True))


def seconds(
    spec: ExperimentSpec, architectures: Sequence[Architecture], rows: int, cores: int, *, pruned: bool
) -> dict[str, float]:
    """Return the seconds of each phase on a machine with these cores; with `pruned` less what the pruner should end."""
    at_once = max(1, min(spec.concurrency, math.floor(cores / spec.resources.all_cpu)))
    folds = spec.folds
    trained_on: dict[str, list[int | None]] = {
        SEARCH: [None], FINAL: [folds if folds > 1 else None], FORWARD: list(range(1, folds))
    }  # fmt: skip

    def of(phase: str, count: int) -> float:
        if count == 0:
            return 0.0
        windows = [_windows(spec, rows, fold) for fold in trained_on[phase]]
        epoch = mean(_epoch_seconds(spec, shape, *found) for shape in architectures for found in windows)
        epochs = searched_epochs(spec) if pruned and phase == SEARCH else spec.max_epochs
        return math.ceil(count / at_once) * (TRIAL_OVERHEAD_S + epochs * epoch)

    return {phase: of(phase, count) for phase, count in trials(spec).items()}


def searched_epochs(spec: ExperimentSpec) -> float:
    """Return the epochs of an average trial of the search.

    By its rungs for successive halving; for a median rule half of those after the warm-up.
    """
    pruner = spec.pruner
    if pruner.kind == "none":
        return spec.max_epochs
    grace = min(pruner.grace_period, spec.max_epochs)
    if pruner.kind == "median":
        return grace + (spec.max_epochs - grace) / 2
    total, share, rung = float(grace), 1.0, float(grace)
    while rung < pruner.max_t:
        following = min(rung * pruner.reduction_factor, pruner.max_t)
        share /= pruner.reduction_factor
        total, rung = total + share * (following - rung), following
    return total


def _windows(spec: ExperimentSpec, rows: int, fold: int | None) -> tuple[int, int]:
    """Return the numbers of train and validation windows of a trial."""
    from training.errors import SplitError

    try:
        blocks = blocks_of(spec, rows)
    except SplitError:
        return round(rows * TRAIN_SHARE), round(rows * VAL_SHARE)
    judged = blocks if fold is None else [blocks[fold - 1]]
    return sum(len(block.train) for block in blocks[:fold]), sum(len(block.val) for block in judged)


def _epoch_seconds(spec: ExperimentSpec, architecture: Architecture, train: int, val: int) -> float:
    from training.grid import param_count

    params = param_count(architecture)
    forward = 2 * params * architecture.n_patches  # of one window; the backward pass is twice that
    operations = forward * (3 * train + val)
    sizes = list(batch_sizes(spec))
    steps = train * sum(1 / size for size in sizes) / len(sizes)
    overhead = steps * (STEP_OVERHEAD_S + LAYER_OVERHEAD_S * architecture.n_layers)
    rate = FLOPS_PER_CORE * architecture.d_model / (architecture.d_model + HALF_RATE_WIDTH)
    return overhead + operations / (rate * max(1.0, spec.resources.cpu))


def batch_sizes(spec: ExperimentSpec) -> Iterator[int]:
    """Yield the batch sizes of the trials, or the two ends of their range."""
    from training.settings import TrialSettings

    dimension = spec.space.get("batch_size")
    if dimension is None:
        size: Any = spec.config.get("batch_size", TrialSettings.__dataclass_fields__["batch_size"].default)
        yield int(size)
    elif dimension.type == "categorical":
        yield from (int(choice) for choice in dimension.choices if isinstance(choice, int | float))
    else:
        yield from (int(dimension.low), int(dimension.high))
