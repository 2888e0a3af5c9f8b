"""Writes the errors of a plan: file, line, key, problem and remedy."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from supervisor.errors import PlanError
from supervisor.plan.problem import Problem, nearest
from supervisor.plan.yaml_reader import Document, KeyPath, dotted

if TYPE_CHECKING:
    from pydantic_core import ErrorDetails

MAX_SHOWN = 5
"""The number of problems that one error shows."""

_PLAIN = {
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
    "union_tag_not_found": "has no key that tells its kind",
}
"""Pydantic's kinds of error that need no more than a sentence."""

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
"""The meaning of a pattern, by the key that has one."""


@dataclass(frozen=True)
class Source:
    """The origin of a plan's values: `file`, its `document`, and the `--set` argument of each path that was set."""

    file: str
    document: Document
    sets: dict[KeyPath, str]

    def place(self, path: KeyPath) -> tuple[str, int | None]:
        """Return the file and line of `path`, or the `--set` argument that gave it."""
        for changed, argument in self.sets.items():
            shorter = min(len(changed), len(path))
            if shorter and changed[:shorter] == path[:shorter]:
                return argument, None
        return self.file, self.document.line_of(path)


def plan_error(found: Iterable[Problem], source: Source) -> PlanError:
    """Make one error of several problems: the first in full, the next few as lines below it."""
    first, *rest = sorted(dict.fromkeys(found), key=lambda problem: source.place(problem.path)[1] or 0)
    more = [f"  also {_where(problem, source)}{_sentence(problem)}" for problem in rest[: MAX_SHOWN - 1]]
    if len(rest) >= MAX_SHOWN:
        more.append(f"  and {len(rest) - MAX_SHOWN + 1} more")
    file, line = source.place(first.path)
    message = "\n".join([_sentence(first), *more])
    return PlanError(message, file=file, line=line, key=dotted(first.path) or None, remedy=first.remedy)


def _where(problem: Problem, source: Source) -> str:
    file, line = source.place(problem.path)
    return f"{file}:{line}: " if line else f"{file}: "


def _sentence(problem: Problem) -> str:
    return f"{dotted(problem.path)}: {problem.what}" if problem.path else problem.what


def problem_of(detail: ErrorDetails, data: Any) -> Problem:
    """Put pydantic's error `detail` about `data` into our words."""
    kind, context = detail["type"], detail.get("ctx", {})
    path, given = _path(detail["loc"], data, keep_last=kind == "missing")
    if kind == "unknown_key":
        key = context["key"]
        return Problem((*path, key), "unknown key", nearest(key, context["valid"], "keys"))
    if kind == "union_tag_invalid":
        key = str(context["discriminator"]).strip("'")
        valid = [tag.strip(" '") for tag in str(context["expected_tags"]).split(",")]
        remedy: str | None = nearest(context["tag"], valid, f"values of {key}")
        return Problem((*path, key), f"no such {key} {context['tag']}", remedy)
    what, remedy = _what_and_remedy(detail, path[-1] if path else "", given)
    if detail["loc"][-1:] == ("[key]",):
        what, remedy = "is not a usable name", "use letters, digits and _, at most 64"
    silent = kind in ("missing", "too_short") or isinstance(given, dict | list) or given == ""
    return Problem(path, what if silent else f"{what}, not {_short(given)}", remedy)


def _path(location: tuple[int | str, ...], data: Any, *, keep_last: bool) -> tuple[KeyPath, Any]:
    """Return pydantic's `location` without the names of union members, and the value there."""
    path: KeyPath = ()
    at = data
    for part in location:
        try:
            at = at[part]
        except (KeyError, IndexError, TypeError):
            continue
        path = (*path, part)
    return ((*path, location[-1]) if keep_last else path), at


def _what_and_remedy(detail: ErrorDetails, key: object, given: object) -> tuple[str, str | None]:
    kind, context = detail["type"], detail.get("ctx", {})
    if kind in _PLAIN:
        remedy = "add the key " + str(context["discriminator"]).strip("'") if "discriminator" in context else None
        return _PLAIN[kind], remedy
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
    sentence = detail["msg"].removeprefix("Value error, ")
    return sentence[:1].lower() + sentence[1:], None


def _number(value: object) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)


def _short(value: object) -> str:
    text = json.dumps(value, ensure_ascii=False, default=repr)
    return text if len(text) <= 60 else f"{text[:57]}..."
