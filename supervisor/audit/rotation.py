"""Rotates an audit log into older parts: PLAN.jsonl.1.gz is the newest, then .2.gz, up to a bound.

Every step leaves whole files, wherever a crash interrupts it: a part is compressed beside itself and then renamed, and
no renaming overwrites a file.
"""

from __future__ import annotations

import gzip
import shutil
import zlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, cast

from supervisor import failpoints
from supervisor.errors import LogDamaged
from supervisor.filesystem import replacing, sync_folder


@dataclass(frozen=True)
class Limits:
    """Bounds a log: the size at which it is rotated, and the number of older parts."""

    max_bytes: int = 50_000_000
    parts: int = 10


def older_parts(path: Path) -> list[Path]:
    """Return the log's older parts, oldest first; a part that exists plain and compressed counts once."""
    found: dict[int, Path] = {}
    for part in path.parent.glob(f"{path.name}.*"):
        number = part.name.removeprefix(f"{path.name}.").removesuffix(".gz")
        if number.isascii() and number.isdecimal() and (part.suffix == ".gz" or int(number) not in found):
            found[int(number)] = part
    return [found[number] for number in sorted(found, reverse=True)]


def all_parts(path: Path) -> list[Path]:
    """Return all parts of the log, oldest first."""
    return [*older_parts(path), *([path] if path.exists() else [])]


def lines_of(part: Path) -> Iterator[bytes]:
    """Yield the part's whole lines. Raises OSError, and LogDamaged when the part cannot be unpacked."""
    try:
        with cast(BinaryIO, gzip.open(part, "rb")) if part.suffix == ".gz" else part.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LogDamaged(f"{part} cannot be unpacked: {error}") from error


def rotate(path: Path, limits: Limits) -> None:
    """Rename the log to its part 1; the others move up, and the last above the bound is deleted. Raises OSError."""
    finish(path)
    _make_room(path, limits)
    failpoints.hit("rotate.rename")
    path.rename(path.with_name(f"{path.name}.1"))
    sync_folder(path.parent)
    failpoints.hit("rotate.renamed")


def _make_room(path: Path, limits: Limits) -> None:
    """Free the name of part 1: each part moves up by one, as far as the first free name."""
    numbers = {int(part.name.removeprefix(f"{path.name}.").removesuffix(".gz")) for part in older_parts(path)}
    free = next(number for number in range(1, len(numbers) + 2) if number not in numbers)
    if free > limits.parts:
        _part(path, limits.parts).unlink()
        free = limits.parts
    for number in range(free - 1, 0, -1):
        failpoints.hit("rotate.shift")
        part = _part(path, number)
        part.rename(path.with_name(part.name.replace(f"{path.name}.{number}", f"{path.name}.{number + 1}")))


def _part(path: Path, number: int) -> Path:
    compressed = path.with_name(f"{path.name}.{number}.gz")
    return compressed if compressed.exists() else path.with_name(f"{path.name}.{number}")


def finish(path: Path) -> None:
    """Compress the parts that are still plain, and delete files of an interrupted rotation. Raises OSError."""
    for stray in path.parent.glob(f".{path.name}.*.part"):
        stray.unlink()
    for plain in [*path.parent.glob(f"{path.name}.[0-9]"), *path.parent.glob(f"{path.name}.[0-9][0-9]")]:
        compressed = plain.with_name(f"{plain.name}.gz")
        if not compressed.exists():
            _compress(plain, compressed)
        failpoints.hit("rotate.unlink")
        plain.unlink()


def _compress(plain: Path, compressed: Path) -> None:
    with replacing(compressed) as partial:
        failpoints.hit("rotate.compress")
        # 3: a quarter of the time of the default for a tenth more bytes; the daemon waits for it.
        with (
            plain.open("rb") as source,
            partial.open("wb") as target,
            gzip.GzipFile("", "wb", compresslevel=3, fileobj=target, mtime=0) as squeezed,
        ):
            shutil.copyfileobj(source, squeezed, 1 << 20)
        failpoints.hit("rotate.compressed")
