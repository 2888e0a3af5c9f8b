"""Compares the file of a run's plan with the run's own copy, and says what of it the run can take over."""

from __future__ import annotations

import copy
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

from supervisor.plan import set_values, yaml_reader
from supervisor.plan.drift import MAX_CHANGES, differences
from supervisor.plan.expansion import expand, fingerprint
from supervisor.plan.loader import LoadedPlan, load_plan, parse_plan
from supervisor.plan.matrix import cells
from supervisor.plan.patch import CHANGEABLE, FILE, FIXED, merged_policy, spec_changes
from supervisor.plan.schema import AUTO, Plan

NUMBERS = ("concurrency", "max_hours")
"""Keys that may be no number before a run has one."""
SCRIPT = "hardware.sensor_script"
SILENT = ("description",)
"""Keys that change nothing in a run."""


@dataclass(frozen=True)
class Comparison:
    """Holds the differences between a plan's file and the run's copy, such as "max_trials: 50 -> 60".

    `refused` names the keys that cannot change, with the reason. The rest is what the run takes over: `specs` the
    changed keys by experiment, `policy` the hardware policy, `schedule` the schedule, empty when there is none any
    more (None: each as it is), `text` its copy of the plan from then on. `fingerprint` is that of the file, None when
    the run cannot become like it.
    """

    changes: tuple[str, ...]
    refused: tuple[str, ...]
    specs: Mapping[str, Mapping[str, Any]]
    policy: Mapping[str, Any] | None
    text: str
    fingerprint: str | None
    schedule: Mapping[str, Any] | None = None


def compare(
    file: str, text: str, sets: Sequence[str], options: Sequence[str], policy: Mapping[str, Any],
    data: Mapping[str, Any], specs: Mapping[str, Mapping[str, Any]],
) -> Comparison:  # fmt: skip
    """Compare the plan `file` (a path, or a built-in plan's name) with a run's plan.

    The run has the copy `text`, changed by `sets` since; it was begun with `options`, works by the hardware `policy` on
    the dataset `data`, and has the `specs` of those of its experiments that have not ended. Raises PlanError when the
    file is no plan now.
    """
    before, loaded = parse_plan(text, FILE, sets=sets), load_plan(file, option_values(options, "--set"))
    old, new = _data(before), _data(loaded)
    refused = _refused(before.plan, loaded.plan, specs)
    merged = _merged(old, new, refused) if refused else new
    return Comparison(
        changes=tuple(differences(old, new)[:MAX_CHANGES]),
        refused=tuple(refused),
        specs=_changes(before.plan, loaded.plan, specs),
        policy=_policy(before.plan, loaded.plan, policy),
        text=set_values.as_text(merged, f"{file}, as the run took it over"),
        fingerprint=None if refused else _fingerprint(loaded, options, data),
        schedule=None if before.plan.schedule == loaded.plan.schedule else loaded.plan.schedule or {},
    )


def _data(loaded: LoadedPlan) -> dict[str, Any]:
    data = yaml_reader.parse(loaded.text, FILE).value
    assert isinstance(data, dict), "it is the text of a valid plan"
    return data


def option_values(options: Sequence[str], name: str) -> list[str]:
    """Return the values of an option in the words of a start command."""
    return [value for option, value in pairwise(options) if option == name]


def _refused(before: Plan, after: Plan, specs: Mapping[str, Any]) -> list[str]:
    """Return the keys that differ and cannot change, each with the reason, by the whole plans and by their cells."""
    fixed = [key for key in Plan.model_fields if key not in (*CHANGEABLE, *SILENT, "overrides")]
    found = [key for key in fixed if getattr(before, key) != getattr(after, key)]
    old, new = _cells(before), _cells(after)
    for name in specs:
        if name in old and name in new and "matrix" not in found:
            found += [key for key in fixed if getattr(old[name], key) != getattr(new[name], key)]
            found += [key for key in NUMBERS if _is_taken_away(old[name], new[name], key)]
    if before.sensor_script != after.sensor_script:
        found.append(SCRIPT)
    reasons = {**FIXED, "concurrency": "a number that runs cannot become auto", "max_hours": "a limit cannot be taken"
               " away", SCRIPT: "its watchdogs have opened it"}  # fmt: skip
    return [f"{key}: {reasons[key]}" for key in dict.fromkeys(found)]


def _cells(plan: Plan) -> dict[str, Plan]:
    return {cell.name: cell.plan for cell in cells(plan)}


def _is_taken_away(before: Plan, after: Plan, key: str) -> bool:
    """Return whether a number that a run works by is none any more."""
    now = getattr(after, key)
    return key in NUMBERS and getattr(before, key) != now and (now is None or now == AUTO)


def _changes(before: Plan, after: Plan, specs: Mapping[str, Mapping[str, Any]]) -> dict[str, dict[str, Any]]:
    """Return what of each experiment's spec changes."""
    old, new = _cells(before), _cells(after)
    found = {}
    for name, spec in specs.items():
        if name in old and name in new:
            keys = [
                key
                for key in CHANGEABLE
                if getattr(old[name], key) != getattr(new[name], key) and not _is_taken_away(old[name], new[name], key)
            ]
            found[name] = spec_changes(new[name], keys, spec)
    return {name: changes for name, changes in found.items() if changes}


def _policy(before: Plan, after: Plan, policy: Mapping[str, Any]) -> dict[str, Any] | None:
    if before.policy == after.policy:
        return None
    # What the plan does not say stays, such as the room for its checkpoints.
    own = {key: value for key, value in policy.items() if key not in before.policy}
    return merged_policy({**own, **after.policy})


def _merged(old: dict[str, Any], new: dict[str, Any], refused: Sequence[str]) -> dict[str, Any]:
    """Return the run's copy from now on: with the file's values of the keys that can change."""
    merged, kept = copy.deepcopy(old), {why.partition(":")[0] for why in refused}
    for key in (*CHANGEABLE, *SILENT):
        if key in kept:
            continue
        merged.pop(key, None)
        if key in new:
            merged[key] = new[key]
    if SCRIPT in kept:
        script = (old.get("hardware") or {}).get("sensor_script")
        merged["hardware"] = {**(new.get("hardware") or {}), "sensor_script": script}
    return merged


def _fingerprint(loaded: LoadedPlan, options: Sequence[str], data: Mapping[str, Any]) -> str:
    """Return the fingerprint with which the next start of the file finds the run."""
    only, hours = option_values(options, "--only"), option_values(options, "--hours")
    specs = expand(
        loaded.plan,
        num_features=data.get("num_features"),
        dataset=data.get("path"),
        only=only[-1] if only else None,
        globs=option_values(options, "--experiments"),
        hours=float(hours[-1]) if hours else None,
    )
    return fingerprint(loaded.plan, specs, data.get("sha256"))
