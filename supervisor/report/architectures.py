"""Adds facts from the training room: architectures of trials without a record, and the data's source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from supervisor.report.view import ExperimentRow, RunView, TrialRow

if TYPE_CHECKING:
    from training.grid import Grid

ORDINALS = ("shape_rank", "heads_log2")


def with_architectures(run: RunView) -> RunView:
    """Add architecture and param_count to the records of trials whose experiment's grid is known."""
    experiments = tuple(_filled(experiment) for experiment in run.experiments)
    return replace(run, experiments=experiments)


def with_source(run: RunView) -> RunView:
    """Add the data's `source` from the manifest of the raw bars, if that can be read."""
    from training.data.manifest import raw_path, read_raw_manifest
    from training.errors import TrainingError

    if "path" not in run.data or "source" in run.data:
        return run
    path = Path(run.data["path"])
    try:
        source = read_raw_manifest(raw_path(path.parent.parent, run.data["ticker"])).source
    except (OSError, TrainingError):
        return run
    return replace(run, data={**run.data, "source": source})


def _filled(experiment: ExperimentRow) -> ExperimentRow:
    lacking = [trial for trial in experiment.trials if trial.param_count is None]
    if not experiment.testable or not lacking:
        return experiment
    grid = _grid(experiment)
    if grid is None:
        return experiment
    trials = tuple(_with_architecture(trial, grid) for trial in experiment.trials)
    best = None if experiment.best is None else next(t for t in trials if t.number == experiment.best.number)
    return replace(experiment, trials=trials, best=best)


def _with_architecture(trial: TrialRow, grid: Grid) -> TrialRow:
    from training.errors import TrainingError
    from training.grid import param_count

    rank, heads = (trial.params.get(name) for name in ORDINALS)
    if trial.param_count is not None or not isinstance(rank, int) or not isinstance(heads, int):
        return trial
    try:
        architecture = grid.architecture(rank, heads)
    except TrainingError:
        # The ordinals are from another grid: the architecture stays unknown.
        return trial
    known = {"architecture": architecture.as_dict(), "param_count": param_count(architecture)}
    return replace(trial, record={**trial.record, **known})


def _grid(experiment: ExperimentRow) -> Grid | None:
    from training.errors import TrainingError
    from training.grid import grid_of_config

    config = experiment.spec["config"]
    features = _num_features(experiment, config)
    if features is None:
        return None
    try:
        return grid_of_config(config, features)
    except (KeyError, TrainingError):
        return None


def _num_features(experiment: ExperimentRow, config: Mapping[str, Any]) -> int | None:
    """Return the dataset's input width, as a trial recorded it or as the dataset's manifest has it."""
    from training.data.manifest import read_manifest
    from training.errors import TrainingError

    widths = (trial.record.get("num_features") for trial in experiment.trials)
    recorded = next((width for width in widths if isinstance(width, int)), None)
    if recorded is not None or "dataset" not in config:
        return recorded
    try:
        return read_manifest(Path(config["dataset"])).num_features
    except TrainingError:
        return None
