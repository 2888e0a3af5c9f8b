"""Define the errors of the training room: one tree, each with its facts as attributes and a remedy.

Every error passes its facts to ``Exception.__init__`` in order, so that it survives pickling between processes.
"""

from __future__ import annotations

from pathlib import Path


class TrainingError(Exception):
    """Training cannot go on. The message says the fact and its place, ``remedy`` the cure."""

    remedy: str = "See docs/training.md."
    outside: bool = False
    """Return True if the cause lies outside (the machine), so that the same request may succeed later."""

    def __init__(self, message: str, remedy: str | None = None) -> None:
        super().__init__(message, remedy)
        self.message = message
        if remedy is not None:
            self.remedy = remedy

    def __str__(self) -> str:
        return self.message


class SettingsError(TrainingError, ValueError):
    """A key or value of a trial's config is not valid. Attributes: ``key``, ``value``."""

    def __init__(self, key: str, value: object, cause: str, remedy: str) -> None:
        super().__init__(f"{key} = {value!r}: {cause}", remedy)
        self.args = (key, value, cause, remedy)
        self.key = key
        self.value = value


class GridError(TrainingError, ValueError):
    """No architecture of the grid is near enough to the budget, or an ordinal lies outside the grid."""


class DoesNotFit(TrainingError):
    """The trial does not fit the memory with any micro-batch. Attributes: both figures, in bytes."""

    remedy = "Take a smaller budget, a shorter context, a machine with more memory, or fewer trials at once."
    outside = True

    def __init__(self, needed_bytes: int, available_bytes: int) -> None:
        super().__init__(
            f"the trial needs at least {needed_bytes / 2**30:.2f} GiB; {available_bytes / 2**30:.2f} GiB are available"
        )
        self.args = (needed_bytes, available_bytes)
        self.needed_bytes = needed_bytes
        self.available_bytes = available_bytes


class BadFile(TrainingError):
    """A market data file cannot be imported; nothing was changed. Attributes: ``path``, ``place``, ``cause``.

    ``place`` is "line 8" of a text file or "row 7" of a table without lines; None for a fault of the whole file.
    """

    def __init__(self, path: Path, place: str | None, cause: str, remedy: str) -> None:
        where = f"{path}" if place is None else f"{path}, {place}"
        super().__init__(f"{where}: {cause}", remedy)
        self.args = (path, place, cause, remedy)
        self.path = path
        self.place = place
        self.cause = cause


class DatasetError(TrainingError):
    """A registered dataset is missing, damaged or differs from its manifest."""

    remedy = "Run `supervisord data verify`, then import or build the dataset again."


class FetchError(TrainingError):
    """A download failed: the optional library, the network or the ticker is missing."""

    remedy = "Check the network and the ticker, or import a file with `supervisord data import`."


class SplitError(TrainingError, ValueError):
    """The dataset cannot be split so: too few validation windows, or labels of one class only."""


class SealedTestError(TrainingError):
    """The sealed test split was read without a TestOpening, or opened a second time."""

    remedy = "Open the test split once, at the end, with a recorded TestOpening."


class Diverged(TrainingError):
    """The loss is not finite or has exploded. Attributes: ``epoch``, ``batch`` (both from 1), ``loss`` (nats)."""

    remedy = "Lower the learning rate, lengthen the warm-up or clip gradients more; this trial has ended."

    def __init__(self, epoch: int, batch: int, loss: float) -> None:
        super().__init__(f"the loss became {loss} in epoch {epoch}, at or before batch {batch}")
        self.args = (epoch, batch, loss)
        self.epoch = epoch
        self.batch = batch
        self.loss = loss


class CheckpointError(TrainingError):
    """A checkpoint is missing, truncated, changed, of another schema or of another trial."""

    remedy = "Resume from an older checkpoint, or start the trial again."
