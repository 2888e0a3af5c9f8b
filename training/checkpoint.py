"""Checkpoints: one atomic file with a schema number and a checksum over everything in it.

The file is what torch.save writes, then a trailer of 40 bytes: an 8-byte magic with the format's number and the
SHA-256 of all before it. A file cut short or changed anywhere is refused before a byte of it is believed.
"""

from __future__ import annotations

import hashlib
import os
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from training.data.manifest import sync_folder
from training.errors import CheckpointError

SCHEMA = 1
_MAGIC = b"SWEEPCK1"
_TRAILER_BYTES = len(_MAGIC) + 32


class _HashingWriter:
    """The part of a file that torch.save writes through, hashing on the way: a large state is never held twice."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None
        """What the file system said; torch.save makes a RuntimeError without a word of it."""

    def write(self, data: bytes) -> int:
        self.digest.update(data)
        try:
            return self._stream.write(data)
        except OSError as error:
            self.failure = error
            raise

    def flush(self) -> None:
        self._stream.flush()


def write_checkpoint(path: Path, state: Mapping[str, object]) -> None:
    """Write ``state`` (tensors, numbers, strings, lists, dicts) so that a crash leaves the old file or the new one.

    Raises OSError as the file system does, ENOSPC included; the old file then still stands.
    """
    partial = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with partial.open("wb") as stream:
            writer = _HashingWriter(stream)
            try:
                torch.save({"schema": SCHEMA, **state}, cast(Any, writer))
            except RuntimeError as error:
                if writer.failure is None:
                    raise
                raise writer.failure from error
            stream.write(_MAGIC + writer.digest.digest())
            stream.flush()
            os.fsync(stream.fileno())
        partial.replace(path)
    finally:
        partial.unlink(missing_ok=True)
    sync_folder(path.parent)


def read_checkpoint(path: Path) -> dict[str, Any]:
    """The state of a checkpoint, its tensors mapped from the file (on the CPU) and read as they are used.

    Only plain data are unpickled (weights_only). Raises CheckpointError when the file is missing, cut short, changed
    or of another schema.
    """
    _verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, OSError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        found = state.get("schema") if isinstance(state, dict) else None
        raise CheckpointError(f"{path} has schema {found!r}; this version reads {SCHEMA}")
    return state


def _verify(path: Path) -> None:
    try:
        size = path.stat().st_size
        with path.open("rb") as stream:
            digest = hashlib.sha256()
            left = size - _TRAILER_BYTES
            while left > 0 and (piece := stream.read(min(left, 2**20))):
                digest.update(piece)
                left -= len(piece)
            trailer = stream.read(_TRAILER_BYTES)
    except FileNotFoundError:
        raise CheckpointError(f"{path} does not exist") from None
    if size <= _TRAILER_BYTES or trailer[: len(_MAGIC)] != _MAGIC:
        raise CheckpointError(f"{path} is no checkpoint, or was cut short")
    if trailer[len(_MAGIC) :] != digest.digest():
        raise CheckpointError(f"{path} has changed since it was written: its checksum does not match")
