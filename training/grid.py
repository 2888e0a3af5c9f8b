"""Build the architecture grid of a budget: every shape near enough to it, in an order that a sampler can learn.

Standard library only. A PatchTST encoder's size follows from (d_model, n_layers, d_ff); heads cost no parameter.
So a grid is shapes x head counts, and both are ordinals: ``shape_rank`` counts shapes from deep and narrow to
shallow and wide (by log(d_model / n_layers)), ``heads_log2`` is log2 of the heads. Any pair of them is valid.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from training.errors import GridError
from training.settings import GridSettings, TrialSettings, parse_budget


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that decide the parameter count: width, depth and the width of the feed-forward layer."""

    d_model: int
    n_layers: int
    d_ff: int

    @property
    def aspect(self) -> float:
        """Return log(d_model / n_layers): negative is deep and narrow, positive shallow and wide."""
        return math.log(self.d_model / self.n_layers)


@dataclass(frozen=True, slots=True)
class Architecture:
    """The arguments of the model's constructor: a shape, its heads, and the form of the data."""

    d_model: int
    n_layers: int
    d_ff: int
    n_heads: int
    num_features: int
    context: int
    patch: int
    stride: int
    scales: bool = True
    """True gives each token also the scale of every feature over the window: ``num_features`` more inputs."""

    @property
    def n_patches(self) -> int:
        """Count the tokens of a window. Days that fill no patch are left out at its old end."""
        return (self.context - self.patch) // self.stride + 1

    @property
    def token_inputs(self) -> int:
        """Count the numbers that one token is made of."""
        return (self.patch + self.scales) * self.num_features

    def as_dict(self) -> dict[str, int]:
        """Return the fields by name, for a record or a checkpoint."""
        return {name: getattr(self, name) for name in self.__slots__}


def param_count(architecture: Architecture) -> int:
    """Count the parameters of ``training.model.PatchTST(architecture)`` exactly, in closed form.

    Embedding (token_inputs + 1) d + positions N d; per layer QKV 3d(d+1), projection d(d+1),
    feed-forward 2 d d_ff + d_ff + d, two norms 4d; final norm 2d; head N d + 1.
    """
    d, f, n = architecture.d_model, architecture.d_ff, architecture.n_patches
    embedding = (architecture.token_inputs + 1) * d + n * d
    layer = 4 * d * (d + 1) + 2 * d * f + f + d + 4 * d
    return embedding + architecture.n_layers * layer + 2 * d + n * d + 1


@dataclass(frozen=True, slots=True)
class Grid:
    """The architectures of one budget. ``len(grid)`` counts them; ``shapes`` is sorted by aspect."""

    budget_params: int
    shapes: tuple[Shape, ...]
    heads: tuple[int, ...]
    num_features: int
    context: int
    patch: int
    stride: int
    scales: bool

    def __len__(self) -> int:
        return len(self.shapes) * len(self.heads)

    def __iter__(self) -> Iterator[Architecture]:
        for rank, heads in itertools.product(range(len(self.shapes)), self.heads):
            yield self.architecture(rank, heads.bit_length() - 1)

    def axes(self) -> dict[str, tuple[int, int]]:
        """Return the inclusive bounds of the two ordinals, for a sampler."""
        lowest, highest = self.heads[0].bit_length() - 1, self.heads[-1].bit_length() - 1
        return {"shape_rank": (0, len(self.shapes) - 1), "heads_log2": (lowest, highest)}

    def architecture(self, shape_rank: int, heads_log2: int) -> Architecture:
        """Return the architecture of two ordinals. Raises GridError when one lies outside ``axes()``."""
        for name, value in (("shape_rank", shape_rank), ("heads_log2", heads_log2)):
            low, high = self.axes()[name]
            if not low <= value <= high:
                raise GridError(f"{name} = {value} lies outside {low} .. {high}", "Sample within grid.axes().")
        shape = self.shapes[shape_rank]
        return Architecture(
            d_model=shape.d_model,
            n_layers=shape.n_layers,
            d_ff=shape.d_ff,
            n_heads=1 << heads_log2,
            num_features=self.num_features,
            context=self.context,
            patch=self.patch,
            stride=self.stride,
            scales=self.scales,
        )


def build_grid(
    budget_params: int,
    grid_settings: GridSettings | Mapping[str, object],
    num_features: int,
    context: int,
    patch: int,
    stride: int,
    scales: bool = True,
) -> Grid:
    """Collect the shapes within ``tolerance`` of the budget, and the head counts that fit all of them.

    Raises GridError with the nearest sizes when no shape is near enough, and when no head count divides every d_model.
    """
    if not isinstance(grid_settings, GridSettings):
        grid_settings = GridSettings.from_config(grid_settings)
    every = [
        Shape(d, layers, d * ratio)
        for d, layers, ratio in itertools.product(
            grid_settings.d_model, grid_settings.n_layers, grid_settings.d_ff_ratio
        )
    ]

    def size(shape: Shape) -> int:
        return param_count(
            Architecture(shape.d_model, shape.n_layers, shape.d_ff, 1, num_features, context, patch, stride, scales)
        )

    allowed = grid_settings.tolerance * budget_params
    near = [shape for shape in every if abs(size(shape) - budget_params) <= allowed]
    if not near:
        raise _nothing_near(budget_params, grid_settings.tolerance, {size(shape): shape for shape in every})
    heads = tuple(h for h in grid_settings.n_heads if all(shape.d_model % h == 0 for shape in near))
    if not heads:
        widths = sorted({shape.d_model for shape in near})
        raise GridError(
            f"no head count of {list(grid_settings.n_heads)} divides every d_model of {widths}",
            "Take head counts that divide each d_model of the grid, such as 2.",
        )
    near.sort(key=lambda shape: (shape.aspect, shape.d_ff))
    return Grid(budget_params, tuple(near), heads, num_features, context, patch, stride, scales)


def grid_of(settings: TrialSettings, num_features: int) -> Grid:
    """Build the grid that a trial's ordinals index. Raises GridError as ``build_grid`` does."""
    return build_grid(
        settings.budget_params, settings.grid, num_features, settings.context, settings.patch, settings.stride,
        settings.tells_scales,
    )  # fmt: skip


def grid_of_config(config: Mapping[str, Any], num_features: int) -> Grid:
    """Build the grid of an experiment's config, which lacks the sampled values of a trial's.

    Raises GridError as ``build_grid`` does, SettingsError for a bad budget.
    """
    default = TrialSettings.__dataclass_fields__
    context, patch, stride, normalisation = (
        config.get(key, default[key].default) for key in ("context", "patch", "stride", "normalisation")
    )
    budget = parse_budget(config["budget"])
    return build_grid(budget, config["grid"], num_features, context, patch, stride, normalisation == "revin_scale")


def _nothing_near(budget_params: int, tolerance: float, sizes: Mapping[int, Shape]) -> GridError:
    nearest = sorted(sizes, key=lambda count: abs(count - budget_params))[:3]
    listed = ", ".join(f"{n:,} ({sizes[n].d_model} x {sizes[n].n_layers} layers)" for n in sorted(nearest))
    return GridError(
        f"no shape of the grid has {budget_params:,} parameters within {tolerance:.0%}; the nearest have {listed}",
        "Add widths or depths to the grid's lists, widen its tolerance, or take one of these sizes as the budget.",
    )
