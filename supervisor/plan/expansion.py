"""Resolves a plan into its experiments: grids become whole numbers, quantiles become values.

Pure; `training.grid` is standard library.
"""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import PurePath
from typing import TYPE_CHECKING, Annotated, Any, Literal

from pydantic import BeforeValidator, Field

from supervisor.domain.checkpoint_schedule import CHECKPOINT_EVERY_S
from supervisor.domain.finalists import finalisation_trials, search_trials, shrunk, walk_forward_trials
from supervisor.errors import PlanError
from supervisor.plan import dimensions, schema
from supervisor.plan.hours import shares
from supervisor.plan.matrix import Cell, cells
from supervisor.plan.problem import nearest
from supervisor.plan.validation import value_problem

if TYPE_CHECKING:
    from training.grid import Grid

Bounds = dict[str, tuple[int, int]]
UNCHANGED = (
    "trainable", "metric", "metric_at", "mode", "max_trials", "max_epochs", "resources", "sampler",
    "warm_start", "max_failures", "checkpoint_every_s", "stop", "duplicates",
)  # fmt: skip
"""Settings of a cell that its experiment takes over as they are."""

ResolvedDimension = Annotated[
    dimensions.FloatDimension | dimensions.IntDimension | dimensions.CategoricalDimension, Field(discriminator="type")
]


class ResolvedAsha(schema.AshaPruner):
    """ASHA with its top rung settled."""

    max_t: int = Field(ge=1)


class ResolvedFinalize(schema.Finalize):
    """Finalisation with the number of folds that the winner is tested on; 1 without folds."""

    folds: int = Field(default=1, ge=1)


ResolvedPruner = Annotated[ResolvedAsha | schema.MedianPruner | schema.NoPruner, Field(discriminator="kind")]


class ExperimentSpec(dimensions.Part):
    """One resolved experiment: the daemon stores it and a driver executes it.

    `model_dump(mode="json")` and `model_validate` are inverse to each other. An `auto` is 1 until the machine has been
    measured, so that a plan's fingerprint is the same on every machine; `chosen` says why it is what it is.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")
    cell: dict[schema.ParamName, schema.AxisValue]
    trainable: str = Field(pattern=schema.TRAINABLE_PATTERN)
    config: schema.Config
    space: dict[schema.ParamName, ResolvedDimension]
    metric: str
    metric_at: Literal["start", "end"] = "start"
    mode: Literal["min", "max"]
    max_trials: int = Field(ge=1)
    max_epochs: int = Field(ge=1)
    max_hours: float | None
    concurrency: int = Field(ge=1)
    auto_concurrency: bool = False
    resources: schema.Resources
    sampler: schema.Sampler
    duplicates: Literal["reuse", "train"] = "train"
    """Stands for runs whose plans could not say it; a plan's own default is `reuse`."""
    enqueue: Annotated[
        tuple[dict[schema.ParamName, dimensions.Constant | None], ...], BeforeValidator(dimensions.as_tuple)
    ]
    pruner: ResolvedPruner
    finalize: ResolvedFinalize | None = None
    stop: schema.Stop | None = None
    warm_start: schema.WarmStart | None = None
    seed: int = Field(ge=0)
    max_failures: int = Field(ge=0)
    checkpoint_every_s: float = Field(default=CHECKPOINT_EVERY_S, ge=0)
    searched: int | None = Field(default=None, exclude=True)
    search_end: str | None = Field(default=None, exclude=True)
    finish_asked: bool = Field(default=False, exclude=True)
    chosen: str | None = Field(default=None, exclude=True)
    most_at_once: int | None = Field(default=None, exclude=True)
    ending: dict[str, str] = Field(default_factory=dict, exclude=True)
    discarded: dict[str, str] = Field(default_factory=dict, exclude=True)
    set_aside: list[int] = Field(default_factory=list, exclude=True)
    extended: dict[str, dict[str, Any]] = Field(default_factory=dict, exclude=True)
    left_out: str | None = Field(default=None, exclude=True)
    asked: list[dict[str, Any]] = Field(default_factory=list, exclude=True)
    put_next: int | None = Field(default=None, exclude=True)
    """The fields that events add to the spec of a run (domain.spec_changes); no plan has them."""

    @property
    def is_open(self) -> bool:
        """Return whether concurrency or cores are left to the machine, and not chosen yet."""
        return (self.auto_concurrency or self.resources.auto) and self.chosen is None

    @property
    def phases(self) -> tuple[int, int, int]:
        """Return how many trials search, are of the finalisation, and walk forward."""
        own = self.model_dump(include={"max_trials", "finalize"})
        return search_trials(own), finalisation_trials(own), walk_forward_trials(own)

    @property
    def folds(self) -> int:
        """Return on how many folds the winner is tested; 1 without folds."""
        return 1 if self.finalize is None else self.finalize.folds


