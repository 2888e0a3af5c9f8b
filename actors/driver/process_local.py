"""Objects of which a process has one, and which Ray may pickle.

Tune pickles its whole configuration when a Tuner is built. A pipe, a lock or a thread cannot be pickled; here only the
class is, and unpickling returns the object of that class in the process.
"""

from __future__ import annotations

from typing import Any, TypeVar

_CURRENT: dict[type, Any] = {}
_Kind = TypeVar("_Kind")


def current(kind: type[_Kind]) -> _Kind:
    """Return this process's object of that class. Raises LookupError if there is none."""
    try:
        found: _Kind = _CURRENT[kind]
    except KeyError:
        raise LookupError(f"expected a {kind.__name__} in this process, found none: only a driver makes one") from None
    return found


class PerProcess:
    """Base class; call `super().__init__()`. A later object of a class replaces the earlier one."""

    def __init__(self) -> None:
        _CURRENT[type(self)] = self

    def __reduce__(self) -> tuple[Any, tuple[type]]:
        return current, (type(self),)
