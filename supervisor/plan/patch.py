"""Checks a person's changes to the plan of a run as a plan is checked, and resolves them for its experiments. Pure.

A run's plan is its frozen copy plus these changes. What decides the results so far is refused by name.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.errors import PlanError
from supervisor.plan import set_values, yaml_reader
from supervisor.plan.dimensions import FloatDimension
from supervisor.plan.expansion import ExperimentSpec, finalize_of
from supervisor.plan.loader import parse_plan
from supervisor.plan.matrix import cells
from supervisor.plan.problem import nearest
from supervisor.plan.schema import AUTO, Plan, Stop
from supervisor.plan.validation import value_problem

FILE = "the run's plan"
CHANGEABLE = ("concurrency", "max_trials", "max_hours", "max_failures", "checkpoint_every_s", "stop", "hardware")
_RESULTS = "its results so far could not be compared with those to come"
_BEGIN = "it is read when a run begins"
FIXED = {
    **dict.fromkeys(
        ("trainable", "metric", "metric_at", "mode", "config", "space", "data", "seed", "max_epochs", "pruner",
         "sampler", "duplicates", "finalize", "resources"), _RESULTS,
    ),
    "name": "the run's log and folders have it",
    "description": _BEGIN,
    "matrix": "it decides which experiments the run has; `supervisorctl skip` leaves one out",
    "overrides": "name the experiments instead: `supervisorctl set EXPERIMENT ... KEY=VALUE`",
    "hours": "set the max_hours of experiments instead",
    "enqueue": "`supervisorctl enqueue EXPERIMENT '{...}'` adds a point",
    "warm_start": _BEGIN,
    "wake_lock": _BEGIN,
    "pass_environment": _BEGIN,
}  # fmt: skip
"""The keys of a plan that cannot change in a run, and why."""
SCHEDULE = "hardware.schedule"
NEW_RUN = "`supervisord start PLAN --new --set ...` begins another run"


@dataclass(frozen=True)
class Patch:
    """Holds changes of a plan: `specs` are the changed keys of each experiment's spec.

    `policy` is the whole hardware policy from now on, `schedule` the whole schedule, empty without one; each is None
    when it does not change.
    """

    sets: tuple[str, ...]
    specs: Mapping[str, Mapping[str, Any]]
    policy: Mapping[str, Any] | None = None
    schedule: Mapping[str, Any] | None = None


def patch(
    plan_text: str,
    earlier: Sequence[str],
    sets: Sequence[str],
    specs: Mapping[str, Mapping[str, Any]],
    policy: Mapping[str, Any],
) -> Patch:
    """Return what `sets` (KEY=VALUE each) change in a run.

    `plan_text` is its frozen plan, `earlier` are the changes since, oldest first; `specs` (by experiment, those that
    are to change) and the hardware `policy` are as they are now. Raises PlanError for a key that cannot change, and
    as a plan does.
    """
    keys = [_key(text) for text in sets]
    plan = parse_plan(plan_text, FILE, sets=[*earlier, *sets]).plan
    cell_of = {cell.name: cell.plan for cell in cells(plan)}
    parts = _stop_parts(sets)
    changed = {
        name: _with_own_stop(spec_changes(cell_of[name], keys, spec), spec, parts)
        for name, spec in specs.items() if name in cell_of
    }  # fmt: skip
    own = [key.partition(".")[2] for key in keys if key.startswith("hardware.") and key != SCHEDULE]
    return Patch(
        tuple(sets),
        {name: changes for name, changes in changed.items() if changes},
        merged_policy({**policy, **{key: plan.policy[key] for key in own}}) if own else None,
        (plan.schedule or {}) if SCHEDULE in keys else None,
    )


def _stop_parts(sets: Sequence[str]) -> list[str]:
    """Return the parts of `stop` that are set alone; none where the whole is set."""
    paths = [path for path in (set_values.parse_set(text)[0] for text in sets) if path[0] == "stop"]
    return [] if any(len(path) < 2 for path in paths) else [str(path[1]) for path in paths]


def _with_own_stop(changes: dict[str, Any], spec: Mapping[str, Any], parts: Sequence[str]) -> dict[str, Any]:
    """Return the changes with what the experiment's own `stop` says in the parts that are not set."""
    own, new = spec.get("stop"), changes.get("stop")
    if not parts or own is None or new is None:
        return changes
    stop = Stop.model_validate({**own, **{part: new[part] for part in parts}}).model_dump(mode="json")
    return {key: value for key, value in {**changes, "stop": stop}.items() if key != "stop" or value != own}


