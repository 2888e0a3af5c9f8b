"""Reads a safe part of YAML 1.2 and keeps the line of every value.

Scalars follow the core schema (yaml.org/spec/1.2.2, section 10.3.2): `1e-4` is a float, `on`, `60:30` and dates are
texts, `010` is ten. Tags, anchors, aliases and a second document are refused, so a plan can neither create objects
nor expand into gigabytes.
"""

from __future__ import annotations

import math
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ruamel.yaml import YAML
from ruamel.yaml.composer import Composer, ComposerError
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.events import AliasEvent, Event, ScalarEvent
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode
from ruamel.yaml.reader import ReaderError

from supervisor.errors import PlanError

Scalar = str | int | float | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
KeyPath = tuple[str | int, ...]

MAX_BYTES = 1024 * 1024
"""A plan is a page or two; a file of 1 MiB takes seconds to scan."""
TOO_LARGE = "a plan is a page of YAML: remove everything else"
MAX_DEPTH = 20
MAX_NODES = 20_000
MAX_KEY_LENGTH = 200
MAX_NUMBER_LENGTH = 40
"""Characters in a number; Python's int() refuses thousands of digits, and JSON readers far fewer."""


@dataclass(frozen=True)
class Document:
    """A parsed text: its value, and the 1-based line of each value by its path from the root."""

    value: Value
    lines: dict[KeyPath, int]

    def line_of(self, path: KeyPath) -> int | None:
        """Return the line of `path`, or of the nearest value around it."""
        return next((self.lines[path[:n]] for n in range(len(path), -1, -1) if path[:n] in self.lines), None)


def dotted(path: KeyPath) -> str:
    """Join the parts of `path` by dots, as error messages show it."""
    return ".".join(str(part) for part in path)


def read(path: Path) -> bytes:
    """Return the content of `path`. Raises OSError, or PlanError for a file that is too large to be a plan."""
    with path.open("rb") as file:
        content = file.read(MAX_BYTES + 1)
    if len(content) > MAX_BYTES:
        raise PlanError(f"the file is larger than {MAX_BYTES:,} bytes", file=str(path), remedy=TOO_LARGE)
    return content


def parse(text: str, file: str) -> Document:
    """Parse the one document in `text`. Raises PlanError with `file`, the line and the key."""
    if len(text.encode("utf-8", "surrogatepass")) > MAX_BYTES:
        raise PlanError(f"the file is larger than {MAX_BYTES:,} bytes", file=file, remedy=TOO_LARGE)
    lines: dict[KeyPath, int] = {}
    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = partial(_StrictComposer, file=file, lines=lines)  # type: ignore[assignment]  # it only calls it
    try:
        return Document(_value(yaml.compose(text)), lines)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        what = "not YAML: " + ", ".join(part for part in (error.context, error.problem) if part)
        if isinstance(error, ComposerError):  # the composer below refuses everything else that could cause one
            what = "a second document begins here; one file holds one plan"
        raise PlanError(what, file=file, line=mark.line + 1 if mark else None) from error
    except ReaderError as error:
        raise PlanError(f"not a text file: {error.reason} at position {error.position}", file=file) from error
    except (YAMLError, ValueError, OverflowError) as error:  # ValueError: an escape beyond Unicode
        raise PlanError(f"not YAML: {error}", file=file) from error


def _value(node: Node | None) -> Value:
    """Convert `node`, whose scalars are converted already."""
    if isinstance(node, MappingNode):
        return {key.value: _value(item) for key, item in node.value}
    if isinstance(node, SequenceNode):
        return [_value(item) for item in node.value]
    return None if node is None else node.value


def _scalar(node: ScalarNode) -> Scalar:
    """Return the meaning of `node`. Raises ValueError for a number that is not finite or too long."""
    text: str = node.value
    if node.style is not None:  # quoted or a block: always a text
        return text
    match str(node.tag).rpartition(":")[2]:
        case "null":
            return None
        case "bool" if text.lower() in ("true", "false"):
            return text.lower() == "true"
        case "int" | "float" as kind if "_" not in text:  # 1_000 is a number in the library, but not in YAML 1.2
            return _number(text, kind)
    return text


def _number(text: str, kind: str) -> int | float | str:
    if len(text) > MAX_NUMBER_LENGTH:
        raise ValueError(f"a number of {len(text)} digits is too long")
    if kind == "int":
        with suppress(ValueError):  # such as 0b1, which is a text in YAML 1.2
            return int(text, {"0x": 16, "0o": 8}.get(text[:2], 10))
        return text
    value = math.inf if text.lower().endswith((".inf", ".nan")) else float(text)
    if not math.isfinite(value):
        raise ValueError(f"{text} is not a finite number")
    return value


class _StrictComposer(Composer):
    """Checks each part of a document before a node is made of it, and writes its line into `lines`."""

    def __init__(self, loader: Any, file: str, lines: dict[KeyPath, int]) -> None:
        super().__init__(loader)
        self._file, self._lines = file, lines
        self._path: KeyPath = ()
        self._nodes = 0

    def compose_node(self, parent: Node | None, index: Any) -> Node:
        """Compose the next node: a key where `index` is None inside a mapping, else the value at `index`."""
        event, around = self.parser.peek_event(), self._path
        is_key = index is None and parent is not None
        if index is not None:
            self._path = (*around, index.value if isinstance(index, Node) else index)
        self._nodes += 1
        if refusal := self._refusal(event, is_key=is_key):
            raise self._error(*refusal, event)
        if not is_key:
            self._record_line(index if isinstance(index, Node) else event)
        node: Node = super().compose_node(parent, index)
        if isinstance(node, ScalarNode) and not is_key:
            try:
                node.value = _scalar(node)
            except ValueError as error:
                raise self._error(str(error), "write a finite number of usual length", event) from error
        self._path = around
        return node

    def _refusal(self, event: Any, *, is_key: bool) -> tuple[str, str] | None:
        """Return the problem of the node that `event` begins, and its remedy; None if there is none."""
        if self._nodes > MAX_NODES:
            return f"more than {MAX_NODES:,} values", TOO_LARGE
        if len(self._path) > MAX_DEPTH:
            return f"nested more than {MAX_DEPTH} deep", "flatten it"
        if isinstance(event, AliasEvent) or event.anchor is not None:
            return "anchors (&) and aliases (*) are not allowed", "write the value out"
        if event.ctag is not None:
            return f"tags such as {event.ctag} are not allowed", "write a plain value"
        if is_key and not isinstance(event, ScalarEvent):
            return "a key must be a name", "write `name: value`"
        if isinstance(event, ScalarEvent):
            if is_key and len(event.value) > MAX_KEY_LENGTH:
                return f"a key of {len(event.value)} characters is too long", "shorten it"
            # An escape such as "\ud800" or "\0" makes a text that neither UTF-8, JSON nor a file name can hold.
            if any(character == "\0" or "\ud800" <= character <= "\udfff" for character in event.value):
                return "the text has a character that no file can hold", "remove the escape"
        return None

    def _record_line(self, start: Node | Event) -> None:
        if self._path in self._lines:
            first = self._lines[self._path]
            raise self._error(f"duplicate key {self._path[-1]!r}, first on line {first}", "keep one", start)
        self._lines[self._path] = start.start_mark.line + 1

    def _error(self, what: str, remedy: str, at: Node | Event) -> PlanError:
        key = dotted(self._path)
        message = f"{key}: {what}" if key else what
        return PlanError(message, file=self._file, line=at.start_mark.line + 1, key=key or None, remedy=remedy)
