"""Says an event as a sentence for people, by the catalogue's text. Standard library only."""

from __future__ import annotations

from supervisor.formatting import counted, error_sentence, human, printable
from supervisor.store.event_catalog import kind_of

NODE_CHARACTERS = 8
"""The number of characters of a node's id (of 56) that a sentence shows."""


def describe(name: str, values: dict[str, object]) -> str:
    """Return the event as a sentence: a dash for an absent field, short floats and node ids, bytes with units."""
    shown = _Shown({key: _Value(_short(key, value)) for key, value in values.items()})
    return printable(kind_of(name).text.format_map(shown))


def _short(key: str, value: object) -> object:
    if value is None:
        return "-"
    if key == "error":
        # The event's own field has all of it.
        return error_sentence(str(value))
    if key == "node":
        return str(value)[:NODE_CHARACTERS]
    if isinstance(value, int | float) and (key == "bytes" or key.endswith("_bytes")):
        return human(value)
    if isinstance(value, dict):
        return ", ".join(f"{name} {item}" for name, item in value.items()) or "-"
    if isinstance(value, list):
        return ", ".join(map(str, value)) or "-"
    return f"{value:.6g}" if isinstance(value, float) else value


class _Value:
    """Fills in one field, and with a noun as its format the number of such things."""

    def __init__(self, value: object) -> None:
        self._text = str(value)

    def __format__(self, noun: str) -> str:
        return counted(self._text, noun) if noun else self._text


class _Shown(dict[str, _Value]):
    def __missing__(self, key: str) -> _Value:
        return _Value("-")
