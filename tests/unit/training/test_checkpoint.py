"""A checkpoint is whole or refused, and writing one never harms the one before."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from training.checkpoint import read_checkpoint, write_checkpoint
from training.errors import CheckpointError


@pytest.fixture
def path(tmp_path: Path) -> Path:
    write_checkpoint(tmp_path / "c.pt", {"model": {"weight": torch.arange(500.0)}, "epoch": 1})
    return tmp_path / "c.pt"


def test_a_changed_byte_anywhere_is_found(path: Path) -> None:
    content = path.read_bytes()
    for position in range(0, len(content), max(1, len(content) // 40)):
        changed = bytearray(content)
        changed[position] ^= 0x10
        path.write_bytes(changed)
        with pytest.raises(CheckpointError, match=r"changed since|not a checkpoint"):
            read_checkpoint(path)


@pytest.mark.parametrize("kept", [0, 1, 39, 40, 41, 0.5, -1])
def test_a_file_that_was_cut_short_is_refused(path: Path, kept: float) -> None:
    content = path.read_bytes()
    size = int(kept * len(content)) if isinstance(kept, float) else kept % len(content)
    path.write_bytes(content[:size])
    with pytest.raises(CheckpointError):
        read_checkpoint(path)


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"gone\.pt does not exist"):
        read_checkpoint(tmp_path / "gone.pt")


def test_another_schema_is_refused(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "c.pt", {"schema": 99})
    with pytest.raises(CheckpointError, match="expected schema 2, found 99"):
        read_checkpoint(tmp_path / "c.pt")


def test_code_in_a_pickle_is_not_run(tmp_path: Path) -> None:
    class Harm:
        def __reduce__(self) -> tuple[Any, ...]:
            return (os.mkdir, (str(tmp_path / "harmed"),))

    write_checkpoint(tmp_path / "c.pt", {"model": Harm()})
    with pytest.raises(CheckpointError, match=r"[Ww]eights.only"):
        read_checkpoint(tmp_path / "c.pt")
    assert not (tmp_path / "harmed").exists()


@pytest.mark.parametrize("failing", ["fsync", "replace"])
def test_a_full_disk_keeps_the_old_checkpoint_and_leaves_no_temporary_file(
    path: Path, monkeypatch: pytest.MonkeyPatch, failing: str
) -> None:
    before = path.read_bytes()

    def no_space(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os if failing == "fsync" else Path, failing, no_space)
    with pytest.raises(OSError, match="No space left"):
        write_checkpoint(path, {"epoch": 2})
    monkeypatch.undo()
    assert path.read_bytes() == before
    assert [entry.name for entry in path.parent.iterdir()] == ["c.pt"]
    write_checkpoint(path, {"epoch": 2})
    assert read_checkpoint(path)["epoch"] == 2


class FullStream:
    """A file on a disk that fills at the second write."""

    def __init__(self, stream: Any) -> None:
        self.stream, self.writes = stream, 0

    def write(self, data: bytes) -> int:
        self.writes += 1
        if self.writes > 1:
            raise OSError(28, "No space left on device")
        return int(self.stream.write(data))

    def __getattr__(self, name: str) -> Any:
        return getattr(self.stream, name)


def test_a_disk_that_fills_during_the_write_raises_the_disks_own_error(
    path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """torch.save would turn it into a RuntimeError about file positions."""
    from contextlib import contextmanager

    from training import checkpoint

    replace_file = checkpoint.replace_file

    @contextmanager
    def filling(target: Path) -> Any:
        with replace_file(target) as stream:
            yield FullStream(stream)

    monkeypatch.setattr(checkpoint, "replace_file", filling)
    with pytest.raises(OSError, match="No space left") as caught:
        write_checkpoint(path, {"model": torch.zeros(100_000)})
    assert caught.value.errno == 28
