"""Expands a plan's matrix into cells, each with its overrides merged in. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.plan.schema import Dimension, EnqueuedValue, Finalize, Override, Plan, Pruner, Resources, Sampler
    from supervisor.plan.yaml_reader import KeyPath

MERGED = ("config", "space")
REPLACED = (
    "max_trials", "max_epochs", "max_hours", "concurrency", "sampler", "enqueue", "pruner", "finalize", "max_failures",
)  # fmt: skip
NULLABLE = ("max_hours", "finalize")
"""Null has a meaning for these (no limit, no finalisation); for all others an override's null changes nothing."""


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix with all its settings; grid dimensions are not resolved yet.

    `origins` maps the path of each setting that an override gave to its path in the plan.
    """

    name: str
    axes: dict[str, Any]
    config: dict[str, Any]
    space: dict[str, Dimension]
    max_trials: int
    max_epochs: int
    max_hours: float | None
    concurrency: int
    resources: Resources
    sampler: Sampler
    enqueue: tuple[dict[str, EnqueuedValue], ...]
    pruner: Pruner
    finalize: Finalize | None
    max_failures: int
    origins: dict[KeyPath, KeyPath]

    def origin(self, path: KeyPath) -> KeyPath:
        """Return the path in the plan that gave the setting at `path`: in an override, the matrix or `path` itself."""
        for length in range(len(path), 0, -1):
            if path[:length] in self.origins:
                return (*self.origins[path[:length]], *path[length:])
        if path[:1] == ("config",) and len(path) > 1 and path[1] in self.axes:
            return ("matrix", path[1])
        return path


def cell_name(plan_name: str, axes: Mapping[str, Any]) -> str:
    """Name a cell, such as `2M-h1`: a number follows its axis' first letter. Without axes: the plan's name."""
    parts = [value if isinstance(value, str) else f"{axis[0]}{value}" for axis, value in axes.items()]
    return "-".join(parts) or plan_name


def combinations(plan: Plan) -> Iterator[dict[str, Any]]:
    """Yield the matrix's combinations; the first axis varies slowest."""
    for values in itertools.product(*plan.matrix.values()):
        yield dict(zip(plan.matrix, values, strict=True))


def cells(plan: Plan) -> Iterator[Cell]:
    """Yield every cell in order."""
    for axes in combinations(plan):
        yield _cell(plan, axes)


def matches(override: Override, axes: Mapping[str, Any]) -> bool:
    """Tell whether `override` applies to the cell at `axes`."""
    return all(axis in axes and axes[axis] in values for axis, values in override.when.items())


def _cell(plan: Plan, axes: dict[str, Any]) -> Cell:
    settings: dict[str, Any] = {key: getattr(plan, key) for key in REPLACED}
    settings |= {key: dict(getattr(plan, key)) for key in MERGED}
    settings["resources"] = plan.resources
    origins: dict[KeyPath, KeyPath] = {}
    for index, override in enumerate(plan.overrides):
        if matches(override, axes):
            _merge(settings, origins, override, ("overrides", index, "set"))
    settings["config"] |= axes
    return Cell(name=cell_name(plan.name, axes), axes=axes, origins=origins, **settings)


def _merge(settings: dict[str, Any], origins: dict[KeyPath, KeyPath], override: Override, at: KeyPath) -> None:
    for key in override.set.model_fields_set:
        value = getattr(override.set, key)
        if key in MERGED and value is not None:
            settings[key].update(value)
            origins.update({(key, name): (*at, key, name) for name in value})
        elif key == "resources" and value is not None:
            settings[key] = settings[key].model_copy(update=value.model_dump(exclude_unset=True))
        elif value is not None or key in NULLABLE:
            settings[key] = value
            origins[(key,)] = (*at, key)
