"""The checkpoints of a trial: writes them, keeps the newest, resumes from one, and waits while the disk is full."""

from __future__ import annotations

import errno
import logging
import pickle
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from actors.trial.heartbeat import Heartbeat, Phase
from actors.trial.memory_retry import Memory, once_alone
from actors.trial.result_keys import checkpoint_step
from supervisor.filesystem import free_bytes, sync, sync_folder

KEEP_CHECKPOINTS = 2
"""The newest, and the one before it in case the newest was lost with the page cache."""

POLL_S = 1.0
NEARLY_FULL_BYTES = 1 << 16
"""With less free space, an error without a reason (torch only says that its position is wrong) means a full disk."""

LOG = logging.getLogger("trainable")
_STATE = "sweep-state.pickle"
"""A name that the files of a user's own checkpoint do not have."""


def is_full(error: BaseException, folder: Path) -> bool:
    """Return whether `error` came from a full disk: by its causes, or by the space left at `folder`."""
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, OSError) and cause.errno in (errno.ENOSPC, errno.EDQUOT):
            return True
        cause = cause.__cause__ or cause.__context__
    try:
        return free_bytes(folder) < NEARLY_FULL_BYTES
    except OSError:
        return False


def when_there_is_space(
    save: Callable[[], Path], folder: Path, waits: Callable[[], object], sleep: Callable[[float], None] = time.sleep
) -> Path:
    """Return the result of `save`, called again while the disk of `folder` is full; call `waits` before each pause.

    Without a bound: only a person can make space, and the driver can always end its trials. Raises any other error
    of `save`.
    """
    logged = False
    while True:
        try:
            return save()
        except Exception as error:
            # A user's own code may turn a full disk into any error.
            if not is_full(error, folder):
                raise
            if not logged:
                LOG.warning("no space is left at %s: the trial waits with its checkpoint: %s", folder, error)
                logged = True
        waits()
        sleep(POLL_S)


class Checkpoints:
    """The checkpoints of one trial in its `folder`; `write` and `read` are the trainable's sweep_save and sweep_load.

    `resumed_step` is the step that the trial resumed from, None from scratch; `unusable` are the paths of newer
    checkpoints that could not be read.
    """

    def __init__(
        self, folder: Path, write: Callable[[Path, int], Path], read: Callable[[Path], object], heartbeat: Heartbeat
    ) -> None:
        self._folder, self._write, self._read, self._heartbeat = folder, write, read, heartbeat
        self.resumed_step: int | None = None
        self.unusable: list[str] = []

    def kept(self) -> list[tuple[int, Path]]:
        """Return the checkpoints on disk, by step."""
        if not self._folder.is_dir():
            return []
        named = ((checkpoint_step(path), path) for path in self._folder.iterdir())
        return sorted((step, path) for step, path in named if step is not None)

    def save(self, step: int) -> Path:
        """Write the checkpoint of a step and return its path; wait while the disk is full."""
        waits = lambda: self._heartbeat.phase(Phase.WAITING)  # noqa: E731 - shorter than a method
        return when_there_is_space(lambda: self._save_now(step), self._folder.parent, waits)

    def _save_now(self, step: int) -> Path:
        # Set at each try: only while it waits for space may the worker be silent without a bound.
        self._heartbeat.phase(Phase.PREPARING)
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        path = self._write(self._folder, step)
        kept = self.kept()
        # A later step is of an attempt that counts no more: a retried trial begins anew in its old folder.
        newest = [old for at, old in kept if at <= step][-KEEP_CHECKPOINTS:]
        for old in (old for _, old in kept if old not in newest):
            shutil.rmtree(old) if old.is_dir() else old.unlink(missing_ok=True)
        return path

    def resume(self, newest: Path, begin_anew: Callable[[], object]) -> int:
        """Load `newest`, or else the one before it; return its step, 0 when none could be read.

        A torn file costs epochs, which run again, and not the trial. Raises ValueError for a name that is no
        checkpoint's.
        """
        limit = checkpoint_step(newest)
        if limit is None:
            raise ValueError(f"expected a path that ends in checkpoint-STEP, found {newest}: check the trial's row")
        # Newer ones were never committed: their epochs run again.
        kept = [(step, path) for step, path in self.kept() if step <= limit]
        if limit not in dict(kept):
            self.unusable.append(str(newest))
        for step, path in reversed(kept):
            try:
                self._read(path)
            except Exception:
                # A damaged file may raise any error in a user's code. Half loaded is worse than not loaded.
                LOG.exception("the checkpoint %s cannot be read", path)
                self.unusable.append(str(path))
                begin_anew()
            else:
                self.resumed_step = step
                return step
        LOG.warning("the trial begins from scratch: no checkpoint up to %s can be read", newest)
        return 0


class CheckpointFolders(tune.Trainable):
    """The last base of a user's class: a checkpoint is a folder, unless the class overrides these methods."""

    def sweep_release(self) -> None:
        """Free memory; the next call is a reset or the end. For classes that hold much."""

    def sweep_smaller(self) -> Memory | None:
        """Return settings with which the next attempt takes less memory; None when nothing is left to try.

        By default one more attempt with the machine to itself.
        """
        return once_alone(self.sweep_memory)  # type: ignore[attr-defined]  # of SupervisedTrainable

    def sweep_save(self, folder: Path, step: int) -> Path:
        """Write the checkpoint of a step into the trial's folder, atomically; return its path."""
        final, fresh = folder / f"checkpoint-{step}", folder / f".fresh-{step}"
        if fresh.exists():
            shutil.rmtree(fresh)
        fresh.mkdir(mode=0o700)
        state = self.save_checkpoint(str(fresh))
        if isinstance(state, dict):
            (fresh / _STATE).write_bytes(pickle.dumps(state))
        # After a power cut no name may lead to an empty checkpoint.
        for path in (*fresh.rglob("*"), fresh):
            if not path.is_symlink():
                (sync_folder if path.is_dir() else sync)(path)
        if final.exists():
            shutil.rmtree(final)
        fresh.rename(final)
        sync_folder(folder)
        return final

    def sweep_load(self, path: Path) -> None:
        """Load a checkpoint that `sweep_save` wrote."""
        state = path / _STATE
        # Only we can write it: the run's folder is 0700.
        taken: Any = pickle.loads(state.read_bytes()) if state.exists() else str(path)  # noqa: S301
        self.load_checkpoint(taken)
