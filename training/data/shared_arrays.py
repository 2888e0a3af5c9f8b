"""Keep arrays in a file that processes map: their pages are in memory once, however many processes read them.

The file is a cache: it may be deleted at any time, is written atomically, and is made again when it is damaged. Its
mapping is private (copy on write), so nobody can change the file by it.

Layout: MAGIC, the header's length (8 bytes, little-endian), the header (JSON), and the arrays, each at a multiple of
ALIGNMENT. The header holds the key of the content, facts about it, the place of each array, and a SHA-256 over all.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import logging
import mmap
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from training.atomic_file import replace_file

LOG = logging.getLogger("data")
MAGIC = b"sweep arrays 1\n\0"
ALIGNMENT = 64
MAX_FILES = 64
"""The newest files of a folder that are kept; an experiment needs one for each of its contexts and folds."""


@dataclass(frozen=True)
class Arrays:
    """Arrays by name, and ``facts`` about them as JSON values; ``mapped`` says that they are pages of a file."""

    arrays: Mapping[str, NDArray[Any]]
    facts: Mapping[str, Any]
    mapped: bool = False


class _Damaged(Exception):
    """The file is not what its writer left."""


def shared_arrays(folder: Path, key: Mapping[str, Any], make: Callable[[], Arrays]) -> Arrays:
    """Return the arrays of ``key``, mapped from their file in ``folder``; ``make`` them where there is none.

    ``key`` (JSON values) decides the content. Where the file cannot be written, the arrays are this process's own.
    Raises what ``make`` raises.
    """
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    path = folder / f"{hashlib.sha256(text.encode()).hexdigest()[:32]}.arrays"
    found = _read_or_none(path, text)
    if found is not None:
        return found
    made = make()
    try:
        folder.mkdir(exist_ok=True)
        _write(path, text, made)
        _remove_old(folder)
    except OSError as error:
        LOG.warning("%s cannot be written; this process keeps a copy of the dataset of its own: %s", path, error)
        return made
    return _read_or_none(path, text) or made


def _read_or_none(path: Path, key: str) -> Arrays | None:
    try:
        return _read(path, key)
    except FileNotFoundError:
        return None
    except (OSError, _Damaged) as error:
        LOG.warning("%s cannot be used and is made again: %s", path, error)
        return None


def _read(path: Path, key: str) -> Arrays:
    """Map a file and check it. Raises OSError, _Damaged."""
    with path.open("rb") as stream:
        try:
            pages = mmap.mmap(stream.fileno(), 0, access=mmap.ACCESS_COPY)
        except ValueError as error:
            raise _Damaged("it is empty") from error
    start = len(MAGIC) + 8
    if pages[: len(MAGIC)] != MAGIC:
        raise _Damaged("expected a file of arrays, found another beginning")
    length = int.from_bytes(pages[len(MAGIC) : start], "little")
    try:
        header = json.loads(pages[start : start + length])
        content, digest, size = header["content"], header["sha256"], header["size"]
    except (ValueError, KeyError, TypeError) as error:
        raise _Damaged("its header cannot be read") from error
    if len(pages) != size:
        raise _Damaged(f"expected {size} bytes, found {len(pages)}")
    body = memoryview(pages)[_aligned(start + length) :]
    if _digest(content, body) != digest:
        raise _Damaged("its SHA-256 differs from its header's")
    if content["key"] != key:
        raise _Damaged("it holds other arrays")
    arrays = {name: _array(body, place) for name, place in content["arrays"].items()}
    return Arrays(arrays, content["facts"], mapped=True)


def _digest(content: Any, body: bytes | memoryview) -> str:
    found = hashlib.sha256(json.dumps(content, sort_keys=True).encode())
    found.update(body)
    return found.hexdigest()


def _array(body: memoryview, place: Mapping[str, Any]) -> NDArray[Any]:
    shape = tuple(place["shape"])
    flat = np.frombuffer(body, np.dtype(place["dtype"]), count=int(np.prod(shape)), offset=place["offset"])
    return flat.reshape(shape, order=place["order"])


def _write(path: Path, key: str, made: Arrays) -> None:
    places, parts, end = {}, [], 0
    for name, array in made.arrays.items():
        # The same order in memory as in the process that made them: the same bits of every later result.
        order: Literal["C", "F"] = "C" if array.flags.c_contiguous else "F"
        values = array.tobytes(order)
        offset = _aligned(end)
        places[name] = {"dtype": array.dtype.str, "shape": list(array.shape), "order": order, "offset": offset}
        parts += [bytes(offset - end), values]
        end = offset + len(values)
    body = b"".join(parts)
    content = {"key": key, "facts": dict(made.facts), "arrays": places}
    with replace_file(path) as stream:
        stream.write(_beginning({"content": content, "sha256": _digest(content, body)}, len(body)))
        stream.write(body)


def _beginning(header: dict[str, Any], body_bytes: int) -> bytes:
    """Return a file up to its arrays; its header gets the size of the whole file."""
    # The number is padded, so that it does not change the length that it counts.
    room = len(json.dumps({**header, "size": 0}).encode()) + 20
    start = _aligned(len(MAGIC) + 8 + room)
    text = json.dumps({**header, "size": start + body_bytes}).encode().ljust(room)
    return (MAGIC + room.to_bytes(8, "little") + text).ljust(start, b"\0")


def _aligned(place: int) -> int:
    return -(-place // ALIGNMENT) * ALIGNMENT


def _remove_old(folder: Path) -> None:
    """Remove all but the newest files: those of other datasets, and parts that a killed process left."""
    ages = []
    for path in folder.iterdir():
        # Another process may have removed it meanwhile.
        with contextlib.suppress(FileNotFoundError):
            ages.append((path.stat().st_mtime, path))
    for _, path in sorted(ages, reverse=True)[MAX_FILES:]:
        path.unlink(missing_ok=True)
