"""Writes messages as lines and reads them again: one JSON object a line. Standard library only."""

from __future__ import annotations

import json
import math
from dataclasses import asdict
from typing import Any

from supervisor.domain.messages import Heartbeat, Hello, Message, Sampled
from supervisor.typed_json import from_json, read

MAX_LINE_BYTES = 16 * 1024 * 1024
"""A Begin carries every finished trial of an experiment, in parts where they are many (trials.begin_parts)."""
UNACKNOWLEDGED = (Sampled, Heartbeat, Hello)
_KINDS: dict[str, type] = {kind.__name__: kind for kind in Message.__args__}


class LinkError(Exception):
    """The other side sent a line that is not a message."""


def finite(value: Any) -> Any:
    """Return `value` with each float that is not finite replaced by None, at any depth: JSON has no NaN.

    Half a surrogate pair (of a file name that is not UTF-8, in an error's text) becomes "?": no file takes it.
    """
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, str):
        return value.encode("utf-8", "replace").decode()
    if isinstance(value, dict):
        return {finite(str(key)): finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [finite(item) for item in value]
    return value


def encode(message: Message, number: int | None = None) -> bytes:
    """Return the line of `message` with the id `number`.

    Raises TypeError for values that JSON does not know, LinkError for a line over the bound.
    """
    body = {"type": type(message).__name__, "id": number, **finite(asdict(message))}
    line = json.dumps(body, separators=(",", ":"), allow_nan=False).encode() + b"\n"
    if len(line) > MAX_LINE_BYTES:
        raise LinkError(f"a {type(message).__name__} of {len(line)} bytes is over the bound of {MAX_LINE_BYTES}")
    return line


def decode(line: bytes) -> tuple[Message, int | None]:
    """Return the message of a line and its id. Raises LinkError for any other line."""
    try:
        body = finite(json.loads(line))
        kind = _KINDS[body.pop("type")]
        number: int | None = read(body.pop("id"), int | None, "id")
        message: Message = from_json(kind, body)
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise LinkError(f"not a message: {line[:200]!r} ({error})") from error
    return message, number
