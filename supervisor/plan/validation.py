"""Checks rules that span several keys of a plan: names that must exist elsewhere, values that must fit a dimension.

Pure; the rules of `training.settings` and `supervisor.governor.policy` are standard library.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Iterator
from typing import TYPE_CHECKING, Any

from supervisor.domain.finalists import SEED
from supervisor.domain.weekly_hours import let_work
from supervisor.domain.work_schedule import ScheduleError, read_schedule
from supervisor.plan.dimensions import (
    CategoricalDimension,
    Dimension,
    FloatDimension,
    GridDimension,
    IntDimension,
    Quantile,
)
from supervisor.plan.matrix import Cell, cells
from supervisor.plan.problem import Problem, nearest
from supervisor.plan.schema import MAX_EXPERIMENTS, OWN_HARDWARE_KEYS, Plan

if TYPE_CHECKING:
    from supervisor.plan.yaml_reader import KeyPath

FILLED_IN = {
    "dataset": "it is found from `data:`",
    "seed": "each trial's is derived from the plan's `seed:`",
    "max_epochs": "it is the plan's own `max_epochs:`",
    "fold": "trials after the search are given theirs; `split: {kind: folds, folds: 3}` sets how many there are",
}
"""Keys of a patchtst trial that the plan may not set, and their origin."""

TAKEN_NAMES = ("debug", "daemon")
"""A plan's log is logs/NAME.jsonl, and the daemon has logs of these names."""


def problems(plan: Plan) -> list[Problem]:
    """List every error of a well-formed plan. An empty list: the plan can be expanded."""
    found = [*_name(plan), *_matrix(plan), *_hours(plan), *_overrides(plan), *_hardware(plan)]
    if not found:  # the cells make sense only when the matrix does
        found += _unique(problem for cell in cells(plan) for problem in _cell(cell))
    return found


def _unique(found: Iterable[Problem]) -> list[Problem]:
    return list(dict.fromkeys(found))


def _name(plan: Plan) -> Iterator[Problem]:
    if plan.name in TAKEN_NAMES:
        yield Problem(("name",), f"{plan.name} is the name of one of the daemon's logs", "choose another name")


def _matrix(plan: Plan) -> Iterator[Problem]:
    for axis in plan.matrix:
        for place in ("config", "space"):
            if axis in getattr(plan, place):
                yield Problem((place, axis), f"{axis} is also an axis of the matrix", "keep one of the two")
    twice = [axis for axis, values in plan.matrix.items() if len({str(value) for value in values}) != len(values)]
    for axis in twice:
        yield Problem(("matrix", axis), "a value appears twice", "write each value once")
    count = math.prod(len(values) for values in plan.matrix.values())
    if count > MAX_EXPERIMENTS:
        yield Problem(("matrix",), f"{count:,} experiments, at most {MAX_EXPERIMENTS:,}", "shorten the axes")
    elif not twice:
        seen = Counter(cell.name for cell in cells(plan))
        for name in sorted(name for name, times in seen.items() if times > 1):
            yield Problem(("matrix",), f"two experiments would be called {name}", "rename an axis or its values")


def _hours(plan: Plan) -> Iterator[Problem]:
    """Check that hours by the values of an axis name each of its values once."""
    if not isinstance(plan.hours, dict):
        return
    for axis, by_value in plan.hours.items():
        if axis not in plan.matrix:
            yield Problem(("hours", axis), f"the matrix has no axis {axis}", nearest(axis, plan.matrix, "axes"))
            continue
        values = [str(value) for value in plan.matrix[axis]]
        for value in by_value:
            if str(value) not in values:
                remedy = nearest(value, values, f"values of {axis}")
                yield Problem(("hours", axis, str(value)), f"the matrix has no {axis} {value}", remedy)
        missing = [value for value in values if value not in {str(given) for given in by_value}]
        if missing:
            yield Problem(("hours", axis), f"{axis} {', '.join(missing)} has no hours", "give each value its hours")


