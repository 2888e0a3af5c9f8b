"""Estimates the memory and time of an experiment before anything starts.

Memory comes from the memory model and decides: an experiment that cannot fit is skipped. Time is a rule of thumb for
people. Standard library at import; `training.memory` is imported where it is used.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.formatting import human, table
from supervisor.preflight.machine import machine_memory_bytes, usable_cores

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.grid import Architecture

GIB = 2**30
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
"""The shares of the dataset's rows for training and validation, by the default split."""
BASIS = (
    "time: an estimate, good to a factor of three, from 6 x parameters x tokens a training epoch (Kaplan et al. 2020)\n"
    f"      at up to {FLOPS_PER_CORE / 1e9:g} GFLOP/s a core; likely = less what the pruner saves,\n"
    "      at most = every epoch of every trial"
)


@dataclass(frozen=True)
class Estimate:
    """The figures of one experiment; None where unknown, as always for a user's own trainable.

    `smallest_bytes` is the least memory of the smallest architecture on the CPU (one window at a time, activations
    recomputed), `largest_bytes` the peak of the largest with its largest batch at once. `fitting` of `architectures`
    can be made to fit the available memory. `most_seconds` is for all epochs of all trials, `likely_seconds` for those
    that the pruner is expected to leave.
    """

    name: str
    trials: int
    architectures: int | None
    fitting: int | None
    smallest_bytes: int | None
    largest_bytes: int | None
    likely_seconds: float | None
    most_seconds: float | None
    final_trials: int = 0
    """Those of `trials` that train the best again on fresh seeds (`finalize`)."""


def misfit(spec: ExperimentSpec, available_bytes: int, num_features: int | None = None) -> str | None:
    """Say why not even the smallest architecture of `spec` can train in `available_bytes`; None if it can, or may.

    Without `num_features` the dataset's manifest is read. Larger architectures are refused one by one before they
    start, each with its own figures.
    """
    needed = min(_least_bytes(spec, num_features), default=0)
    if needed <= available_bytes:
        return None
    figures = f"needs at least {human(needed)}, {human(available_bytes)} available"
    return f"does not fit: its smallest architecture {figures}"


def estimate(spec: ExperimentSpec, available_bytes: int, cores: int, num_features: int | None = None) -> Estimate:
    """Estimate one experiment on a machine with this memory and these cores."""
    needs = _least_bytes(spec, num_features)
    return Estimate(
        name=spec.name,
        trials=spec.max_trials,
        architectures=len(needs) or None,
        fitting=sum(needed <= available_bytes for needed in needs) if needs else None,
        smallest_bytes=min(needs, default=None),
        largest_bytes=_largest_bytes(spec, num_features) if needs else None,
        likely_seconds=_seconds(spec, cores, num_features, expected_epochs(spec)),
        most_seconds=_seconds(spec, cores, num_features, spec.max_epochs),
        final_trials=_final_trials(spec),
    )


def dry_run_table(
    specs: Sequence[ExperimentSpec], *, available_bytes: int | None = None, cores: int | None = None
) -> str:
    """Write the experiments as a table for people, with the total and the basis of its figures below."""
    memory = machine_memory_bytes() if available_bytes is None else available_bytes
    count = cores or usable_cores()
    rows = [estimate(spec, memory, count) for spec in specs]
    header = ("experiment", "trials", "architectures", "memory of a trial", "fits here", "time likely", "at most")
    lines = [
        *table([header, *map(_row, rows)]),
        "",
        f"{len(rows)} experiments, {sum(row.trials for row in rows)} trials, {_total(rows)}",
    ]
    if any(row.final_trials for row in rows):
        lines.append("final trials train the best configurations of the search again, on fresh seeds and all epochs")
    if any(row.smallest_bytes is not None for row in rows):
        lines += [
            "memory: from the smallest architecture by single windows to the largest with its largest batch at once;",
            f"      batches are split into micro-batches where memory is short; {human(memory)} for a trial here",
        ]
    if any(0 < (row.fitting or 0) < (row.architectures or 0) for row in rows):
        lines.append("architectures that do not fit are refused one by one before they start; the space stays as it is")
    return "\n".join([*lines, BASIS] if any(row.most_seconds is not None for row in rows) else lines)


def _row(row: Estimate) -> tuple[str, ...]:
    memory = "unknown"
    if row.smallest_bytes is not None and row.largest_bytes is not None:
        memory = f"{human(row.smallest_bytes)} to {human(row.largest_bytes)}"
    grid = "unknown" if row.architectures is None else str(row.architectures)
    if row.fitting is None or row.architectures is None:
        fit = "unknown"
    elif row.fitting == 0:
        fit = "no: skipped"
    else:
        fit = "yes" if row.fitting == row.architectures else f"{row.fitting} of {row.architectures}"
    times = [_duration(time) for time in (row.likely_seconds, row.most_seconds)] if row.fitting != 0 else ["-", "-"]
    trials = (
        f"{row.trials - row.final_trials} search + {row.final_trials} final" if row.final_trials else str(row.trials)
    )
    return (row.name, trials, grid, memory, fit, *times)


