"""Our words for what pydantic finds wrong with a plan: what it must be, in a sentence, and the cure."""

from __future__ import annotations

import re
from typing import Any

from supervisor.plan.validation import nearest

PLAIN = {
    "missing": "is missing",
    "string_type": "must be a text",
    "int_type": "must be a whole number",
    "int_from_float": "must be a whole number",
    "float_type": "must be a number",
    "finite_number": "must be a finite number",
    "bool_type": "must be true or false",
    "dict_type": "must be a mapping of keys to values",
    "model_type": "must be a mapping of keys to values",
    "model_attributes_type": "must be a mapping of keys to values",
    "tuple_type": "must be a list",
    "union_tag_not_found": "does not say which kind it is",
}
"""Kinds of error that need no more than a sentence."""

_BOUNDS = {
    "greater_than": "must be above {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than": "must be below {lt}",
    "less_than_equal": "must be at most {le}",
    "multiple_of": "must be a multiple of {multiple_of}",
    "string_too_short": "must not be empty",
    "string_too_long": "must have at most {max_length} characters",
    "too_long": "must have at most {max_length} entries",
}
_PATTERNED = {
    "name": (
        "must be 1 to 64 letters, digits, dots, _ or -, and begin with a letter or digit",
        "it becomes the name of a log and of folders: take one such as my-search",
    ),
    "trainable": (
        "must be patchtst, or MODULE:NAME of a function or class of your own",
        "such as `mine:train` for the function train in mine.py beside the plan",
    ),
    "ticker": ("must be 1 to 16 letters, digits, dots, ^, _ or -", "take one of `supervisord data list`"),
    "tier": ("must be small letters, digits, _ or +, such as a20 or a25", "take a20 or a25"),
}
"""What a pattern means, by the key that has one."""


def say(kind: str, context: dict[str, Any], key: object, given: object, fallback: str) -> tuple[str, str | None]:
    """What is wrong and the cure, for pydantic's error `kind` at `key`; `fallback` is its own sentence."""
    if kind in PLAIN:
        return PLAIN[kind], None
    if kind == "string_pattern_mismatch":
        return _PATTERNED.get(str(key), ("is not a usable name", "use letters, digits, dots, _ and -"))
    if kind == "too_short":
        least = int(context.get("min_length", 1))
        return ("must not be empty" if least == 1 else f"must have at least {least} entries"), "add an entry"
    if kind == "literal_error":
        valid = [word.strip(" '") for word in re.split(r",| or ", str(context["expected"]))]
        listed = " or ".join(part for part in (", ".join(valid[:-1]), valid[-1]) if part)
        return f"must be {listed}", nearest(given, valid, "values")
    if kind in _BOUNDS:
        return _BOUNDS[kind].format_map({name: _number(value) for name, value in context.items()}), None
    said = fallback.removeprefix("Value error, ")
    return said[:1].lower() + said[1:], None


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
