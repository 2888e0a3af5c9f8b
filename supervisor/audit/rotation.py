"""An audit log's older parts: PLAN.jsonl.1.gz is the newest of them, then .2.gz, and so on; a bound to their number.

Every step leaves whole files behind, whenever it is cut off: a part is compressed beside itself and then renamed, and
no renaming meets a name that is taken.
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
    """When a log is rotated, and how many older parts are kept."""

    max_bytes: int = 50_000_000
    parts: int = 10


def older_parts(path: Path) -> list[Path]:
    """The log's older parts, oldest first; one that is there both plain and compressed counts once."""
    found: dict[int, Path] = {}
    for part in path.parent.glob(f"{path.name}.*"):
        number = part.name.removeprefix(f"{path.name}.").removesuffix(".gz")
        if number.isascii() and number.isdecimal() and (part.suffix == ".gz" or int(number) not in found):
            found[int(number)] = part
    return [found[number] for number in sorted(found, reverse=True)]


def all_parts(path: Path) -> list[Path]:
    """Everything of the log that is there, oldest first."""
    return [*older_parts(path), *([path] if path.exists() else [])]


def lines_of(part: Path) -> Iterator[bytes]:
    """Its lines; half a line at the end is left out. Raises OSError, and LogDamaged for one that cannot be unpacked."""
    try:
        with cast(BinaryIO, gzip.open(part, "rb")) if part.suffix == ".gz" else part.open("rb") as file:
            for line in file:
                if line.endswith(b"\n"):
                    yield line
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise LogDamaged(f"{part} cannot be unpacked: {error}") from error


def rotate(path: Path, limits: Limits) -> None:
    """Renames the log to its part 1, the others move up, the oldest of too many goes. Raises OSError."""
    finish(path)
    _make_room(path, limits)
    failpoints.hit("rotate.rename")
    path.rename(path.with_name(f"{path.name}.1"))
    sync_folder(path.parent)
    failpoints.hit("rotate.renamed")


def _make_room(path: Path, limits: Limits) -> None:
    """Frees part 1's name: each moves up by one, as far as the first name that is free."""
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
    """Compresses what a rotation left plain; what an interrupted one left over goes. Raises OSError."""
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