def merged_policy(merged: dict[str, Any]) -> dict[str, Any]:
    """Return a hardware policy. Raises PlanError for one whose parts do not fit together."""
    from supervisor.governor.policy import Policy

    try:
        Policy.from_mapping(merged)
    except ValueError as error:
        raise PlanError(f"hardware.{error}", key="hardware") from error
    return merged


def point_of(spec: Mapping[str, Any], text: str) -> dict[str, Any]:
    """Return the point that `text` ({PARAMETER: VALUE, ...}) names in the space of an experiment.

    Parameters that it leaves out are sampled. Raises PlanError for a text or a value that does not fit.
    """
    given = yaml_reader.parse(text, "the point").value
    if not isinstance(given, dict) or not given:
        raise PlanError(f"expected {{PARAMETER: VALUE, ...}}, found {text!r:.60}",
                        remedy="write such as '{learning_rate: 0.001}'")  # fmt: skip
    space = ExperimentSpec.model_validate(spec).space
    for name, value in given.items():
        if name not in space:
            raise PlanError(f"{name} is not in the space of {spec['name']}", key=str(name),
                            remedy=nearest(name, space, "parameters"))  # fmt: skip
        wrong = value_problem(space[name], value)
        if wrong is not None:
            raise PlanError(f"{name}: {wrong}", key=name, remedy="take a value of its dimension, or leave it out")
    return {
        name: float(value) if isinstance(space[name], FloatDimension) and isinstance(value, int) else value
        for name, value in given.items()
    }


def _key(text: str) -> str:
    """Return the key of a change: with its second part for hardware. Raises PlanError for one that cannot change."""
    path, value = set_values.parse_set(text)
    key = str(path[0])
    if key in FIXED:
        raise PlanError(f"{key} cannot change in a run: {FIXED[key]}", key=key, remedy=NEW_RUN)
    if key not in CHANGEABLE:
        raise PlanError(f"{key} is no key of a plan", key=key, remedy=nearest(key, CHANGEABLE, "keys that can change"))
    if key == "hardware":
        return _hardware_key(path)
    if key == "stop":
        return key
    if len(path) > 1:
        raise PlanError(f"{text}: {key} is a single value", key=key, remedy=f"set {key} itself")
    if value == AUTO or value is None:
        raise PlanError(f"{text}: expected a number, found {value!r}", key=key, remedy="give a number")
    return key


def _hardware_key(path: Sequence[str | int]) -> str:
    if len(path) < 2:
        raise PlanError("hardware: expected one of its keys, found the whole", key="hardware",
                        remedy="write such as hardware.release_after_s=300")  # fmt: skip
    if path[1] == "sensor_script":
        raise PlanError("hardware.sensor_script cannot change in a run: its watchdogs have opened it", key="hardware",
                        remedy="`supervisorctl drill NAME` plays a fault on the live run")  # fmt: skip
    return f"hardware.{path[1]}"


def spec_changes(plan: Plan, keys: Collection[str], spec: Mapping[str, Any]) -> dict[str, Any]:
    """Return the keys of an experiment's spec that change, with their new values."""
    changes: dict[str, Any] = {
        key: getattr(plan, key) for key in ("max_hours", "max_failures", "checkpoint_every_s") if key in keys
    }
    if "stop" in keys:
        changes["stop"] = None if plan.stop is None else plan.stop.model_dump(mode="json")
    if "max_trials" in keys:
        finalize = finalize_of(plan)
        changes["max_trials"] = plan.max_trials
        changes["finalize"] = None if finalize is None else finalize.model_dump(mode="json")
        changes["concurrency"] = min(int(spec["concurrency"]), plan.max_trials)
    if "concurrency" in keys and isinstance(plan.concurrency, int):
        changes["concurrency"] = min(plan.concurrency, int(changes.get("max_trials", spec["max_trials"])))
        if spec.get("auto_concurrency"):
            changes["auto_concurrency"] = False
    return {key: value for key, value in changes.items() if spec.get(key) != value}
