"""Read config values: one reader for each kind of value, each raising SettingsError. Standard library only."""

from __future__ import annotations

import difflib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import MISSING, fields
from typing import TypeVar, cast

from training.errors import SettingsError

Reader = Callable[[str, object], object]
"""Takes a key, for its error, and a value; returns the checked value."""
T = TypeVar("T")


def integer(low: int, high: int) -> Reader:
    def read(key: str, value: object) -> int:
        whole = isinstance(value, float) and value.is_integer()
        if isinstance(value, bool) or not (isinstance(value, int) or whole) or not low <= cast(int, value) <= high:
            raise SettingsError(key, value, "not a whole number in range", f"Give one from {low} to {high}.")
        return int(cast(int, value))

    return read


def number(low: float, high: float, *, low_open: bool = False) -> Reader:
    def read(key: str, value: object) -> float:
        if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
            raise SettingsError(key, value, "not a finite number", f"Give one from {low:g} to {high:g}.")
        if not low <= value <= high or (low_open and value == low):
            bound = "above" if low_open else "from"
            raise SettingsError(key, value, "out of range", f"Give one {bound} {low:g} up to {high:g}.")
        return float(value)

    return read


def choice(*allowed: str) -> Reader:
    def read(key: str, value: object) -> str:
        if not isinstance(value, str) or value not in allowed:
            raise SettingsError(key, value, "not a valid choice", f"Choose one of {', '.join(allowed)}.")
        return value

    return read


def integers(low: int, high: int) -> Reader:
    one = integer(low, high)

    def read(key: str, value: object) -> tuple[int, ...]:
        if isinstance(value, str) or not isinstance(value, Sequence) or not value:
            raise SettingsError(key, value, "not a list of whole numbers", f"List numbers from {low} to {high}.")
        numbers = tuple(cast(int, one(key, item)) for item in value)
        if len(set(numbers)) != len(numbers):
            raise SettingsError(key, value, "a number is listed twice", "List each once.")
        return tuple(sorted(numbers))

    return read


def powers_of_two(key: str, value: object) -> tuple[int, ...]:
    numbers = cast(tuple[int, ...], integers(1, 1024)(key, value))
    expected = tuple(numbers[0] << i for i in range(len(numbers)))
    if numbers[0] & (numbers[0] - 1) or numbers != expected:
        # heads_log2 is one ordinal with inclusive bounds: a gap would be a value without an architecture.
        raise SettingsError(key, value, "not neighbouring powers of two", "Write a list like [2, 4, 8, 16].")
    return numbers


def text(key: str, value: object) -> str:
    if not isinstance(value, str) or not value.strip():
        raise SettingsError(key, value, "not a text", "Write a string that is not empty.")
    return value


def boolean(key: str, value: object) -> bool:
    if not isinstance(value, bool):
        raise SettingsError(key, value, "not true or false", "Write true or false.")
    return value


def optional(reader: Reader) -> Reader:
    return lambda key, value: None if value is None else reader(key, value)


def nested(cls: type, readers: Mapping[str, Reader]) -> Reader:
    def read(key: str, value: object) -> object:
        if isinstance(value, cls):
            return value
        if not isinstance(value, Mapping):
            raise SettingsError(key, value, "not a mapping", "Write it as keys and values.")
        return section(cls, value, readers, f"{key}.")

    return read


def section(cls: type[T], config: Mapping[str, object], readers: Mapping[str, Reader], prefix: str) -> T:
    """Check each key of a section and build ``cls`` from it; ``prefix`` names the section in errors."""
    declared = {item.name: item for item in fields(cast(type, cls))}  # cast: fields() is typed for instances
    for key, value in config.items():
        if key not in readers:
            near = difflib.get_close_matches(str(key), readers, n=1)
            cure = f"Did you mean {prefix}{near[0]}?" if near else f"Known keys: {', '.join(sorted(readers))}."
            raise SettingsError(f"{prefix}{key}", value, "no such key", cure)
    for name, item in declared.items():
        if name not in config and item.default is MISSING and item.default_factory is MISSING:
            raise SettingsError(f"{prefix}{name}", None, "missing", "Give it in the plan.")
    return cls(**{key: readers[key](f"{prefix}{key}", value) for key, value in config.items()})
