"""Estimates the memory and time of an experiment before anything starts.

Memory comes from the memory model and decides: an experiment that cannot fit is skipped. Time is for people: from
steps that were timed on this machine, else by a rule of thumb. Standard library at import; `training.memory` is
imported where it is used.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.formatting import human, table
from supervisor.preflight import training_time
from supervisor.preflight.concurrency import choose, limits_of, with_share
from supervisor.preflight.machine import machine_memory_bytes, usable_cores, usable_gpus
from supervisor.preflight.step_times import TimedStep
from supervisor.preflight.training_time import EXPERIMENT_OVERHEAD_S, FORWARD, SEARCH, batch_sizes

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.grid import Architecture

GIB = 2**30


@dataclass(frozen=True)
class Estimate:
    """The figures of one experiment; None where unknown, as always for a user's own trainable.

    `smallest_bytes` is the least memory of the smallest architecture on the CPU (one window at a time, activations
    recomputed), `largest_bytes` the peak of the largest with its largest batch at once. `fitting` of `architectures`
    can be made to fit the available memory. `most_seconds` is for all epochs of all trials, `likely_seconds` for those
    that the pruner is expected to leave. Phases are those of training_time: search, finalisation, walk-forward.
    """

    name: str
    trials: Mapping[str, int]
    architectures: int | None
    fitting: int | None
    smallest_bytes: int | None
    largest_bytes: int | None
    likely_by_phase: Mapping[str, float] | None
    likely_seconds: float | None
    most_seconds: float | None


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


def estimate(
    spec: ExperimentSpec,
    available_bytes: int,
    cores: int,
    num_features: int | None = None,
    timed: Sequence[TimedStep] = (),
) -> Estimate:
    """Estimate one experiment on a machine with this memory, these cores, and these times of its steps."""
    needs, likely = _least_bytes(spec, num_features), _seconds(spec, cores, num_features, timed, pruned=True)
    return Estimate(
        name=spec.name,
        trials=training_time.trials(spec),
        architectures=len(needs) or None,
        fitting=sum(needed <= available_bytes for needed in needs) if needs else None,
        smallest_bytes=min(needs, default=None),
        largest_bytes=_largest_bytes(spec, num_features) if needs else None,
        likely_by_phase=likely,
        likely_seconds=_in_all(spec, likely),
        most_seconds=_in_all(spec, _seconds(spec, cores, num_features, timed, pruned=False)),
    )


def planned(specs: Sequence[ExperimentSpec], cores: int, memory_bytes: int) -> list[ExperimentSpec]:
    """Return `specs` with the rule's concurrency and cores where they say auto: nothing is measured before a start."""

    def of(spec: ExperimentSpec) -> ExperimentSpec:
        return with_share(spec, choose(limits_of(spec, cores, trial_bytes(spec), memory_bytes, usable_gpus()), ()))

    return [of(spec) if spec.is_open else spec for spec in specs]


def trial_bytes(spec: ExperimentSpec) -> int | None:
    """Return the memory of the largest trial, its batch at once; None if unknown."""
    return _largest_bytes(spec, None) if _least_bytes(spec, None) else None


def dry_run_table(
    specs: Sequence[ExperimentSpec],
    *,
    available_bytes: int | None = None,
    cores: int | None = None,
    timed: Sequence[TimedStep] = (),
) -> str:
    """Write the experiments as a table for people, with the total and the basis of its figures below."""
    memory = machine_memory_bytes() if available_bytes is None else available_bytes
    count = cores or usable_cores()
    rows = [estimate(spec, memory, count, timed=timed) for spec in specs]
    header = ("experiment", "trials", "architectures", "memory of a trial", "fits here", "time likely", "at most")
    lines = [
        *table([header, *map(_row, rows)]),
        "",
        f"{len(rows)} experiments, {sum(sum(row.trials.values()) for row in rows)} trials, {_total(rows)}",
        *_phases(rows),
    ]
    if any(row.smallest_bytes is not None for row in rows):
        lines += [
            "memory: from the smallest architecture by single windows to the largest with its largest batch at once;",
            f"      batches are split into micro-batches where memory is short; {human(memory)} for a trial here",
        ]
    if any(0 < (row.fitting or 0) < (row.architectures or 0) for row in rows):
        lines.append("architectures that do not fit are refused one by one before they start; the space stays as it is")
    if any(row.most_seconds is not None for row in rows):
        lines.append("time: likely = less what the pruner saves, at most = every epoch of every trial")
    return "\n".join(lines)


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
    times = [duration(time) for time in (row.likely_seconds, row.most_seconds)] if row.fitting != 0 else ["-", "-"]
    return (row.name, _trials(row), grid, memory, fit, *times)


