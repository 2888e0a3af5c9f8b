"""Dealing days to train, validation and test so that no two of them share a day.

A sample at day t sees days t - context + 1 .. t and is labelled from t + 1 .. t + horizon. A split therefore reserves
``context - 1`` days before its first sample and ``purge`` days after its last (the embargo and purge of Lopez de
Prado, Advances in Financial Machine Learning, 2018, chapter 7). ``purge`` is the plan's largest horizon, not the
trial's, so every horizon is judged on the same dates.
"""

from __future__ import annotations

import itertools
import json
import os
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.data.manifest import sync_folder
from training.errors import SealedTestError, SplitError
from training.settings import SplitSettings

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SealedIndices:
    """The test samples, counted but not shown. ``open_test`` shows them, for a recorded TestOpening."""

    _hidden: Indices = field(repr=False)

    def __len__(self) -> int:
        return len(self._hidden)

    def __iter__(self) -> Iterator[int]:
        raise SealedTestError("the test split is sealed and cannot be walked")

    def __array__(self, *_: object, **__: object) -> Indices:
        raise SealedTestError("the test split is sealed and cannot become an array")


@dataclass(frozen=True)
class SplitIndices:
    """Sample days as row numbers of the dataset, ascending; the test's are sealed.

    ``visible_rows`` is how searching may look at the data: a mask (rows,) that is False on every day that a test
    sample sees or is labelled from.
    """

    train_indices: Indices
    val_indices: Indices
    test_indices: SealedIndices
    visible_rows: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TestOpening:
    """The leave to open a test split once: who, why, of which dataset, when (ISO). Its record is its proof."""

    __test__ = False  # the name begins with Test; pytest would collect it

    record: Path
    opened_by: str
    reason: str
    dataset_sha256: str
    opened_at: str

    def commit(self) -> None:
        """Write the record, exclusively and durably. Raises SealedTestError when this test was opened before."""
        content = {key: str(value) for key, value in asdict(self).items() if key != "record"}
        try:
            handle = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SealedTestError(f"this test split was opened before; {self.record} says when and why") from None
        with os.fdopen(handle, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self.record.parent)


def open_test(splits: SplitIndices, opening: TestOpening) -> Indices:
    """The test samples, after the opening's record is on disk.

    Raises SealedTestError without a TestOpening, and when the same record exists already.
    """
    if not isinstance(opening, TestOpening):
        raise SealedTestError("the test split opens for a TestOpening only")
    opening.commit()
    return splits.test_indices._hidden.copy()  # noqa: SLF001 - this function is the seal's only door


def split_days(rows: int, context: int, settings: SplitSettings) -> SplitIndices:
    """Deal ``rows`` days as ``settings.kind`` says. Raises SplitError when a part would be empty or too small."""
    # Chunks are the same three spans inside each segment of the timeline, so that each regime gives to each part.
    blocks = 1 if settings.kind == "contiguous" else settings.blocks
    pieces = [piece for low, high in _segments(rows, blocks) for piece in _spans(low, high, context, settings)]
    train, val, test = (_joined(pieces, part) for part in ("train", "val", "test"))
    if len(val) < settings.min_val_windows:
        raise SplitError(
            f"{len(val)} validation windows; at least {settings.min_val_windows} are needed",
            "Import a longer history, raise split.val_fraction, shorten the context, or (chunks) take fewer blocks.",
        )
    for name, part in (("train", train), ("test", test)):
        if len(part) == 0:
            raise SplitError(f"no {name} window is left", "Import a longer history or shorten the context.")
    visible = np.ones(rows, dtype=np.bool_)
    visible[_days_touched(test, context, settings.purge)] = False
    return SplitIndices(train, val, SealedIndices(test), visible)


@dataclass(frozen=True, slots=True)
class _Piece:
    """Samples of days [first, stop), all of one part."""

    part: str
    first: int
    stop: int


def _spans(low: int, high: int, context: int, settings: SplitSettings) -> list[_Piece]:
    """Train, validation, test in this order over rows [low, high): borders first, then room around each."""
    days = high - low
    border_val = low + round(days * settings.train_fraction)
    border_test = low + round(days * (settings.train_fraction + settings.val_fraction))
    spans = (("train", low, border_val), ("val", border_val, border_test), ("test", border_test, high))
    return [_Piece(part, first + context - 1, stop - settings.purge) for part, first, stop in spans]


def _segments(rows: int, blocks: int) -> list[tuple[int, int]]:
    edges = [round(rows * i / blocks) for i in range(blocks + 1)]
    return list(itertools.pairwise(edges))


def _joined(pieces: Sequence[_Piece], part: str) -> Indices:
    spans = [np.arange(piece.first, max(piece.first, piece.stop)) for piece in pieces if piece.part == part]
    return np.concatenate(spans).astype(np.int64)


def _days_touched(samples: Indices, context: int, purge: int) -> Indices:
    """Every row that any of these samples sees or is labelled from."""
    if len(samples) == 0:
        return samples
    offsets = np.arange(-context + 1, purge + 1)
    return np.unique(samples[:, None] + offsets[None, :])