def _overrides(plan: Plan) -> Iterator[Problem]:
    for index, override in enumerate(plan.overrides):
        at: KeyPath = ("overrides", index)
        if not override.set.model_fields_set:
            yield Problem((*at, "set"), "changes nothing", "name a key to set, or remove the override")
        for axis, values in override.when.items():
            if axis not in plan.matrix:
                yield Problem((*at, "when", axis), f"the matrix has no axis {axis}", nearest(axis, plan.matrix, "axes"))
                continue
            for value in values:
                if value not in plan.matrix[axis]:
                    remedy = nearest(value, plan.matrix[axis], f"values of {axis}")
                    yield Problem((*at, "when", axis), f"the matrix has no {axis} {value}", remedy)
        for place in ("config", "space"):
            for key in getattr(override.set, place) or {}:
                if key in plan.matrix:
                    yield Problem((*at, "set", place, key), f"{key} is an axis of the matrix", "remove it here")


def _hardware(plan: Plan) -> Iterator[Problem]:
    from supervisor.governor.policy import KNOWN_KEYS, Policy

    yield from _script(plan.hardware.get("sensor_script"))
    yield from _schedule(plan.hardware.get("schedule"))
    unknown = sorted(set(plan.policy) - set(KNOWN_KEYS))
    for key in unknown:
        yield Problem(("hardware", key), "unknown key", nearest(key, sorted({*KNOWN_KEYS, *OWN_HARDWARE_KEYS}), "keys"))
    if unknown:
        return
    try:
        Policy.from_mapping(plan.policy)
    except ValueError as error:
        key = str(error).partition(":")[0].partition(".")[0]
        yield Problem(("hardware", key) if key in plan.policy else ("hardware",), str(error))


def _schedule(value: object) -> Iterator[Problem]:
    if value is None:
        return
    where: KeyPath = ("hardware", "schedule")
    try:
        schedule = read_schedule(value)
    except ScheduleError as error:
        yield Problem((*where, *error.path), error.what, error.remedy)
    else:
        if not let_work(schedule.rules):
            yield Problem((*where, "hours"), "expected hours for work, found none", "add such as `22:00-06:00: run`")


def _script(script: object) -> Iterator[Problem]:
    from supervisor.sensors.drills import DRILLS

    where: KeyPath = ("hardware", "sensor_script")
    if script is None:
        return
    if not isinstance(script, str):
        yield Problem(where, "must be a text: a trace file or the name of a drill")
    elif not is_file_name(script) and script not in DRILLS:
        yield Problem(where, f"there is no drill {script}", nearest(script, sorted(DRILLS), "drills"))


def is_file_name(script: str) -> bool:
    """Tell whether a sensor script is a trace file; drills have plain names."""
    return "/" in script or "." in script


def _cell(cell: Cell) -> Iterator[Problem]:
    plan = cell.plan
    for name in plan.space:
        if name in plan.config:
            where = cell.origin(("space", name))
            yield Problem(where, f"{name} is also in config, so it cannot be sampled", "keep one of the two")
    yield from _enqueued(cell)
    yield from _finalisation(cell)
    yield from _resources(cell)
    if plan.trainable == "patchtst":
        yield from _patchtst(cell)
    else:
        for name, dimension in cell.plan.space.items():
            if isinstance(dimension, GridDimension):
                where = (*cell.origin(("space", name)), "type")
                yield Problem(where, "only trainable patchtst has a grid", "use int, float or categorical")


def _resources(cell: Cell) -> Iterator[Problem]:
    if cell.plan.resources.auto:
        for place, names in (("space", cell.plan.space), ("config", cell.plan.config)):
            if "threads" in names:
                where = cell.origin((place, "threads"))
                yield Problem(where, "resources: auto chooses the threads", "remove it, or set resources.cpu")


def _finalisation(cell: Cell) -> Iterator[Problem]:
    plan = cell.plan
    if plan.warm_start is not None and (plan.trainable != "patchtst" or "budget" not in plan.matrix):
        yield Problem(("warm_start",), "needs trainable patchtst and an axis budget", "remove it")
    if plan.finalize is not None and plan.trainable != "patchtst":
        for place, names in (("space", plan.space), ("config", plan.config)):
            if SEED in names:
                yield Problem(cell.origin((place, SEED)), f"finalize gives each trial its own {SEED}", f"rename {SEED}")


