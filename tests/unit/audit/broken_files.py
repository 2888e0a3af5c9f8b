"""Makes files as accidents leave them: cut, flipped, shuffled, of other types. A seed repeats each."""

from __future__ import annotations

import copy
import random
from collections.abc import Callable
from typing import Any

JUNK: tuple[Any, ...] = (
    None, True, -1, 0, 10**30, -(10**400), 1e308, float("inf"), float("nan"), "", "\x00", "\ud800", "x" * 3000, "²", [],
    [[]], {}, {"a": {}}, [None], "2026-01-01", "../../etc/passwd", 0.5, [1, "a"], {"": None}, "0001-01-01T00:00:00",
    "9999-12-31T23:59:59.999999+14:00",
)  # fmt: skip


def broken(rng: random.Random, content: bytes) -> bytes:
    """Return `content`, damaged in one way."""
    return rng.choice(_WAYS)(rng, content)


def retyped(rng: random.Random, value: Any) -> Any:
    """Return a JSON value in which one place has another value, or is missing, or has a neighbour."""
    made = copy.deepcopy(value)
    places = list(_places(made))
    if not places:
        return rng.choice(JUNK)
    holder, key = rng.choice(places)
    match rng.randrange(4):
        case 0 if isinstance(holder, dict):
            del holder[key]
        case 1 if isinstance(holder, dict):
            holder[f"{key}_"] = rng.choice(JUNK)
        case _:
            holder[key] = rng.choice(JUNK)
    return made


def _places(value: Any) -> list[tuple[Any, Any]]:
    keys = list(value) if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else []
    return [(value, key) for key in keys] + [place for key in keys for place in _places(value[key])]


def _spot(rng: random.Random, content: bytes) -> tuple[int, int]:
    begin = rng.randrange(len(content) + 1)
    return begin, min(len(content), begin + rng.choice([1, 2, 8, 64, 1024]))


def _cut(rng: random.Random, content: bytes) -> bytes:
    return content[: rng.randrange(len(content) + 1)]


def _flipped(rng: random.Random, content: bytes) -> bytes:
    made = bytearray(content or b"\0")
    for _ in range(rng.choice([1, 1, 3, 30])):
        made[rng.randrange(len(made))] ^= 1 << rng.randrange(8)
    return bytes(made)


def _hole(rng: random.Random, content: bytes) -> bytes:
    begin, end = _spot(rng, content)
    return content[:begin] + content[end:]


def _zeroed(rng: random.Random, content: bytes) -> bytes:
    begin, end = _spot(rng, content)
    return content[:begin] + bytes(end - begin) + content[end:]


def _junk_inside(rng: random.Random, content: bytes) -> bytes:
    begin, end = _spot(rng, content)
    return content[:begin] + rng.randbytes(rng.choice([1, 10, 500])) + content[end:]


def _moved(rng: random.Random, content: bytes) -> bytes:
    begin, end = _spot(rng, content)
    to = rng.randrange(len(content) + 1)
    return content[:to] + content[begin:end] + content[to:]


def _shuffled_lines(rng: random.Random, content: bytes) -> bytes:
    lines = content.splitlines(keepends=True)
    rng.shuffle(lines)
    return b"".join(lines)


def _something_else(rng: random.Random, _: bytes) -> bytes:
    return rng.choice(
        [b"", b"\0" * 5000, rng.randbytes(3000), b"[" * 50_000, b'{"a":' * 50_000, b"\xff\xfe\x00", b"null", b"[]",
         b"7" * 9000]
    )  # fmt: skip


_WAYS: tuple[Callable[[random.Random, bytes], bytes], ...] = (
    _cut, _cut, _flipped, _flipped, _hole, _zeroed, _junk_inside, _moved, _shuffled_lines, _something_else,
)  # fmt: skip
