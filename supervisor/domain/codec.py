"""Whether what was read as JSON fits the annotations of the dataclass that was made of it. Standard library only."""

from __future__ import annotations

import math
import types
from collections.abc import Mapping
from dataclasses import fields
from functools import cache
from typing import Any, get_args, get_origin, get_type_hints

_MAPPINGS = (dict, Mapping)
LARGEST = 2**63
"""The store's whole numbers have 64 bits."""


def check_fields(made: Any) -> None:
    """Raises TypeError, naming the first, unless each field of the dataclass instance `made` fits its annotation."""
    kind: type = type(made)
    hints = _hints(kind)
    for field in fields(made):
        check(field.name, getattr(made, field.name), hints[field.name])


def check(name: str, value: Any, hint: Any) -> None:
    """Raises TypeError for a value that is not what its annotation says."""
    if not fits(value, hint):
        raise TypeError(f"{name} is {value!r:.100}")


@cache
def _hints(kind: type) -> dict[str, Any]:
    return get_type_hints(kind)


def fits(value: Any, hint: Any) -> bool:
    """For plain types and classes, unions of them, lists, dicts, and tuples of one type or of a fixed length.

    A whole number is a float, too; true is no number; no float is infinite, and no whole number over 64 bits.
    """
    if isinstance(hint, types.UnionType):
        return any(fits(value, choice) for choice in get_args(hint))
    origin, arguments = get_origin(hint), get_args(hint)
    if origin is list:
        return isinstance(value, list) and all(fits(item, arguments[0]) for item in value)
    if origin is tuple:
        return isinstance(value, tuple) and _items_fit(value, arguments)
    if origin in _MAPPINGS:
        return isinstance(value, dict) and all(fits(item, arguments[1]) for item in value.values())
    if hint is Any:
        return True
    if hint is int or (hint is float and isinstance(value, int)):
        return isinstance(value, int) and not isinstance(value, bool) and -LARGEST <= value < LARGEST
    if hint is float:
        return isinstance(value, float) and math.isfinite(value)
    return isinstance(value, hint)


def _items_fit(value: tuple[Any, ...], arguments: tuple[Any, ...]) -> bool:
    if arguments[1:] == (Ellipsis,):
        return all(fits(item, arguments[0]) for item in value)
    return len(value) == len(arguments) and all(map(fits, value, arguments))
