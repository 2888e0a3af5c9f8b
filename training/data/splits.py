"""Split days into train, validation and test so that no two parts share a day; the test's stay sealed."""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from training.atomic_file import sync_folder
from training.data.blocks import Block, lay_out
from training.errors import SealedTestError
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

    The masks (rows,) name days. ``sealed_rows``: those that a test sample of any block sees or is labelled from.
    ``visible_rows``, a trial's view of the data: all others, for a fold only up to the end of its validation.
    ``test_rows``: those of the sealed that belong to its own test.
    """

    train_indices: Indices
    val_indices: Indices
    test_indices: SealedIndices
    visible_rows: NDArray[np.bool_]
    sealed_rows: NDArray[np.bool_]
    test_rows: NDArray[np.bool_]


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


def split_days(rows: int, context: int, settings: SplitSettings, fold: int | None = None) -> SplitIndices:
    """Split ``rows`` days by ``settings.kind``; a ``fold`` trains on days before its own validation only.

    Without a fold the validation of all blocks is one part, and so is the test. No test block is ever visible, and a
    fold sees no day after its validation. Raises SplitError when a part would be empty or too small.
    """
    blocks = lay_out(rows, context, settings)
    own = blocks if fold is None else [blocks[fold - 1]]
    sealed, test = (_days_touched(rows, some, context, settings.purge) for some in (blocks, own))
    visible = ~sealed
    if fold is not None:
        visible[own[0].val.stop + settings.purge :] = False
    return SplitIndices(
        train_indices=_joined(block.train for block in blocks[:fold]),
        val_indices=_joined(block.val for block in own),
        test_indices=SealedIndices(_joined(block.test for block in own)),
        visible_rows=visible,
        sealed_rows=sealed,
        test_rows=test,
    )


def _joined(spans: Iterable[range]) -> Indices:
    return np.concatenate([np.arange(span.start, span.stop, dtype=np.int64) for span in spans])


def _days_touched(rows: int, blocks: Iterable[Block], context: int, purge: int) -> NDArray[np.bool_]:
    """Return a mask (rows,) of the days that a test sample of these blocks sees or is labelled from."""
    touched = np.zeros(rows, dtype=np.bool_)
    for test in (block.test for block in blocks if block.test):
        touched[test.start - context + 1 : test.stop + purge] = True
    return touched
