"""Expands a plan's matrix into cells, each with its overrides merged in. Pure."""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from supervisor.plan.schema import Override, Plan
    from supervisor.plan.yaml_reader import KeyPath

MERGED = ("config", "space")
NULLABLE = ("max_hours", "finalize", "stop")
"""Null has a meaning for these (no limit, finalisation, early end); for others an override's null changes nothing."""


@dataclass(frozen=True)
class Cell:
    """One combination of the matrix: `axes`, and the `plan` with its overrides and axes merged in.

    Grid dimensions are not resolved yet. `origins` maps the path of each setting that an override gave to its path
    in the plan.
    """

    name: str
    axes: dict[str, Any]
    plan: Plan
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


def cells(plan: Plan) -> Iterator[Cell]:
    """Yield every cell in order; the first axis of the matrix varies slowest."""
    for values in itertools.product(*plan.matrix.values()):
        yield _cell(plan, dict(zip(plan.matrix, values, strict=True)))


def matches(override: Override, axes: Mapping[str, Any]) -> bool:
    """Tell whether `override` applies to the cell at `axes`."""
    return all(axis in axes and axes[axis] in values for axis, values in override.when.items())


def _cell(plan: Plan, axes: dict[str, Any]) -> Cell:
    origins: dict[KeyPath, KeyPath] = {}
    merged = plan
    for index, override in enumerate(plan.overrides):
        if matches(override, axes):
            changes = _changes(merged, override, origins, ("overrides", index, "set"))
            merged = merged.model_copy(update=changes)
    merged = merged.model_copy(update={"config": {**merged.config, **axes}})
    return Cell(cell_name(plan.name, axes), axes, merged, origins)


def _changes(plan: Plan, override: Override, origins: dict[KeyPath, KeyPath], at: KeyPath) -> dict[str, Any]:
    """Return the settings that `override`, at the path `at`, gives `plan`; write their paths into `origins`."""
    changes: dict[str, Any] = {}
    for key in override.set.model_fields_set:
        value = getattr(override.set, key)
        if value is None and key not in NULLABLE:
            continue
        if key in MERGED:
            changes[key] = {**getattr(plan, key), **value}
            origins.update({(key, name): (*at, key, name) for name in value})
        elif key == "resources":
            given = {name: getattr(value, name) for name in value.model_fields_set}
            # A number of cores overrules `auto`.
            changes[key] = plan.resources.model_copy(update={**({"auto": False} if "cpu" in given else {}), **given})
        else:
            changes[key] = value
            origins[(key,)] = (*at, key)
    return changes
