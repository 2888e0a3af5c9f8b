"""Write and read checkpoints: one atomic file with a schema number and a checksum.

The file is the output of torch.save and a trailer of 40 bytes: an 8-byte magic with the format's number, and the
SHA-256 of all bytes before it. A file that was cut short or changed is refused before it is unpickled.
"""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Mapping
from pathlib import Path
from typing import Any, BinaryIO, cast

import torch

from training.atomic_file import replace_file
from training.errors import CheckpointError

SCHEMA = 2
_MAGIC = b"SWEEPCK1"
_TRAILER_BYTES = len(_MAGIC) + 32


class _HashingWriter:
    """Hash the bytes on their way into a file; a large state is never held twice."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()
        self.failure: OSError | None = None
        """The file system's error, which torch.save turns into a RuntimeError without it."""

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
    """Write ``state`` so that a crash leaves the old file or the new one.

    It may hold tensors, numbers, strings, lists and dicts.
    Raises OSError as the file system does, ENOSPC included; the old file then still stands.
    """
    with replace_file(path) as stream:
        writer = _HashingWriter(stream)
        try:
            torch.save({"schema": SCHEMA, **state}, cast(Any, writer))
        except RuntimeError as error:
            if writer.failure is None:
                raise
            raise writer.failure from error
        stream.write(_MAGIC + writer.digest.digest())


def host_copy(state: Any) -> Any:
    """Copy a state into the host's memory: tensors, and the dicts, lists and tuples that hold them."""
    if isinstance(state, torch.Tensor):
        return state.detach().to("cpu", copy=True)
    if isinstance(state, dict):
        return {key: host_copy(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return type(state)(host_copy(value) for value in state)
    return state


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint's state; its tensors are mapped from the file, on the CPU.

    Only plain data are unpickled (weights_only). Raises CheckpointError when the file is missing, cut short, changed
    or of another schema.
    """
    _verify(path)
    try:
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
    except (RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} cannot be read: {error}") from error
    if not isinstance(state, dict) or state.get("schema") != SCHEMA:
        found = state.get("schema") if isinstance(state, dict) else None
        raise CheckpointError(f"{path}: expected schema {SCHEMA}, found {found!r}")
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
        raise CheckpointError(f"{path} is not a checkpoint, or was cut short")
    if trailer[len(_MAGIC) :] != digest.digest():
        raise CheckpointError(f"{path} has changed since it was written: its checksum does not match")
