"""Defines the dimensions of a plan's space, and the base of all models of a plan file."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

Constant = str | int | float | bool
GridAxis = Literal["shape_rank", "heads_log2"]


def as_tuple(value: object) -> object:
    """Turn a list of YAML or JSON into the tuple that strict validation expects."""
    return tuple(value) if isinstance(value, list) else value


class Part(BaseModel):
    """The base of all models. It reports an unknown key with the valid ones, so that the nearest can be offered."""

    model_config = ConfigDict(strict=True, extra="forbid", frozen=True, allow_inf_nan=False)

    @model_validator(mode="before")
    @classmethod
    def _known_keys_only(cls, data: Any) -> Any:
        if isinstance(data, Mapping):
            for key in data:
                if key not in cls.model_fields:
                    raise PydanticCustomError(
                        "unknown_key", "unknown key {key}", {"key": str(key), "valid": sorted(cls.model_fields)}
                    )
        return data


class FloatDimension(Part):
    """A real number. With `log`, its logarithm is uniform."""

    type: Literal["float"]
    low: float = Field(description="smallest value")
    high: float = Field(description="largest value")
    log: bool = Field(default=False, description="sample the logarithm; needs low > 0")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low >= self.high:
            raise ValueError(f"low ({self.low}) must be below high ({self.high})")
        if self.log and self.low <= 0:
            raise ValueError("log needs low above 0")
        return self


class IntDimension(Part):
    """A whole number, bounds included. `low` may equal `high`: a grid of one budget can have a single shape."""

    type: Literal["int"]
    low: int = Field(description="smallest value")
    high: int = Field(description="largest value, included")
    log: bool = Field(default=False, description="sample the logarithm; needs low >= 1 and step 1")
    step: int = Field(default=1, ge=1, description="distance between neighbouring values, counted from low")

    @model_validator(mode="after")
    def _ordered(self) -> Self:
        if self.low > self.high:
            raise ValueError(f"low ({self.low}) must not be above high ({self.high})")
        if self.log and (self.low < 1 or self.step != 1):
            raise ValueError("log needs low of at least 1 and no step")
        return self


def _choices(value: object) -> object:
    """Refuse a choice that is a list or a mapping: samplers compare and store single values."""
    for choice in value if isinstance(value, list | tuple) else ():
        if isinstance(choice, list | tuple | Mapping):
            kind = "mapping" if isinstance(choice, Mapping) else "list"
            raise ValueError(  # noqa: TRY004 - pydantic reports a ValueError
                f"the choice {json.dumps(choice, default=str)[:60]} is a {kind}, and the sampler takes single values: "
                "write texts, such as 64-64, and let the trainable look up what each means"
            )
    return as_tuple(value)


class CategoricalDimension(Part):
    """One of a list, without an order."""

    type: Literal["categorical"]
    choices: Annotated[tuple[Constant | None, ...], BeforeValidator(_choices)] = Field(
        min_length=1, max_length=1_000, description="the values"
    )

    @model_validator(mode="after")
    def _distinct(self) -> Self:
        for place, choice in enumerate(self.choices):
            earlier = self.choices[:place]
            if choice not in earlier:
                continue
            twin = earlier[earlier.index(choice)]
            if type(twin) is type(choice):
                raise ValueError("a choice appears twice in the list")
            # Python, and so Optuna, takes True, 1 and 1.0 for one value.
            texts = " and ".join(json.dumps(value) for value in (twin, choice))
            raise ValueError(f"{texts} are equal to the sampler: keep one, or quote both to make them texts")
        return self


class GridDimension(Part):
    """An ordinal of the budget's architecture grid; `patchtst` only. Becomes an int dimension per experiment.

    `shape_rank` counts shapes from deep and narrow to shallow and wide, `heads_log2` is log2 of the heads
    (training.grid).
    """

    type: Literal["grid"]
    axis: GridAxis = Field(description="which ordinal of the grid")


Dimension = Annotated[FloatDimension | IntDimension | CategoricalDimension | GridDimension, Field(discriminator="type")]


class Quantile(Part):
    """A position between a numeric dimension's bounds, for `enqueue`: the bounds of a grid differ per budget."""

    quantile: float = Field(ge=0, le=1, description="0 is the dimension's low, 1 its high (log scale where log)")


EnqueuedValue = Quantile | Constant | None