def _total(rows: Sequence[Estimate]) -> str:
    counted = [row for row in rows if row.fitting != 0 and row.most_seconds is not None]
    if not counted:
        return "time unknown"
    likely, most = (
        sum(filter(None, times)) for times in zip(*((r.likely_seconds, r.most_seconds) for r in counted), strict=True)
    )
    partly = "" if len(counted) == len(rows) else f" for {len(counted)} of them"
    return f"likely {duration(likely)}, at most {duration(most)}{partly}"


def _trials(row: Estimate) -> str:
    follow = any(count for phase, count in row.trials.items() if phase != SEARCH)
    return " + ".join(f"{count} {phase}" if follow else str(count) for phase, count in row.trials.items() if count)


def _phases(rows: Sequence[Estimate]) -> list[str]:
    """Say how many trials search and how many follow, with their time; nothing if none follow."""
    counts, likely = Counter[str](), Counter[str]()
    for row in rows:
        counts.update(row.trials)
        likely.update(row.likely_by_phase or {} if row.fitting != 0 else {})
    if counts.total() == counts[SEARCH]:
        return []
    parts = [
        f"{count} {phase}" + (f" (likely {duration(likely[phase])})" if phase in likely else "")
        for phase, count in counts.items()
        if count
    ]
    bound = any(sum((row.likely_by_phase or {}).values()) > (row.likely_seconds or math.inf) for row in rows)
    lines = [
        f"of these trials {', '.join(parts)}{': more than fits into the hours (below)' if bound else ''}",
        "final trials train the best configurations of the search again, on fresh seeds and all epochs",
    ]
    if counts[FORWARD]:
        lines.append("walk-forward trials train the winner again, for the tests of the folds before the last")
    return lines


def _least_bytes(spec: ExperimentSpec, num_features: int | None) -> list[int]:
    """Return the least memory of each architecture: one window at a time, activations recomputed. Empty: unknown."""
    if spec.resources.gpu > 0:
        return []  # a trial asks the GPU's driver when it starts
    from training.memory import predict_trial_memory

    return [
        predict_trial_memory(architecture, 1, "cpu", micro_batch=1, checkpoint_activations=True).total_bytes
        for architecture in architectures(spec, num_features)
    ]


def _largest_bytes(spec: ExperimentSpec, num_features: int | None) -> int:
    from training.memory import predict_trial_memory

    batch = max(batch_sizes(spec))
    return max(
        predict_trial_memory(architecture, batch, "cpu").total_bytes
        for architecture in architectures(spec, num_features)
    )


def fitting_architectures(spec: ExperimentSpec, available_bytes: int) -> list[Architecture]:
    """Return the architectures of an experiment that can be made to fit; all of them on a GPU, which is asked later."""
    found, needs = list(architectures(spec)), _least_bytes(spec, None)
    if not needs:
        return found
    return [shape for shape, needed in zip(found, needs, strict=True) if needed <= available_bytes]


def architectures(spec: ExperimentSpec, num_features: int | None = None) -> Iterator[Architecture]:
    """Yield the architectures of an experiment's grid; none if it is unknown."""
    width = num_features if num_features is not None else manifest_value(spec.config, "num_features")
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


def manifest_value(config: Mapping[str, Any], name: str) -> int | None:
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


def _seconds(
    spec: ExperimentSpec, cores: int, num_features: int | None, timed: Sequence[TimedStep], *, pruned: bool
) -> dict[str, float] | None:
    """Return the seconds of each phase; None where they are unknown: on a GPU without timed steps, too."""
    found = list(architectures(spec, num_features)) if spec.resources.gpu == 0 or timed else []
    rows = manifest_value(spec.config, "rows")
    if not found or rows is None:
        return None
    return training_time.seconds(spec, found, rows, cores, pruned=pruned, timed=timed)


def _in_all(spec: ExperimentSpec, by_phase: Mapping[str, float] | None) -> float | None:
    if by_phase is None:
        return None
    total = EXPERIMENT_OVERHEAD_S + sum(by_phase.values())
    return total if spec.max_hours is None else min(total, spec.max_hours * 3600)


def duration(seconds: float | None) -> str:
    """Return a duration as text, in the unit that suits it."""
    if seconds is None:
        return "unknown"
    if seconds < 90:
        return f"{seconds:.0f} s"
    if seconds < 5400:
        return f"{seconds / 60:.0f} min"
    return f"{seconds / 3600:.1f} h" if seconds < 48 * 3600 else f"{seconds / 86400:.1f} days"