def _enqueued(cell: Cell) -> Iterator[Problem]:
    for index, params in enumerate(cell.plan.enqueue):
        for name, value in params.items():
            where = cell.origin(("enqueue", index, name))
            if name not in cell.plan.space:
                yield Problem(where, f"{name} is not in space", nearest(name, cell.plan.space, "parameters"))
                continue
            wrong = value_problem(cell.plan.space[name], value)
            if wrong:
                yield Problem(where, wrong, "take a value of the dimension, or leave it out to have it sampled")


def value_problem(dimension: Dimension, value: object) -> str | None:
    """Say why `value` is not one of `dimension`; None if it is. A grid's bounds are known later, per budget."""
    if isinstance(dimension, CategoricalDimension):
        known = any(value == choice and type(value) is type(choice) for choice in dimension.choices)
        return None if known else f"{value!r} is not one of {list(dimension.choices)}"
    if isinstance(value, Quantile):
        return None
    whole = isinstance(value, int) and not isinstance(value, bool)
    if not whole and not (isinstance(value, float) and isinstance(dimension, FloatDimension)):
        return f"{value!r} is not a {'number' if isinstance(dimension, FloatDimension) else 'whole number'}"
    if isinstance(dimension, GridDimension):
        return None
    assert isinstance(value, int | float)
    if not dimension.low <= value <= dimension.high:
        return f"{value} is outside {dimension.low} .. {dimension.high}"
    if isinstance(dimension, IntDimension) and (value - dimension.low) % dimension.step:
        return f"{value} is not a step of {dimension.step} from {dimension.low}"
    return None


def _patchtst(cell: Cell) -> Iterator[Problem]:
    from training.settings import KNOWN_KEYS

    if cell.plan.data is None:
        yield Problem(("data",), "trainable patchtst needs data", "add `data: {ticker: SPY, tier: a25}`")
    found = [*_patchtst_keys(cell, KNOWN_KEYS), *_grid_dimensions(cell)]
    yield from found
    if not found:
        yield from _patchtst_values(cell)


def _patchtst_keys(cell: Cell, known: frozenset[str]) -> Iterator[Problem]:
    places = [(("config", key), key) for key in cell.plan.config] + [(("space", key), key) for key in cell.plan.space]
    for path, key in places:
        where = cell.origin(path)
        if key in FILLED_IN:
            yield Problem(where, f"{key} cannot be set here: {FILLED_IN[key]}", "remove it")
        elif key not in known:
            yield Problem(where, "unknown key", nearest(key, sorted(known - set(FILLED_IN)), "keys"))


def _grid_dimensions(cell: Cell) -> Iterator[Problem]:
    for name, dimension in cell.plan.space.items():
        if isinstance(dimension, GridDimension) and dimension.axis != name:
            where = (*cell.origin(("space", name)), "axis")
            yield Problem(
                where, f"axis {dimension.axis} needs a parameter of that name", f"rename {name} to {dimension.axis}"
            )


def _patchtst_values(cell: Cell) -> Iterator[Problem]:
    """Check a trial at both ends of every dimension by the training room's own rules."""
    from training.data.tiers import TIERS, check_normalisation
    from training.errors import SettingsError
    from training.settings import TrialSettings

    tier = "" if cell.plan.data is None else cell.plan.data.tier
    ends = {name: _ends(dimension) for name, dimension in cell.plan.space.items()}
    filled = {"dataset": "any", "seed": 0, "max_epochs": cell.plan.max_epochs}
    base = {**cell.plan.config, **filled, **{name: values[0] for name, values in ends.items()}}
    trials = [(None, base)] + [(name, {**base, name: value}) for name, values in ends.items() for value in values[1:]]
    for sampled, trial in trials:
        try:
            settings = TrialSettings.from_config(trial)
            check_normalisation(settings.normalisation, TIERS.get(tier, ()), f"tier {tier}")
        except SettingsError as error:
            keys = str(error.key).split(".")
            place = "space" if keys[0] in cell.plan.space else "config"
            path: KeyPath = (place, *keys) if place == "config" else (place, keys[0])
            yield Problem(cell.origin(path), str(error), error.remedy)
            if sampled is None:
                return


def _ends(dimension: Dimension) -> list[Any]:
    if isinstance(dimension, CategoricalDimension):
        return list(dimension.choices)
    if isinstance(dimension, GridDimension):
        return [0]
    return [dimension.low, dimension.high]
