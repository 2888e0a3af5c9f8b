"""Reads a small, safe part of YAML and remembers the line of every value.

The scalar rules are those of YAML 1.2's core schema (yaml.org/spec/1.2.2, section 10.3.2) and not PyYAML's 1.1:
`1e-4` is a float, `on`, `yes` and `60:30` are texts, `010` is ten. Tags, anchors, aliases and a second document are
refused, so a plan can neither make objects nor unfold into gigabytes.
"""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from dataclasses import dataclass, field

import yaml

from supervisor.errors import PlanError

Scalar = str | int | float | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
Path = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024
"""A plan is a page or two; one of 1 MiB takes PyYAML seconds to scan."""
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_KEY_LENGTH = 200
MAX_NUMBER_LENGTH = 40
"""Signs in a number; Python's int() refuses thousands of digits, and JSON readers far fewer."""

_NULL = re.compile(r"(?:~|null|Null|NULL|)\Z")
_TRUE = re.compile(r"(?:true|True|TRUE)\Z")
_FALSE = re.compile(r"(?:false|False|FALSE)\Z")
_INT = re.compile(r"[-+]?[0-9]+\Z", re.ASCII)
_HEX_OR_OCTAL = re.compile(r"0(?:o[0-7]+|x[0-9a-fA-F]+)\Z")
_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z", re.ASCII)
_NOT_FINITE = re.compile(r"(?:[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z")


@dataclass(frozen=True)
class Document:
    """A parsed text: its value, and the 1-based line of each value by its path from the root."""

    value: Value
    lines: dict[Path, int] = field(default_factory=dict)

    def line_of(self, path: Path) -> int | None:
        """The line of `path`, or of the nearest thing around it."""
        for length in range(len(path), -1, -1):
            if path[:length] in self.lines:
                return self.lines[path[:length]]
        return None


def dotted(path: Path) -> str:
    return ".".join(str(part) for part in path)


def parse(text: str, file: str) -> Document:
    """The one document in `text`. Raises PlanError that names `file`, the line and the key."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PlanError(f"the file is larger than {MAX_BYTES:,} bytes", file=file, remedy="a plan is a page of YAML")
    reader = _Reader(text, file)
    try:
        return reader.document()
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = ", ".join(part for part in (error.problem, error.context) if part)
        raise PlanError(f"not YAML: {what}", file=file, line=mark.line + 1 if mark else None) from error
    except yaml.reader.ReaderError as error:
        raise PlanError(f"not a text file: {error.reason} at position {error.position}", file=file) from error
    except (yaml.YAMLError, ValueError, OverflowError) as error:  # ValueError: an escape beyond Unicode
        raise PlanError(f"not YAML: {error}", file=file) from error


def scalar(text: str) -> Scalar:
    """What an unquoted `text` means. Raises ValueError for numbers that are not finite or absurdly long."""
    if _NULL.match(text):
        return None
    if _TRUE.match(text):
        return True
    if _FALSE.match(text):
        return False
    return _number(text)


def _number(text: str) -> int | float | str:
    if _NOT_FINITE.match(text):
        raise ValueError(f"{text} is not a finite number")
    whole, based, real = _INT.match(text), _HEX_OR_OCTAL.match(text), _FLOAT.match(text)
    if not (whole or based or real):
        return text
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of {len(text)} digits is too long")
    if whole:
        return int(text)
    if based:
        return int(text[2:], 8 if text[1] == "o" else 16)
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


def _line(event: yaml.Event) -> int:
    return event.start_mark.line + 1 if event.start_mark else 1


class _Reader:
    """One pass over PyYAML's events. It recurses at most MAX_DEPTH deep."""

    def __init__(self, text: str, file: str) -> None:
        self._file = file
        self._events: Iterator[yaml.Event] = iter(yaml.parse(text, Loader=yaml.SafeLoader))
        self._lines: dict[Path, int] = {}
        self._nodes = 0

    def document(self) -> Document:
        value: Value = None
        documents = 0
        for event in self._events:
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    raise self._error("a second document begins here", (), event, "one file holds one plan")
                value = self._value(next(self._events), ())
        return Document(value, self._lines)

    def _value(self, event: yaml.Event, path: Path) -> Value:
        self._check(event, path)
        self._lines[path] = _line(event)
        if isinstance(event, yaml.ScalarEvent):
            return self._scalar(event, path)
        if isinstance(event, yaml.SequenceStartEvent):
            return self._sequence(path)
        return self._mapping(path)

    def _check(self, event: yaml.Event, path: Path) -> None:
        self._nodes += 1
        if self._nodes > MAX_NODES:
            raise self._error(f"more than {MAX_NODES:,} values", path, event, "a plan is a page of YAML")
        if len(path) > MAX_DEPTH:
            raise self._error(f"nested more than {MAX_DEPTH} deep", path[:3], event, "flatten it")
        if isinstance(event, yaml.AliasEvent) or getattr(event, "anchor", None) is not None:
            raise self._error("anchors (&) and aliases (*) are not allowed", path, event, "write the value out")
        tag = getattr(event, "tag", None)
        if tag is not None:
            raise self._error(f"tags such as {tag} are not allowed", path, event, "write a plain value")

    def _scalar(self, event: yaml.ScalarEvent, path: Path) -> Scalar:
        self._check_text(event, path)
        if event.style is not None:  # quoted or a block: always a text
            return str(event.value)
        try:
            return scalar(event.value)
        except ValueError as error:
            raise self._error(str(error), path, event, "write a finite number of usual length") from error

    def _sequence(self, path: Path) -> list[Value]:
        items: list[Value] = []
        for event in self._events:
            if isinstance(event, yaml.SequenceEndEvent):
                break
            items.append(self._value(event, (*path, len(items))))
        return items

    def _mapping(self, path: Path) -> dict[str, Value]:
        items: dict[str, Value] = {}
        for event in self._events:
            if isinstance(event, yaml.MappingEndEvent):
                break
            key = self._key(event, path)
            line = _line(event)
            if key in items:
                first = self._lines[(*path, key)]
                raise self._error(f"duplicate key {key!r}, first on line {first}", (*path, key), event, "keep one")
            items[key] = self._value(next(self._events), (*path, key))
            self._lines[(*path, key)] = line
        return items

    def _key(self, event: yaml.Event, path: Path) -> str:
        self._check(event, path)
        if not isinstance(event, yaml.ScalarEvent):
            raise self._error("a key must be a name", path, event, "write `name: value`")
        self._check_text(event, path)
        if len(event.value) > MAX_KEY_LENGTH:
            raise self._error(f"a key of {len(event.value)} characters is too long", path, event, "shorten it")
        return str(event.value)

    def _check_text(self, event: yaml.ScalarEvent, path: Path) -> None:
        # An escape such as "\ud800" or "\0" makes a text that neither UTF-8, JSON nor a file name can hold.
        if "\0" in event.value or any("\ud800" <= sign <= "\udfff" for sign in event.value):
            raise self._error("the text holds a sign that no file can", path, event, "remove the escape")

    def _error(self, what: str, path: Path, event: yaml.Event, remedy: str) -> PlanError:
        where = f"{dotted(path)}: " if path else ""
        line = _line(event)
        return PlanError(f"{where}{what}", file=self._file, line=line, key=dotted(path) or None, remedy=remedy)
