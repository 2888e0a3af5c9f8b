"""Defines `ExperimentSpec`, one resolved experiment of a plan."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import BeforeValidator, Field

from supervisor.plan.schema import (
    TRAINABLE_PATTERN,
    AshaPruner,
    AxisValue,
    CategoricalDimension,
    Config,
    Constant,
    Finalize,
    FloatDimension,
    IntDimension,
    MedianPruner,
    NoPruner,
    ParamName,
    Part,
    Resources,
    Sampler,
    WarmStart,
    as_tuple,
)

ResolvedDimension = Annotated[FloatDimension | IntDimension | CategoricalDimension, Field(discriminator="type")]


class ResolvedAsha(AshaPruner):
    """ASHA with its top rung settled."""

    max_t: int = Field(ge=1)


ResolvedPruner = Annotated[ResolvedAsha | MedianPruner | NoPruner, Field(discriminator="kind")]


class ExperimentSpec(Part):
    """One resolved experiment: the daemon stores it and a driver executes it.

    `model_dump(mode="json")` and `model_validate` are inverse to each other.
    """

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._+-]{0,127}$")
    cell: dict[ParamName, AxisValue]
    trainable: str = Field(pattern=TRAINABLE_PATTERN)
    config: Config
    space: dict[ParamName, ResolvedDimension]
    metric: str
    mode: Literal["min", "max"]
    max_trials: int = Field(ge=1)
    max_epochs: int = Field(ge=1)
    max_hours: float | None
    concurrency: int = Field(ge=1)
    resources: Resources
    sampler: Sampler
    enqueue: Annotated[tuple[dict[ParamName, Constant | None], ...], BeforeValidator(as_tuple)]
    pruner: ResolvedPruner
    finalize: Finalize | None = None
    warm_start: WarmStart | None = None
    seed: int = Field(ge=0)
    max_failures: int = Field(ge=0)
