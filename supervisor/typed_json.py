"""Converts between dataclasses and JSON values, by the dataclasses' annotations. Standard library only."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import MISSING, fields, is_dataclass
from enum import Enum, IntEnum
from functools import cache
from typing import Any, Self, TypeVar, get_args, get_origin, get_type_hints

LARGEST = 2**63
"""The store's whole numbers have 64 bits."""

T = TypeVar("T")


class Record:
    """Gives a dataclass `to_json` and `from_json`."""

    def to_json(self) -> dict[str, Any]:
        """Return the fields as JSON values."""
        return {field.name: to_json(getattr(self, field.name)) for field in fields(self)}  # type: ignore[arg-type]

    @classmethod
    def from_json(cls, body: Any) -> Self:
        """Return the instance that `to_json` described. Raises ValueError, naming the first field that does not fit."""
        return from_json(cls, body)


def to_json(value: Any) -> Any:
    """Return `value` as JSON knows it: a dataclass as an object, an enum by its value, an IntEnum by its name."""
    if is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in fields(value)}
    if isinstance(value, Enum):
        return value.name if isinstance(value, IntEnum) else value.value
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, Mapping):
        return {key: to_json(item) for key, item in value.items()}
    return value


def from_json(kind: type[T], body: Any) -> T:
    """Return the dataclass `kind` of a JSON object. Raises ValueError, naming the first field that does not fit."""
    if not isinstance(body, Mapping):
        raise ValueError(f"expected the fields of a {kind.__name__}, found {body!r:.100}")  # noqa: TRY004 - one error
    hints, known = _hints(kind), fields(kind)  # type: ignore[arg-type]
    if unknown := sorted(map(str, body.keys() - {field.name for field in known})):
        raise ValueError(f"a {kind.__name__} has no field {unknown[0]}")
    found = {}
    for field in known:
        if field.name in body:
            found[field.name] = read(body[field.name], hints[field.name], f"{kind.__name__}.{field.name}")
        elif field.default is MISSING and field.default_factory is MISSING:
            raise ValueError(f"a {kind.__name__} needs the field {field.name}")
    return kind(**found)


def read(value: Any, hint: Any, name: str) -> Any:
    """Return a JSON value as its annotation says. Raises ValueError, with `name`, for a value that does not fit.

    A whole number is a float, too; true is no number; no float is infinite, and no whole number is over 64 bits.
    """
    if hint is Any:
        return value
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is types.UnionType:
        return _read_first(value, arguments, name)
    if origin in (list, tuple) and isinstance(value, list | tuple):
        return origin(_read_items(value, arguments, name, of_one_type=origin is list or arguments[1:] == (Ellipsis,)))
    if origin in (dict, Mapping) and isinstance(value, dict):
        return {key: read(item, arguments[1], name) for key, item in value.items()}
    if origin is None and isinstance(hint, type):
        return _read_plain(value, hint, name)
    raise ValueError(f"{name}: expected {hint}, found {value!r:.100}")


def _read_first(value: Any, choices: tuple[Any, ...], name: str) -> Any:
    for choice in choices:
        try:
            return read(value, choice, name)
        except ValueError:
            continue
    raise ValueError(f"{name}: expected {' or '.join(_name(choice) for choice in choices)}, found {value!r:.100}")


def _name(hint: Any) -> str:
    return "None" if hint is types.NoneType else getattr(hint, "__name__", str(hint))


def _read_items(value: Any, hints: tuple[Any, ...], name: str, *, of_one_type: bool) -> list[Any]:
    if not of_one_type and len(value) != len(hints):
        raise ValueError(f"{name}: expected {len(hints)} values, found {len(value)}")
    return [read(item, hints[0] if of_one_type else hints[place], name) for place, item in enumerate(value)]


def _read_plain(value: Any, hint: type, name: str) -> Any:
    if is_dataclass(hint):
        return from_json(hint, value)
    if issubclass(hint, Enum) and isinstance(value, str):
        if issubclass(hint, IntEnum):
            value = getattr(hint.__members__.get(value), "value", value)
        return hint(value)
    if hint in (int, float):
        if isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value < LARGEST:
            return hint(value)
        if hint is float and isinstance(value, float) and math.isfinite(value):
            return value
    elif isinstance(value, hint):
        return value
    raise ValueError(f"{name}: expected {hint.__name__}, found {value!r:.100}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)