def expand(
    plan: schema.Plan,
    num_features: int | None = None,
    dataset: str | None = None,
    only: str | None = None,
    globs: Sequence[str] = (),
    hours: float | None = None,
) -> list[ExperimentSpec]:
    """Resolve the experiments in order: the first axis of the matrix varies slowest.

    `num_features` is the dataset's input width, from its manifest, and `dataset` its file; a plan with a grid needs
    `num_features`. `only` keeps the cells that have this value on any axis, `globs` those whose name matches one;
    `hours` are divided over those that are kept.
    Raises PlanError when nothing matches, when a grid is empty, or when an enqueued value is not in the grid.
    """
    chosen = _select(list(cells(plan)), only, globs)
    hours_of = shares(plan, chosen, hours)
    return [_spec(cell, num_features, dataset, hours_of[cell.name]) for cell in chosen]


def fingerprint(plan: schema.Plan, specs: Sequence[ExperimentSpec], data_sha256: str | None = None) -> str:
    """Hash all that decides the results: the plan's name, its experiments in order, and `data_sha256`.

    Of the dataset's path only the file's name counts, so that a run goes on in a home that was moved. Hardware policy
    and the time between checkpoints are left out: an unfinished run with others is still the same run.
    """
    content: dict[str, Any] = {
        "plan": plan.name,
        "experiments": [_that_decides(spec) for spec in specs],
        "data": data_sha256,
    }
    canonical = json.dumps(content, sort_keys=True, separators=(",", ":"), ensure_ascii=True, allow_nan=False)
    return hashlib.sha256(canonical.encode()).hexdigest()


def _that_decides(spec: ExperimentSpec) -> dict[str, Any]:
    """Return a spec without the parts that another place or pace of the same run may change."""
    content = spec.model_dump(mode="json", exclude={"checkpoint_every_s"})
    if content["stop"] is None:
        # As of plans that could not say it: their runs go on.
        del content["stop"]
    if content["duplicates"] == "reuse":
        del content["duplicates"]
    dataset = content["config"].get("dataset")
    if isinstance(dataset, str):
        content["config"]["dataset"] = PurePath(dataset).name
    return content


def grid_of(spec_config: dict[str, Any], num_features: int) -> Grid:
    """Build the architecture grid of an experiment. Raises PlanError with the nearest sizes when it is empty."""
    from training.errors import TrainingError
    from training.grid import grid_of_config

    try:
        return grid_of_config(spec_config, num_features)
    except TrainingError as error:
        raise PlanError(f"budget {spec_config['budget']}: {error}", key="config.grid", remedy=error.remedy) from error


def _select(found: list[Cell], only: str | None, globs: Sequence[str]) -> list[Cell]:
    names = [cell.name for cell in found]
    kept = found
    if only is not None:
        kept = [cell for cell in kept if only in {str(value) for value in cell.axes.values()} or only == cell.name]
        if not kept:
            values = list(dict.fromkeys(str(value) for cell in found for value in cell.axes.values()))
            raise PlanError(f"--only {only} matches no experiment", remedy=_choices(only, values or names, "values"))
    for glob in globs:
        if not any(fnmatchcase(name, glob) for name in names):
            raise PlanError(f"--experiments {glob} matches none", remedy=_choices(glob, names, "experiments"))
    if globs:
        kept = [cell for cell in kept if any(fnmatchcase(cell.name, glob) for glob in globs)]
        if not kept:
            raise PlanError(f"--only {only} and --experiments {' '.join(globs)} have no experiment in common",
                            remedy=_choices("", names, "experiments"))  # fmt: skip
    return kept


def _choices(word: str, names: list[str], described: str) -> str:
    close = nearest(word, names, described)
    listed = f"{described}: {', '.join(names[:40])}"
    return close if close == listed else f"{close} {listed}"


def _spec(cell: Cell, num_features: int | None, dataset: str | None, max_hours: float | None) -> ExperimentSpec:
    plan = cell.plan
    config = _config(cell, dataset)
    bounds = _grid_bounds(cell, config, num_features)
    space = {name: _resolve(dimension, bounds) for name, dimension in plan.space.items()}
    return ExperimentSpec(
        name=cell.name,
        cell=cell.axes,
        config=config,
        space=space,
        max_hours=max_hours,
        concurrency=min(plan.concurrency, plan.max_trials) if isinstance(plan.concurrency, int) else 1,
        auto_concurrency=plan.concurrency == schema.AUTO,
        enqueue=_enqueue(cell, space),
        pruner=_pruner(plan),
        finalize=finalize_of(plan),
        seed=_experiment_seed(plan.seed, cell.name),
        **{name: getattr(plan, name) for name in UNCHANGED},
    )


