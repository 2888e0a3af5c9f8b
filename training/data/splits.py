"""Split days into train, validation and test so that no two parts share a day.

A sample at day t sees days t - context + 1 .. t and is labelled from t + 1 .. t + horizon. So a part reserves
``context - 1`` days before its first sample and ``purge`` days after its last (the embargo and purge of Lopez de
Prado, Advances in Financial Machine Learning, 2018, chapter 7). ``purge`` is the plan's largest horizon, not the
trial's, so that every horizon is judged on the same dates.
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

from training.atomic_file import sync_folder
from training.errors import SealedTestError, SplitError
from training.settings import SplitSettings

Indices = NDArray[np.int64]


@dataclass(frozen=True)
class SealedIndices:
    """The test samples, which can be counted only; ``open_test`` returns them for a recorded TestOpening."""

    _hidden: Indices = field(repr=False)

    def __len__(self) -> int:
        return len(self._hidden)

    def __iter__(self) -> Iterator[int]:
        raise SealedTestError("the test split is sealed and cannot be iterated")

    def __array__(self, *_: object, **__: object) -> Indices:
        raise SealedTestError("the test split is sealed and cannot be converted to an array")


@dataclass(frozen=True)
class SplitIndices:
    """Sample days as ascending row numbers of the dataset; the test's are sealed.

    ``visible_rows`` is the search's view of the data: a mask (rows,) that is False on each day that a test sample sees
    or is labelled from.
    """

    train_indices: Indices
    val_indices: Indices
    test_indices: SealedIndices
    visible_rows: NDArray[np.bool_]


@dataclass(frozen=True, slots=True)
class TestOpening:
    """The permission to open a test split once: person, reason, dataset, time (ISO). Its ``record`` is the proof."""

    __test__ = False  # the name begins with Test; pytest would collect it

    record: Path
    opened_by: str
    reason: str
    dataset_sha256: str
    opened_at: str

    def commit(self) -> None:
        """Write the record exclusively and durably. Raises SealedTestError if this test was opened before."""
        content = {key: str(value) for key, value in asdict(self).items() if key != "record"}
        try:
            handle = os.open(self.record, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        except FileExistsError:
            raise SealedTestError(f"this test split was opened before: {self.record} has time and reason") from None
        with os.fdopen(handle, "w") as stream:
            json.dump(content, stream, indent=2)
            stream.flush()
            os.fsync(stream.fileno())
        sync_folder(self.record.parent)


def open_test(splits: SplitIndices, opening: TestOpening) -> Indices:
    """Write the opening's record, then return the test samples.

    Raises SealedTestError without a TestOpening, and if the record exists already.
    """
    if not isinstance(opening, TestOpening):
        raise SealedTestError(f"expected a TestOpening, found {type(opening).__name__}")
    opening.commit()
    return splits.test_indices._hidden.copy()  # noqa: SLF001 - this function is the seal's only door


def split_days(rows: int, context: int, settings: SplitSettings) -> SplitIndices:
    """Split ``rows`` days by ``settings.kind``. Raises SplitError when a part would be empty or too small."""
    # Chunks are the same three spans inside each segment of the timeline, so that each part has days of each regime.
    blocks = 1 if settings.kind == "contiguous" else settings.blocks
    pieces = [piece for low, high in _segments(rows, blocks) for piece in _spans(low, high, context, settings)]
    train, val, test = (_joined(pieces, part) for part in ("train", "val", "test"))
    if len(val) < settings.min_val_windows:
        raise SplitError(
            f"expected at least {settings.min_val_windows} validation windows, found {len(val)}",
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
    """The samples of the days [first, stop) of one part."""

    part: str
    first: int
    stop: int


def _spans(low: int, high: int, context: int, settings: SplitSettings) -> list[_Piece]:
    """Cut rows [low, high) into train, validation, test, with free days around each border."""
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
    """Return each row that one of these samples sees or is labelled from."""
    if len(samples) == 0:
        return samples
    offsets = np.arange(-context + 1, purge + 1)
    return np.unique(samples[:, None] + offsets[None, :])