def _total(rows: Sequence[Estimate]) -> str:
    counted = [row for row in rows if row.fitting != 0 and row.most_seconds is not None]
    if not counted:
        return "time unknown"
    likely, most = (
        sum(filter(None, times)) for times in zip(*((r.likely_seconds, r.most_seconds) for r in counted), strict=True)
    )
    partly = "" if len(counted) == len(rows) else f" for {len(counted)} of them"
    return f"likely {_duration(likely)}, at most {_duration(most)}{partly}"


def expected_epochs(spec: ExperimentSpec) -> float:
    """Return the epochs of an average trial; those of the finalisation are not pruned."""
    final = _final_trials(spec)
    return (final * spec.max_epochs + (spec.max_trials - final) * _searched_epochs(spec)) / spec.max_trials


def _final_trials(spec: ExperimentSpec) -> int:
    return 0 if spec.finalize is None else spec.finalize.top * spec.finalize.seeds


def _searched_epochs(spec: ExperimentSpec) -> float:
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


def _least_bytes(spec: ExperimentSpec, num_features: int | None) -> list[int]:
    """Return the least memory of each architecture: one window at a time, activations recomputed. Empty: unknown."""
    if spec.resources.gpu > 0:
        return []  # a trial asks the GPU's driver when it starts
    from training.memory import predict_trial_memory

    return [
        predict_trial_memory(architecture, 1, "cpu", micro_batch=1, checkpoint_activations=True).total_bytes
        for architecture in _architectures(spec, num_features)
    ]


def _largest_bytes(spec: ExperimentSpec, num_features: int | None) -> int:
    from training.memory import predict_trial_memory

    batch = max(_batch_sizes(spec))
    return max(
        predict_trial_memory(architecture, batch, "cpu").total_bytes
        for architecture in _architectures(spec, num_features)
    )


def _architectures(spec: ExperimentSpec, num_features: int | None) -> Iterator[Architecture]:
    width = num_features if num_features is not None else _manifest_value(spec.config, "num_features")
    if spec.trainable != "patchtst" or width is None:
        return
    from supervisor.plan.expansion import grid_of

    grid = grid_of(spec.config, width)
    ranks, heads = (_axis(spec, axis) for axis in ("shape_rank", "heads_log2"))
    for rank in ranks:
        for log2 in heads:
            yield grid.architecture(rank, log2)


def _axis(spec: ExperimentSpec, axis: str) -> Sequence[int]:
    """Return the values of an ordinal in this experiment; one if the plan fixed it."""
    dimension = spec.space.get(axis)
    if dimension is None:
        return [int(spec.config[axis])]  # type: ignore[arg-type]  # the plan's checks made it a whole number
    if dimension.type == "int":
        return range(dimension.low, dimension.high + 1, dimension.step)
    return [int(choice) for choice in dimension.choices] if dimension.type == "categorical" else []  # type: ignore[arg-type]


def _manifest_value(config: Mapping[str, Any], name: str) -> int | None:
    """Return a figure of the dataset's manifest; None without a dataset."""
    from training.data.manifest import read_manifest
    from training.errors import DatasetError

    dataset = config.get("dataset")
    if not isinstance(dataset, str):
        return None
    try:
        return int(getattr(read_manifest(Path(dataset)), name))
    except DatasetError:
        return None


def _seconds(spec: ExperimentSpec, cores: int, num_features: int | None, epochs: float) -> float | None:
    architectures = list(_architectures(spec, num_features)) if spec.resources.gpu == 0 else []
    rows = _manifest_value(spec.config, "rows")
    if not architectures or rows is None:
        return None
    epoch = sum(_epoch_seconds(spec, architecture, rows) for architecture in architectures) / len(architectures)
    trial = TRIAL_OVERHEAD_S + epochs * epoch
    at_once = max(1, min(spec.concurrency, math.floor(cores / spec.resources.cpu)))
    total = EXPERIMENT_OVERHEAD_S + math.ceil(spec.max_trials / at_once) * trial
    return total if spec.max_hours is None else min(total, spec.max_hours * 3600)


def _epoch_seconds(spec: ExperimentSpec, architecture: Architecture, rows: int) -> float:
    from training.grid import param_count

    params = param_count(architecture)
    forward = 2 * params * architecture.n_patches  # of one window; the backward pass is twice that
    operations = rows * forward * (3 * TRAIN_SHARE + VAL_SHARE)
    sizes = _batch_sizes(spec)
    steps = rows * TRAIN_SHARE * sum(1 / size for size in sizes) / len(sizes)
    overhead = steps * (STEP_OVERHEAD_S + LAYER_OVERHEAD_S * architecture.n_layers)
    rate = FLOPS_PER_CORE * architecture.d_model / (architecture.d_model + HALF_RATE_WIDTH)
    return overhead + operations / (rate * max(1.0, spec.resources.cpu))


def _batch_sizes(spec: ExperimentSpec) -> list[int]:
    """Return the batch sizes of the trials, or the two ends of their range."""
    from training.settings import TrialSettings

    dimension = spec.space.get("batch_size")
    if dimension is None:
        size: Any = spec.config.get("batch_size", TrialSettings.__dataclass_fields__["batch_size"].default)
        return [int(size)]
    if dimension.type == "categorical":
        return [int(choice) for choice in dimension.choices if isinstance(choice, int | float)]
    return [int(dimension.low), int(dimension.high)]


def _duration(seconds: float | None) -> str:
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