def _experiment_seed(plan_seed: int, name: str) -> int:
    """Derive a seed from the experiment's name: no two share random numbers, and `--only` changes none of them."""
    return int.from_bytes(hashlib.sha256(f"experiment:{plan_seed}:{name}".encode()).digest()[:4], "big")


def _config(cell: Cell, dataset: str | None) -> dict[str, Any]:
    plan, config = cell.plan, dict(cell.plan.config)
    if dataset is not None and plan.data is not None:
        config["dataset"] = dataset
    if plan.trainable == "patchtst":
        config["max_epochs"] = plan.max_epochs  # the learning rate's decay ends there
        if "threads" not in plan.space:
            # One thread for each core that Ray gave: more would compete with the other trials.
            config.setdefault("threads", max(1, math.floor(plan.resources.cpu)))
    return config


def _grid_bounds(cell: Cell, config: dict[str, Any], num_features: int | None) -> Bounds:
    if not any(isinstance(dimension, dimensions.GridDimension) for dimension in cell.plan.space.values()):
        return {}
    if num_features is None:
        raise PlanError(
            f"{cell.name}: the architecture grid needs the dataset's number of features",
            key="data",
            remedy="import or build the dataset first: `supervisord data list` shows the imported ones",
        )
    return grid_of(config, num_features).axes()


def _resolve(
    dimension: dimensions.Dimension, bounds: Bounds
) -> dimensions.FloatDimension | dimensions.IntDimension | dimensions.CategoricalDimension:
    if isinstance(dimension, dimensions.GridDimension):
        low, high = bounds[dimension.axis]
        return dimensions.IntDimension(type="int", low=low, high=high)
    return dimension


def _enqueue(cell: Cell, space: dict[str, Any]) -> tuple[dict[str, Any], ...]:
    """Resolve the enqueued points, at most one per trial of the search.

    Equal points are enqueued once: two quantiles of a short grid can be the same value. A point that leaves parameters
    out and is written twice is two draws.
    """
    points: list[dict[str, Any]] = []
    for index, params in enumerate(cell.plan.enqueue):
        point = {name: _enqueued(space[name], value) for name, value in params.items()}
        for name, value in point.items():
            wrong = value_problem(space[name], value)
            if wrong:
                key = f"enqueue.{index}.{name}"
                raise PlanError(f"{cell.name}: {key}: {wrong}", key=key, remedy="write {quantile: 0 to 1} instead")
        two_draws = params in cell.plan.enqueue[:index] and len(point) < len(space)
        if point not in points or two_draws:
            points.append(point)
    finalize = finalize_of(cell.plan)
    reserved = {"max_trials": cell.plan.max_trials, "finalize": finalize and finalize.model_dump()}
    return tuple(points[: search_trials(reserved)])


def _enqueued(dimension: dimensions.FloatDimension | dimensions.IntDimension, value: Any) -> Any:
    if not isinstance(value, dimensions.Quantile):
        return value
    low, high = dimension.low, dimension.high
    if dimension.log:
        place = math.exp(math.log(low) + value.quantile * (math.log(high) - math.log(low)))
    else:
        place = low + value.quantile * (high - low)
    place = min(max(place, low), high)  # exp(log(x)) may differ from x in the last bit
    if isinstance(dimension, dimensions.FloatDimension):
        return float(place)
    step = dimension.step
    return int(low + min(round((place - low) / step), (high - low) // step) * step)


def finalize_of(plan: schema.Plan) -> ResolvedFinalize | None:
    """Limit the trials after the search to half of all: first `top` shrinks, then `seeds`, each to one at least.

    None if even one of each would leave no trial to the search.
    """
    folds, half = _folds(plan), plan.max_trials // 2
    if plan.finalize is None or plan.max_trials <= folds:
        return None
    top, seeds = shrunk(plan.finalize.top, plan.finalize.seeds, folds, half)
    return ResolvedFinalize(top=top, seeds=seeds, folds=folds)


def _folds(plan: schema.Plan) -> int:
    """Return on how many folds the winner is tested; 1 without folds."""
    from training.settings import SplitSettings

    split = plan.config.get("split")
    if plan.trainable != "patchtst" or not isinstance(split, dict):
        return 1
    return len(SplitSettings.from_config(split).test_folds)


def _pruner(plan: schema.Plan) -> ResolvedAsha | schema.MedianPruner | schema.NoPruner:
    """Settle the top rung; with fewer epochs than the grace period, the grace period shrinks."""
    pruner = plan.pruner
    if not isinstance(pruner, schema.AshaPruner):
        return pruner
    top = min(pruner.max_t or plan.max_epochs, plan.max_epochs)
    return ResolvedAsha(**pruner.model_dump() | {"grace_period": min(pruner.grace_period, top), "max_t": top})
