"""Defines the models of a plan file.

Every model is strict, closed to unknown keys and frozen. `docs/plans.md` is the reference for people and
`tune_configs/plan.schema.json` the one for editors; both are made from these classes. Checks that span several keys
are in `supervisor.plan.validation`, reading files is in `supervisor.plan.loader`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal, Self

from pydantic import BeforeValidator, Discriminator, Field, JsonValue, Tag, model_validator

from supervisor.domain.checkpoint_schedule import CHECKPOINT_EVERY_S
from supervisor.domain.plan_changes import MAX_EPOCHS, MAX_TRIALS
from supervisor.domain.work_schedule import read_schedule
from supervisor.plan.dimensions import Dimension, EnqueuedValue, Part, as_tuple

PLAN_NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"
"""It is also the name of a folder and a log file: no separators, no leading dot."""
TRAINABLE_PATTERN = r"^(patchtst|[A-Za-z_][A-Za-z0-9_]*(\.[A-Za-z_][A-Za-z0-9_]*)*:[A-Za-z_][A-Za-z0-9_]*)$"
PARAM_PATTERN = r"^[A-Za-z_][A-Za-z0-9_]{0,63}$"
VALUE_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,31}$"

MAX_EXPERIMENTS = 1_000

OWN_HARDWARE_KEYS = ("sensor_script", "schedule")
"""Keys of `hardware` that are no part of the governor's policy."""

AUTO = "auto"
"""Written for a number that the machine decides."""

AxisText = Annotated[str, Field(pattern=VALUE_PATTERN)]
AxisValue = AxisText | int | float
ParamName = Annotated[str, Field(pattern=PARAM_PATTERN)]
VariableName = Annotated[str, Field(pattern=r"^[A-Za-z_][A-Za-z0-9_]{0,127}$")]


def _one_or_more(value: object) -> object:
    return as_tuple(value) if isinstance(value, list | tuple) else (value,)


class Bundle(Part):
    """The share of a node that one Ray task or actor of a trial's own gets."""

    cpu: float = Field(default=1.0, ge=0, le=4096, description="CPU cores")
    gpu: float = Field(default=0.0, ge=0, le=1024, description="GPUs")


def _auto_resources(value: object) -> object:
    """Write `auto` as the mapping that it is short for; a number of cores overrules it."""
    if value == AUTO:
        return {"auto": True}
    if isinstance(value, dict) and value.get("auto") is True and "cpu" in value:
        return {**value, "auto": False}
    return value


