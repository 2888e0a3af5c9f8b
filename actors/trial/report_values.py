"""Makes a trial's report plain: numbers, texts, true, false and None under flat names. Pure.

It runs in the trial's own worker: whatever a user's code reports, driver and daemon see values that JSON takes.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice
from typing import Any

from actors.trial.result_keys import LEFT_OUT, RESERVED, SECONDS, STEP

MAX_VALUES = 500
MAX_VISITED = 10_000
MAX_DEPTH = 20
MAX_NAME_CHARACTERS = 200
MAX_TEXT_CHARACTERS = 1_000
MAX_LEFT_OUT = 20
LARGEST_WHOLE = 2**63
"""JSON writers of 64 bits refuse larger ones; they become floats."""

Plain = bool | int | float | str | None


@dataclass
class Report:
    """The values of a report that are kept, and a description of those that are not, by name."""

    values: dict[str, Plain] = field(default_factory=dict)
    left_out: dict[str, str] = field(default_factory=dict)

    def leave_out(self, name: str, what: str) -> None:
        if len(self.left_out) < MAX_LEFT_OUT:
            self.left_out[name] = what


class _NotPlainError(Exception):
    """A value is neither a number nor a text; the message says what it is."""


def plain(report: object, metric: str, reserved: frozenset[str] = frozenset()) -> Report:
    """Return the report with plain values; names of nested dictionaries are joined by "/".

    `metric` is looked for first, so it is never cut off; names in `reserved` are left out. Raises TypeError for
    anything but a dictionary.
    """
    if not isinstance(report, Mapping):
        raise TypeError(f"expected a report as a dictionary of names and values, found {described(report)}")
    made = Report()
    wanted = [(metric, value) for value in _at(report, metric)]
    leaves = islice(_leaves(report), MAX_VISITED + 1)
    for count, (name, value) in enumerate([*wanted, *leaves]):
        if name in made.values or name in made.left_out:
            continue
        if count > MAX_VISITED or len(made.values) >= MAX_VALUES:
            made.leave_out("...", f"a report has at most {MAX_VALUES} values; this and the rest are left out: {name}")
            break
        if name in reserved:
            made.leave_out(name, "a name that Ray Tune fills in itself")
            continue
        try:
            made.values[name] = _plain(value)
        except _NotPlainError as odd:
            made.leave_out(name, str(odd))
    return made


def as_result(report: object, metric: str) -> dict[str, Any]:
    """Return a user's report as a result for Tune. Raises TypeError unless it is a dictionary."""
    made = plain(report, metric, RESERVED)
    result: dict[str, Any] = dict(made.values)
    step, seconds = result.pop(STEP, None), result.pop(SECONDS, None)
    if isinstance(step, int):
        result[STEP] = int(step)
    if isinstance(seconds, int | float) and math.isfinite(seconds):
        result[SECONDS] = float(seconds)
    result["done"] = result.get("done") in (True, 1)
    if made.left_out:
        # Pairs: Tune would flatten a dictionary.
        result[LEFT_OUT] = tuple(made.left_out.items())
    return result


def _at(report: Mapping[Any, Any], name: str) -> Iterator[Any]:
    """Yield the value at a name joined by "/", if there is one."""
    if name in report:
        yield report[name]
        return
    first, slash, rest = name.partition("/")
    inner = report.get(first) if slash else None
    if isinstance(inner, Mapping):
        yield from _at(inner, rest)


def _leaves(report: Mapping[Any, Any], prefix: str = "", depth: int = 1) -> Iterator[tuple[str, Any]]:
    for key, value in report.items():
        name = _cut(f"{prefix}{_name(key)}", MAX_NAME_CHARACTERS)
        if isinstance(value, Mapping) and depth < MAX_DEPTH:
            yield from _leaves(value, f"{name}/", depth + 1)
        else:
            yield name, value


def _name(key: object) -> str:
    try:
        return str(key)
    except Exception:  # noqa: BLE001 - of a user's own class
        return f"<{type(key).__name__}>"


def _cut(text: str, limit: int) -> str:
    return text if len(text) <= limit else f"{text[: limit - 3]}..."


def _plain(value: object) -> Plain:
    """Return a value as a plain one. Raises _NotPlainError."""
    made = _builtin(value)
    if made is not _ODD:
        return made  # type: ignore[return-value]
    try:
        # Of numpy and torch: a number, or an array with one element.
        item = getattr(value, "item", None)
        if callable(item):
            made = _builtin(item())
        elif hasattr(type(value), "__float__"):
            made = float(value)  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - of a user's own class; an array with several elements raises too
        made = _ODD
    if made is _ODD:
        raise _NotPlainError(described(value))
    return made  # type: ignore[return-value]


_ODD = object()


def _builtin(value: object) -> object:
    """Return a value of a built-in type, or of a class derived from one, as that type; _ODD for all others."""
    if value is None or isinstance(value, bool):
        return value
    # The types' own methods: a class derived from one may override the usual ones.
    if isinstance(value, str):
        return _cut(str.__str__(value), MAX_TEXT_CHARACTERS)
    if isinstance(value, float):
        return float.__float__(value)
    if isinstance(value, int):
        whole = int.__int__(value)
        return whole if -LARGEST_WHOLE <= whole < LARGEST_WHOLE else _as_float(whole)
    return _ODD


def _as_float(whole: int) -> float:
    try:
        return float(whole)
    except OverflowError:
        return math.inf if whole > 0 else -math.inf


def described(value: object) -> str:
    """Say what a value is, in a few words."""
    if value is None:
        return "None"
    if isinstance(value, str):
        return f"the text {_cut(str.__str__(value), 60)!r}"
    if isinstance(value, bool):
        return "true" if value else "false"
    kind = type(value)
    name = kind.__name__ if kind.__module__ == "builtins" else f"{kind.__module__}.{kind.__qualname__}"
    return _cut(f"a value of type {name}{_extent(value)}", 200)


def _extent(value: object) -> str:
    try:
        shape = getattr(value, "shape", None)
        if isinstance(shape, tuple):
            return f" with shape {tuple(int(size) for size in shape)}"
        return f" with {len(value)} entries"  # type: ignore[arg-type]
    except Exception:  # noqa: BLE001 - it has no extent, or a user's own class does not tell it
        return ""
