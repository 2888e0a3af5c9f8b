"""Lay out a history as blocks of train, validation and test days. Standard library only.

A sample at day t sees days t - context + 1 .. t and is labelled from t + 1 .. t + horizon. So a part leaves
``context - 1`` days free before its first sample and ``purge`` days after its last (the embargo and purge of Lopez de
Prado, Advances in Financial Machine Learning, 2018, chapter 7). ``purge`` is the plan's largest horizon, not the
trial's, so that every horizon is judged on the same dates.
"""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from training.errors import SplitError
from training.settings import SplitSettings

_CURE = (
    "Import a longer history, shorten the context, or take fewer blocks"
    " (split.blocks of chunks, split.folds of folds, or split.kind contiguous)."
)


@dataclass(frozen=True, slots=True)
class Block:
    """Train, validation and test samples of consecutive days, as row numbers of the dataset."""

    train: range
    val: range
    test: range


def lay_out(rows: int, context: int, split: SplitSettings) -> list[Block]:
    """Return the blocks of ``rows`` days, in order of time; block j - 1 of ``folds`` is fold j.

    Raises SplitError when validation or test would be too small.
    """
    found = [
        Block(*(_samples(first, stop, context, split.purge) for first, stop in itertools.pairwise(borders)))
        for borders in (_segments(rows, split) if split.kind == "folds" else _chunks(rows, split))
    ]
    _require_validation(rows, context, split, sum(len(block.val) for block in found))
    for fold in split.test_folds:
        own = found if fold is None else [found[fold - 1]]
        windows = {
            "train": sum(len(block.train) for block in found[:fold]),
            "validation": sum(len(block.val) for block in own),
            "test": sum(len(block.test) for block in own),
        }
        for part, count in windows.items():
            if count == 0:
                raise SplitError(f"no {part} window{f' of fold {fold}' if fold else ''} is left", _CURE)
    return found


def _segments(rows: int, split: SplitSettings) -> list[tuple[int, int, int, int]]:
    """Return the borders of each fold: first train day, first validation day, first test day, end.

    Half of the train days open the history; the other half is divided among the folds, before each validation, so that
    the first fold has both.
    One fold is the same as ``contiguous``.
    """
    early = split.train_fraction / 2
    borders = []
    for fold in range(split.folds):
        start = early + (1 - early) * fold / split.folds
        val = start + early / split.folds
        shares = (start, val, val + split.val_fraction / split.folds, early + (1 - early) * (fold + 1) / split.folds)
        low, *others = (round(rows * share) for share in shares)
        borders.append((low if fold else 0, *others))
    return borders  # type: ignore[return-value]  # four shares give four borders


def _chunks(rows: int, split: SplitSettings) -> list[tuple[int, int, int, int]]:
    """Return the borders of train, validation and test inside each chunk; ``contiguous`` has one chunk."""
    chunks = 1 if split.kind == "contiguous" else split.blocks
    borders = []
    for low, high in itertools.pairwise(round(rows * place / chunks) for place in range(chunks + 1)):
        val, test = (
            low + round((high - low) * share)
            for share in (split.train_fraction, split.train_fraction + split.val_fraction)
        )
        borders.append((low, val, test, high))
    return borders


def _samples(first: int, stop: int, context: int, purge: int) -> range:
    """Return the samples whose days and label lie in the days first .. stop - 1."""
    return range(first + context - 1, max(first + context - 1, stop - purge))


def _require_validation(rows: int, context: int, split: SplitSettings, found: int) -> None:
    if found >= split.min_val_windows:
        return
    blocks = {"contiguous": 1, "chunks": split.blocks, "folds": split.folds}[split.kind]
    free = blocks * (context - 1 + split.purge)  # days around the validation blocks' borders
    needed = math.ceil((split.min_val_windows + free) / split.val_fraction)
    raise SplitError(
        f"expected at least {split.min_val_windows} validation windows, found {found} in {rows:,} days",
        f"{_CURE} About {needed:,} days are enough as it is; or raise split.val_fraction.",
    )