class Resources(Part):
    """The share of a node that one trial gets, in Ray's logical units. `resources: auto` is short for `auto: true`."""

    auto: bool = Field(default=False, description="cores of a trial: measured before the experiment begins")
    cpu: float = Field(default=1.0, gt=0, le=4096, description="CPU cores of a trial")
    gpu: float = Field(default=0.0, ge=0, le=1024, description="GPUs of a trial; 0.5 lets two share one")
    nested: Annotated[tuple[Bundle, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=1_000,
        description="shares for Ray tasks and actors that a trial starts itself, one for each at a time",
    )  # fmt: skip

    @property
    def all_cpu(self) -> float:
        """The CPU cores of a trial and its own tasks."""
        return self.cpu + sum(bundle.cpu for bundle in self.nested)

    @property
    def all_gpu(self) -> float:
        """The GPUs of a trial and its own tasks."""
        return self.gpu + sum(bundle.gpu for bundle in self.nested)


class Sampler(Part):
    """The sampler of Optuna that proposes parameters."""

    kind: Literal["tpe", "gp", "random"] = Field(
        default="tpe", description="tree-structured Parzen estimator, Gaussian process, or random"
    )
    startup_trials: int = Field(
        default=10, ge=0, le=10_000, description="random trials before the model is used; enqueued ones count"
    )


class AshaPruner(Part):
    """Asynchronous successive halving (Li et al., MLSys 2020): the best 1/reduction_factor of a rung go on."""

    kind: Literal["asha"]
    grace_period: int = Field(default=1, ge=1, description="epochs that every trial gets: the first rung")
    reduction_factor: float = Field(default=3.0, gt=1, le=100, description="of each rung 1 in so many trials goes on")
    max_t: int | None = Field(default=None, ge=1, description="epochs at the top rung; null: max_epochs")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.max_t is not None and self.grace_period > self.max_t:
            raise ValueError(f"grace_period ({self.grace_period}) is above max_t ({self.max_t})")
        return self


class MedianPruner(Part):
    """Median stopping (Golovin et al., KDD 2017): a trial worse than the median of the others' means is ended."""

    kind: Literal["median"]
    grace_period: int = Field(default=5, ge=1, description="warm-up: epochs that every trial gets")
    min_samples_required: int = Field(default=5, ge=1, description="trials that a median needs")


class NoPruner(Part):
    """Every trial runs to its own end."""

    kind: Literal["none"]


Pruner = Annotated[AshaPruner | MedianPruner | NoPruner, Field(discriminator="kind")]


class Finalize(Part):
    """Trains the best configurations of the search again on fresh seeds, never pruned; the best mean wins.

    With `patchtst` the winner is then tested once; with `split.kind: folds` it is first trained on `seeds` for each
    earlier fold, too. All these trials are part of `max_trials`, at most half of it: with fewer `top` shrinks, then
    `seeds`, down to one of each; if that leaves no trial to the search, there is neither.
    """

    top: int = Field(default=4, ge=1, le=100, description="configurations of the search that are trained again")
    seeds: int = Field(default=3, ge=1, le=100, description="fresh seeds for each of them; a user's trainable finds "
                       "its own as `seed` in its config")  # fmt: skip


class Stop(Part):
    """Ends a search before its last trial once it has found enough; its running trials go on to their ends.

    Trials count that have ended with a value; the finalisation follows as after the last trial.
    """

    value: float | None = Field(default=None, description="a value of the metric that is good enough")
    plateau: int | None = Field(default=None, ge=1, le=MAX_TRIALS, description="so many trials in a row without a "
                                "better one")  # fmt: skip
    improvement: float = Field(default=0.0, ge=0, description="by more than this a value is a better one")

    @model_validator(mode="after")
    def _says_when(self) -> Self:
        if self.value is None and self.plateau is None:
            raise ValueError("stop needs a value or a plateau")
        return self


class WarmStart(Part):
    """Begins an experiment with the best of the next smaller budget; learning rate and shape are carried over."""

    top: int = Field(default=5, ge=1, le=100, description="configurations that are enqueued after the plan's own")


class Data(Part):
    """The market data that the trials see."""

    ticker: str = Field(pattern=r"^[A-Za-z0-9^][A-Za-z0-9._^-]{0,15}$", description="as given to `data import`")
    tier: str = Field(pattern=r"^[a-z][a-z0-9_+]{1,31}$", description="feature tier, such as a20 or a25")
    fallback: Literal["sample"] | None = Field(
        default=None, description="sample: without the ticker's data, use the embedded S&P 500 and say so loudly"
    )


AnyResources = Annotated[Resources, BeforeValidator(_auto_resources)]
Concurrency = Annotated[
    Annotated[int, Field(ge=1, le=1_024), Tag("number")] | Annotated[Literal["auto"], Tag(AUTO)],
    Discriminator(lambda value: AUTO if value == AUTO else "number"),
]
"""With a discriminator a wrong number has one error, not also that it is not `auto`."""
Config = dict[ParamName, JsonValue]
Space = dict[ParamName, Dimension]
Enqueue = Annotated[tuple[dict[ParamName, EnqueuedValue], ...], BeforeValidator(as_tuple)]
Axis = Annotated[tuple[AxisValue, ...], BeforeValidator(as_tuple), Field(min_length=1, max_length=100)]
When = Annotated[tuple[AxisValue, ...], BeforeValidator(_one_or_more), Field(min_length=1)]

Positive = Annotated[float, Field(gt=0, le=1_000_000)]
Hours = Positive | Annotated[dict[ParamName, dict[AxisValue, Positive]], Field(min_length=1, max_length=1)]


class OverrideSet(Part):
    """The changes of an override. `config`, `space` and `resources` are merged key by key; the rest is replaced."""

    config: Config | None = None
    space: Space | None = None
    max_trials: int | None = Field(default=None, ge=1, le=MAX_TRIALS)
    max_epochs: int | None = Field(default=None, ge=1, le=MAX_EPOCHS)
    max_hours: float | None = Field(default=None, gt=0)
    concurrency: Concurrency | None = None
    resources: AnyResources | None = None
    sampler: Sampler | None = None
    enqueue: Enqueue | None = None
    pruner: Pruner | None = None
    finalize: Finalize | None = None
    stop: Stop | None = None
    max_failures: int | None = Field(default=None, ge=0, le=100)
    checkpoint_every_s: float | None = Field(default=None, ge=0, le=86_400)


class Override(Part):
    """Changes some cells of the matrix. Later overrides win over earlier ones."""

    when: dict[ParamName, When] = Field(min_length=1, description="axis: value, or a list of values; all must match")
    set: OverrideSet = Field(description="the keys that differ in these cells")


class Plan(Part):
    """A declarative recipe: its matrix expands into experiments, each a search of `max_trials` trials."""

    name: str = Field(pattern=PLAN_NAME_PATTERN, description="the plan's name; that of a built-in plan is its file's")
    description: str = Field(default="", max_length=2_000, description="one or two sentences for `supervisord plans`")
    trainable: str = Field(
        pattern=TRAINABLE_PATTERN,
        description="`patchtst`, or `package.module:attribute` of any Ray function or class trainable",
    )
    seed: int = Field(default=0, ge=0, lt=2**32, description="all random numbers of a run derive from it")
    metric: str = Field(default="val_loss", min_length=1, max_length=64, description="the reported value to optimise")
    metric_at: Literal["start", "end"] = Field(
        default="start", description="end: first reports may lack the metric; start: then the experiment stops early"
    )
    mode: Literal["min", "max"] = Field(default="min", description="whether smaller or larger values are better")
    matrix: dict[ParamName, Axis] = Field(
        default_factory=dict, max_length=8, description="axis: values. An experiment for each combination, in order"
    )
    config: Config = Field(default_factory=dict, description="constants that every trial gets")
    space: Space = Field(min_length=1, max_length=100, description="parameter: dimension. They are sampled")
    max_trials: int = Field(ge=1, le=MAX_TRIALS, description="trials of an experiment in total, however they end")
    max_epochs: int = Field(ge=1, le=MAX_EPOCHS, description="most epochs (reports) of a trial")
    max_hours: float | None = Field(
        default=None, gt=0, description="most hours of an experiment; null: its share of `hours`"
    )
    hours: Hours | None = Field(
        default=None,
        description="hours of all experiments, divided evenly, or {axis: {value: hours}}; `max_hours` goes before it",
    )
    concurrency: Concurrency = Field(
        default=1, description="trials at the same time; auto: measured before an experiment begins"
    )
    resources: AnyResources = Field(
        default_factory=Resources, description="the share of a node that one trial gets; auto: its cores are measured"
    )
    sampler: Sampler = Field(default_factory=Sampler, description="the way parameters are proposed")
    duplicates: Literal["reuse", "train"] = Field(
        default="reuse", description="reuse: params that a trial has tried are not trained again; train: they are"
    )
    enqueue: Enqueue = Field(
        default=(), max_length=1_000, description="points tried first; parameters left out are sampled"
    )
    pruner: Pruner = Field(default=NoPruner(kind="none"), description="the rule that ends weak trials early")
    finalize: Finalize | None = Field(default=None, description="train the best again on fresh seeds; null: do not")
    stop: Stop | None = Field(default=None, description="end a search that has found enough; null: do not")
    warm_start: WarmStart | None = Field(
        default=None, description="begin with the best of the next smaller budget; null: do not. Needs an axis `budget`"
    )
    data: Data | None = Field(default=None, description="the market data; `patchtst` needs it")
    hardware: dict[ParamName, JsonValue] = Field(
        default_factory=dict,
        description="the governor's policy (docs/sensors.md), sensor_script: a trace file or drill to play, and "
        "schedule: when to work (below)",
    )
    wake_lock: bool = Field(default=True, description="keep the machine awake while the run works")
    pass_environment: Annotated[tuple[VariableName, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=50,
        description="environment variables of `supervisord start` that trials get beside the usual ones",
    )  # fmt: skip
    max_failures: int = Field(default=3, ge=0, le=100, description="further attempts when a worker dies or hangs")
    checkpoint_every_s: float = Field(
        default=CHECKPOINT_EVERY_S, ge=0, le=86_400,
        description="seconds between two checkpoints of a trial; 0: one at the end of each epoch",
    )  # fmt: skip
    overrides: Annotated[tuple[Override, ...], BeforeValidator(as_tuple)] = Field(
        default=(), max_length=100, description="changes for some cells of the matrix"
    )

    @property
    def policy(self) -> dict[str, Any]:
        """The keys of `hardware` for `supervisor.governor.policy.Policy.from_mapping`."""
        return {key: value for key, value in self.hardware.items() if key not in OWN_HARDWARE_KEYS}

    @property
    def schedule(self) -> dict[str, Any] | None:
        """The schedule as a run keeps it; None without one. Raises ScheduleError."""
        value = self.hardware.get("schedule")
        return None if value is None else read_schedule(value).to_json()

    @property
    def sensor_script(self) -> str | None:
        """The trace file or the drill, as written, that plays in place of real sensors."""
        script = self.hardware.get("sensor_script")
        return script if isinstance(script, str) else None
