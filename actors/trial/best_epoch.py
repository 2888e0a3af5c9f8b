"""Keeps the weights of a final trial's best epoch: in the host's memory until they are on the disk."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from training.session import TrainingSession

Write = Callable[[Path, int], Path]
"""Writes a checkpoint of a step into a folder; returns its path."""


class BestEpoch:
    """The best epoch of one attempt of a trial in `session`. Only a `final` trial's weights are kept, for the test.

    A checkpoint names its best epoch, so the epoch's weights are stored before the checkpoint is.
    """

    def __init__(self, session: TrainingSession, *, final: bool) -> None:
        self._session, self._final = session, final
        self._copy: Mapping[str, Any] | None = None
        self._stored: int | None = None
        """The epoch whose weights a writer has stored last."""
        self._named: tuple[int, ...] = ()
        """The best epochs that the last two checkpoints name."""

    def improved(self) -> Callable[[Path], Path] | None:
        """Copy the weights of the epoch that has ended as the best; without memory return a way to write them."""
        if not self._final:
            return None
        self._copy = self._session.weights(copied=True)
        return self._write if self._copy is None else None

    def forget_stored(self) -> None:
        """Free the copy when it is on the disk."""
        if self._copy is not None and self._copy["epoch"] == self._stored:
            self._copy = None

    def free(self) -> None:
        """Free the copy: the worker goes on without this trial."""
        self._copy = None

    def _write(self, folder: Path) -> Path:
        from training.best_weights import keep_weights

        weights = self._session.weights(copied=False)
        assert weights is not None, "only a copy may lack memory"
        return keep_weights(weights, folder)

    def _store(self, copy: Mapping[str, Any] | None, folder: Path) -> None:
        """Store a copy once; a writer's thread may call it."""
        if copy is not None and copy["epoch"] != self._stored:
            from training.best_weights import keep_weights

            keep_weights(copy, folder)
            self._stored = copy["epoch"]

    def before(self, write: Callable[[Path], object]) -> Write:
        """Return a way to store the present best weights, and then to `write` a checkpoint that names them."""
        copy, epoch = self._copy, self._session.best_epoch
        named = self._named = (*self._named, *([] if epoch is None else [epoch]))[-2:]

        def both(folder: Path, step: int) -> Path:
            self._store(copy, folder)
            path = folder / f"checkpoint-{step}.pt"
            write(path)
            if self._final:
                from training.best_weights import forget_earlier

                forget_earlier(folder, named)
            return path

        return both

    def settle(self, folder: Path) -> Path:
        """Store the best weights under the name that the test reads; return their path, `folder` without any."""
        epoch = self._session.best_epoch
        if not self._final or epoch is None:
            return folder
        from training.best_weights import settle

        self._store(self._copy, folder)
        return settle(folder, epoch)
