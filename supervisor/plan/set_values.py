"""Applies `--set KEY=VALUE` to a plan's data before it is validated, so that the same checks apply. Pure.

A set key also wins over the plan's overrides: `--set max_epochs=1` changes every experiment.
"""

from __future__ import annotations

import copy
import json
import re
from collections.abc import Sequence
from typing import Any

from supervisor.errors import PlanError
from supervisor.plan import yaml_reader
from supervisor.plan.matrix import MERGED
from supervisor.plan.schema import AUTO
from supervisor.plan.yaml_reader import KeyPath, Value

MAX_SETS = 200
_NOT_IN_YAML = re.compile("[\x7f-\x9f\u2028\u2029\ufeff\ufffe\uffff]")
_MERGED = (*MERGED, "resources")


def parse_set(text: str) -> tuple[KeyPath, Value]:
    """Split `text`, such as `config.context=60`, into its path and its YAML value. Raises PlanError."""
    key, equals, value = text.partition("=")
    parts = key.strip().split(".")
    if not equals or not all(parts):
        raise PlanError(f"--set {text}: not KEY=VALUE", key=key.strip() or None, remedy="write such as max_trials=2")
    path = tuple(int(part) if part.isascii() and part.isdecimal() and len(part) < 4 else part for part in parts)
    return path, yaml_reader.parse(value, f"--set {key.strip()}").value


def apply(data: dict[str, Any], sets: Sequence[str]) -> tuple[dict[str, Any], dict[KeyPath, str]]:
    """Return a changed copy of `data`, and the argument of each path that was set. Raises PlanError."""
    if len(sets) > MAX_SETS:
        raise PlanError(f"{len(sets)} --set arguments, at most {MAX_SETS}", remedy="write a plan file of your own")
    changed = copy.deepcopy(data)
    origins: dict[KeyPath, str] = {}
    for text in sets:
        path, value = parse_set(text)
        path = _put(changed, path, value, text)
        origins[path] = f"--set {text}"
        if path[0] != "overrides":
            _drop_from_overrides(changed, path)
    if any(path[0] == "matrix" for path in origins):
        _drop_dead_overrides(changed)
        _drop_dead_hours(changed)
    return changed, origins


def as_text(data: dict[str, Any], header: str) -> str:
    """Write `data` as a plan text that parses to exactly `data`. JSON is YAML once a few characters are escaped."""
    text = json.dumps(data, indent=2, ensure_ascii=False, allow_nan=False)
    escaped = _NOT_IN_YAML.sub(lambda found: f"\\U{ord(found[0]):08x}", text)
    return f"# {ascii(header)[1:-1]}\n{escaped}\n"


def _put(data: dict[str, Any], path: KeyPath, value: Value, text: str) -> KeyPath:
    """Put `value` at `path`, creating missing mappings. Returns the path with each part of its right type."""
    at: Any = data
    real: KeyPath = ()
    for index, part in enumerate(path):
        key = _key(at, part, real, text)
        real = (*real, key)
        if index == len(path) - 1:
            at[key] = value
        elif isinstance(at, dict) and at.get(key) is None:
            at[key] = {}
        elif isinstance(at, dict) and key == "resources" and at[key] == AUTO:
            at[key] = {AUTO: True}
        at = at[key]
    return real


def _key(at: object, part: str | int, path: KeyPath, text: str) -> str | int:
    where = yaml_reader.dotted(path)
    if isinstance(at, dict):
        return str(part)
    if not isinstance(at, list):
        raise PlanError(f"--set {text}: {where} is a single value", key=where, remedy=f"set {where} itself")
    if not isinstance(part, int) or part >= len(at):
        remedy = f"its items are 0 to {len(at) - 1}" if at else f"set {where} itself: it is empty"
        raise PlanError(f"--set {text}: {where} has no item {part}", key=where, remedy=remedy)
    return part


def _overrides(data: dict[str, Any]) -> list[dict[str, Any]]:
    """Return the overrides that are mappings; the validation reports the others."""
    found = data.get("overrides")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def _drop_from_overrides(data: dict[str, Any], path: KeyPath) -> None:
    keys = path[:2] if path[0] in _MERGED else path[:1]
    for override in _overrides(data):
        at = override.get("set")
        for key in keys[:-1]:
            at = at.get(key) if isinstance(at, dict) else None
        if isinstance(at, dict):
            at.pop(str(keys[-1]), None)
    if path[0] == "resources" and (len(path) == 1 or path[1] in ("cpu", AUTO)):
        _drop_auto(data)
    _drop_where(
        data, lambda override: isinstance(kept := override.get("set"), dict) and all(v == {} for v in kept.values())
    )


def _drop_auto(data: dict[str, Any]) -> None:
    """Drop `auto` from the resources of overrides: it would win over a number of cores."""
    for override in _overrides(data):
        at = override.get("set")
        found = at.get("resources") if isinstance(at, dict) else None
        if isinstance(found, dict):
            found.pop("auto", None)
        elif isinstance(at, dict) and found == AUTO:
            del at["resources"]


def _drop_dead_overrides(data: dict[str, Any]) -> None:
    """Drop overrides whose values `--set matrix.AXIS=...` took out of the matrix."""
    matrix = data.get("matrix")
    for override in _overrides(data):
        when = override.get("when")
        if not isinstance(when, dict) or not isinstance(matrix, dict):
            continue
        for axis, wanted in when.items():
            values = matrix.get(axis)
            if isinstance(values, list):
                chosen = wanted if isinstance(wanted, list) else [wanted]
                when[axis] = [value for value in chosen if value in values]
    _drop_where(data, lambda override: isinstance(when := override.get("when"), dict) and [] in when.values())


def _drop_dead_hours(data: dict[str, Any]) -> None:
    """Drop the hours of values that `--set matrix.AXIS=...` took out of the matrix."""
    matrix, hours = data.get("matrix"), data.get("hours")
    if not isinstance(matrix, dict) or not isinstance(hours, dict):
        return
    for axis, by_value in hours.items():
        values = matrix.get(axis)
        if isinstance(values, list) and isinstance(by_value, dict):
            known = {str(value) for value in values}
            hours[axis] = {value: given for value, given in by_value.items() if str(value) in known}
    if {} in hours.values():
        del data["hours"]


def _drop_where(data: dict[str, Any], dead: Any) -> None:
    if isinstance(data.get("overrides"), list):
        data["overrides"] = [item for item in data["overrides"] if not (isinstance(item, dict) and dead(item))]
