"""Objects of which a process has one, and which Ray may pickle.

Tune pickles its whole configuration when a Tuner is built. A pipe, a lock or a thread cannot travel, and need not:
what is pickled here is the question "which one does this process have?".
"""

from __future__ import annotations

from typing import Any, TypeVar

_CURRENT: dict[type, Any] = {}
_Kind = TypeVar("_Kind")


def current(kind: type[_Kind]) -> _Kind:
    """This process's object of that class. Raises LookupError where there is none."""
    try:
        found: _Kind = _CURRENT[kind]
    except KeyError:
        raise LookupError(f"this process has no {kind.__name__}: only a driver makes one") from None
    return found


class PerProcess:
    """Inherit, call `super().__init__()`; a later object of the same class takes the place of the earlier."""

    def __init__(self) -> None:
        _CURRENT[type(self)] = self

    def __reduce__(self) -> tuple[Any, tuple[type]]:
        return current, (type(self),)
