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
from training.data.blocks import lay_out
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

    ``visible_rows`` is a trial's view of the data: a mask (rows,) that is False on each day that a test sample of any
    block sees or is labelled from, and for a fold on each day after its validation.
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


def split_days(rows: int, context: int, settings: SplitSettings, fold: int | None = None) -> SplitIndices:
    """Split ``rows`` days by ``settings.kind``; a ``fold`` trains on days before its own validation only.

    Without a fold the validation of all blocks is one part, and so is the test. No test block is ever visible, and a
    fold sees no day after its validation. Raises SplitError when a part would be empty or too small.
    """
    blocks = lay_out(rows, context, settings)
    own = blocks if fold is None else [blocks[fold - 1]]
    visible = np.ones(rows, dtype=np.bool_)
    for block in blocks:
        visible[_days_touched(block.test, context, settings.purge)] = False
    if fold is not None:
        visible[own[0].val.stop + settings.purge :] = False
    return SplitIndices(
        train_indices=_joined(block.train for block in blocks[:fold]),
        val_indices=_joined(block.val for block in own),
        test_indices=SealedIndices(_joined(block.test for block in own)),
        visible_rows=visible,
    )


def _joined(spans: Iterable[range]) -> Indices:
    return np.concatenate([np.arange(span.start, span.stop, dtype=np.int64) for span in spans])


def _days_touched(samples: range, context: int, purge: int) -> slice:
    """Return the rows that one of these consecutive samples sees or is labelled from."""
    return slice(samples.start - context + 1, samples.stop + purge) if samples else slice(0)
