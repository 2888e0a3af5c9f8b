"""Estimates how long the trials of an experiment train: those of the search, and those after it.

From timed steps where there are any, else by a rule of thumb. Standard library only.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from statistics import mean
from typing import TYPE_CHECKING, Any

from supervisor.domain.eta import trial_work
from supervisor.domain.search_time import TRIAL_OVERHEAD_S
from supervisor.plan.dataset import blocks_of
from supervisor.preflight import step_times
from supervisor.preflight.machine import usable_gpus
from supervisor.preflight.step_times import Basis, TimedStep

if TYPE_CHECKING:
    from supervisor.plan.expansion import ExperimentSpec
    from training.grid import Architecture

EXPERIMENT_OVERHEAD_S = 10.0
"""An experiment's driver: imports, joining Ray."""
TRAIN_SHARE, VAL_SHARE = 0.70, 0.15
"""The shares of the dataset's rows for training and validation, for a history that is too short for its split."""
BASIS = {
    Basis.TIMED: "timed here: from steps of two architectures and two batch sizes; good to a factor of 1.5",
    Basis.SCALED: "by operations: from the nearest budget that was timed, by 6 operations per parameter and token",
    Basis.RULE: "rule of thumb: nothing was timed; good to a factor of three, from 6 operations per parameter\n"
    f"      and token (Kaplan et al. 2020) at up to {step_times.FLOPS_PER_CORE / 1e9:g} GFLOP/s a core",
}
"""The meaning of each basis, for people."""
SEARCH, FINAL, FORWARD = "search", "final", "walk-forward"
"""The phases of an experiment."""


def trials(spec: ExperimentSpec) -> dict[str, int]:
    """Return the number of trials of each phase, in order."""
    return dict(zip((SEARCH, FINAL, FORWARD), spec.phases, strict=True))


def threads_of(spec: ExperimentSpec) -> int:
    """Return the threads of a trial; where they are sampled, its cores."""
    return int(spec.config.get("threads", max(1, math.floor(spec.resources.cpu))))  # type: ignore[arg-type]


def at_once(spec: ExperimentSpec, cores: int) -> int:
    """Return how many trials run at the same time on a machine with these cores, and with the GPUs of this one."""
    room = math.floor(cores / spec.resources.all_cpu)
    if spec.resources.all_gpu > 0:
        room = min(room, math.floor(usable_gpus() / spec.resources.all_gpu))
    return max(1, min(spec.concurrency, room))


def basis(spec: ExperimentSpec, cores: int, timed: Sequence[TimedStep]) -> tuple[Basis, tuple[TimedStep, ...]]:
    """Return what the estimates of `spec` rest on, and the timed steps among it."""
    from training.settings import parse_budget

    if spec.trainable != "patchtst":
        return Basis.RULE, ()
    return step_times.of_budget(timed, parse_budget(str(spec.config["budget"])), threads_of(spec), at_once(spec, cores))


def seconds(
    spec: ExperimentSpec,
    architectures: Sequence[Architecture],
    rows: int,
    cores: int,
    *,
    pruned: bool,
    timed: Sequence[TimedStep] = (),
) -> dict[str, float]:
    """Return the seconds of each phase on a machine with these cores; with `pruned` less what the pruner should end."""
    together, (_, steps) = at_once(spec, cores), basis(spec, cores, timed)
    folds = spec.folds
    trained_on: dict[str, list[int | None]] = {
        SEARCH: [None], FINAL: [folds if folds > 1 else None], FORWARD: list(range(1, folds))
    }  # fmt: skip

    def of(phase: str, count: int) -> float:
        if count == 0:
            return 0.0
        windows = [_windows(spec, rows, fold) for fold in trained_on[phase]]
        epoch = mean(_epoch_seconds(spec, shape, *found, steps) for shape in architectures for found in windows)
        epochs = searched_epochs(spec) if pruned and phase == SEARCH else spec.max_epochs
        return math.ceil(count / together) * (TRIAL_OVERHEAD_S + epochs * epoch)

    return {phase: of(phase, count) for phase, count in trials(spec).items()}


def searched_epochs(spec: ExperimentSpec) -> float:
    """Return the epochs of an average trial of the search."""
    return trial_work.searched_epochs(spec.pruner.model_dump(), spec.max_epochs)


def _windows(spec: ExperimentSpec, rows: int, fold: int | None) -> tuple[int, int]:
    """Return the numbers of train and validation windows of a trial."""
    from training.errors import SplitError

    try:
        blocks = blocks_of(spec, rows)
    except SplitError:
        return round(rows * TRAIN_SHARE), round(rows * VAL_SHARE)
    judged = blocks if fold is None else [blocks[fold - 1]]
    return sum(len(block.train) for block in blocks[:fold]), sum(len(block.val) for block in judged)


def epoch_seconds(
    spec: ExperimentSpec, architectures: Sequence[Architecture], rows: int, cores: int, timed: Sequence[TimedStep] = ()
) -> float:
    """Return the seconds of an average epoch of the search."""
    windows, (_, steps) = _windows(spec, rows, None), basis(spec, cores, timed)
    return mean(_epoch_seconds(spec, shape, *windows, steps) for shape in architectures)


def _epoch_seconds(
    spec: ExperimentSpec, architecture: Architecture, train: int, val: int, timed: Sequence[TimedStep]
) -> float:
    threads = threads_of(spec)

    def of(batch: int) -> float:
        steps = train / batch * step_times.rule_seconds(architecture, batch, threads)
        read = step_times.forward_seconds(architecture, val, threads)
        return step_times.scale(timed, architecture, batch) * (steps + read)

    return mean(map(of, batch_sizes(spec)))


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
