"""The checkpoints of a trial: takes them when due, keeps the newest, resumes from one, waits while the disk is full."""

from __future__ import annotations

import logging
import pickle
import re
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ray import tune

from actors.trial.background_writer import BackgroundWriter
from actors.trial.full_disk import is_full, when_there_is_space
from actors.trial.heartbeat import Heartbeat, Phase
from actors.trial.memory_retry import Memory, once_alone
from supervisor.domain.checkpoint_name import checkpoint_step
from supervisor.domain.checkpoint_schedule import Schedule
from supervisor.filesystem import sync, sync_folder

KEEP_CHECKPOINTS = 2
"""The newest, and the one before it in case the newest was lost with the page cache."""


LOG = logging.getLogger("trainable")
_STATE = "sweep-state.pickle"
"""A name that the files of a user's own checkpoint do not have."""
_UNFINISHED = re.compile(r"\.fresh-\d+|\.(checkpoint|best)-\d+\.pt\.\d+\.part")


class Checkpoints:
    """The checkpoints of one trial in its `folder`; `trainable` has the methods of CheckpointFolders.

    `resumed_step` is the step that the trial resumed from, None from scratch; `unusable` are the paths of newer
    checkpoints that could not be read. `clock_s` gives the seconds that the attempt has worked.
    """

    def __init__(
        self,
        folder: Path,
        trainable: Any,
        heartbeat: Heartbeat,
        schedule: Schedule | None = None,
        clock_s: Callable[[], float] = time.monotonic,
    ) -> None:
        self._folder, self._trainable, self._heartbeat = folder, trainable, heartbeat
        self._schedule, self._clock_s, self._began_s = schedule or Schedule(), clock_s, clock_s()
        self._writer, self._disk_is_full = BackgroundWriter(), False
        self._finished: Path | None = None
        self.step = 0
        """The last whole step."""
        self.resumed_step: int | None = None
        self.unusable: list[str] = []

    @property
    def _now_s(self) -> float:
        return self._clock_s() - self._began_s

    def kept(self) -> list[tuple[int, Path]]:
        """Return the checkpoints on disk, by step."""
        if not self._folder.is_dir():
            return []
        named = ((checkpoint_step(path), path) for path in self._folder.iterdir())
        return sorted((step, path) for step, path in named if step is not None)

    def expect(self, size_bytes: int) -> None:
        """Take the size of a checkpoint before the first one is written."""
        self._schedule.expect(size_bytes)

    def is_over(self) -> bool:
        """Return whether one is due in the middle of an epoch. Raises the error of the last one that was written."""
        if self._writer.is_done:
            self._collect()
        return not self._writer.is_busy and (self._disk_is_full or self._schedule.is_over(self._now_s))

    def take(self, step: int) -> None:
        """Take the checkpoint of a step: write a copy in the background, or all of it at once without memory."""
        self._collect()
        taken_s, began = self._now_s, time.monotonic()
        job = None if self._disk_is_full or self._schedule.every_s == 0.0 else self._trainable.sweep_snapshot()
        if job is None:
            self._finished = self.save(step)
            self._schedule.wrote(taken_s, time.monotonic() - began)
            return

        def write() -> Path:
            path = self._save_now(step, job)
            self._schedule.wrote(taken_s, time.monotonic() - began)
            return path

        self._writer.start(write)

    def take_between_batches(self) -> None:
        """Take the checkpoint that is due in the middle of an epoch; its time is no batch's."""
        self._heartbeat.phase(Phase.PREPARING)
        self.take(self.step)
        self._heartbeat.begin_step()

    def write_now(self, write: Callable[[Path], Path]) -> Path:
        """Write a file of the trainable's own into the folder; wait while the disk is full."""
        return when_there_is_space(lambda: write(self._made_folder()), self._folder.parent, self._waits)

    def _made_folder(self) -> Path:
        self._folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        return self._folder

    def end_step(self, step: int, seconds: float, *, ended: bool) -> Path | None:
        """Take a checkpoint if one is due at the end of a step of `seconds`; return the newest that is written.

        A trial that has `ended` is not trained again for want of one, so then it is written at once.
        """
        self.step = step
        if self._writer.is_done:
            self._collect()
        if ended:
            self._end(step)
        elif not self._writer.is_busy and self._is_due(seconds):
            self.take(step)
        path, self._finished = self._finished, None
        return path

    def _is_due(self, seconds: float) -> bool:
        next_s = 0.0 if self._trainable.sweep_saves_between_batches else seconds
        return self._disk_is_full or self._schedule.is_due(self._now_s, next_s)

    def _end(self, step: int) -> None:
        self._collect()
        if self._trainable.sweep_saves_end or self._schedule.every_s == 0.0:
            self._finished = self.save(step)
        self.write_now(self._trainable.sweep_finish)

    def _collect(self) -> None:
        """Wait for the checkpoint at work; a full disk makes the next one due at once, and wait for space."""
        try:
            self._finished = self._writer.collect() or self._finished
        except Exception as error:
            if not is_full(error, self._folder):
                raise
            self._disk_is_full = True

    def save(self, step: int) -> Path:
        """Write the checkpoint of a step and return its path; wait while the disk is full."""
        # Its error does not matter any more: this one is newer.
        self.settle()
        path = when_there_is_space(lambda: self._save_now(step, None), self._folder.parent, self._waits)
        self._disk_is_full = False
        return path

    def settle(self) -> None:
        """Wait for the checkpoint at work, before its trial may go on elsewhere; an error is only logged."""
        try:
            self._writer.collect()
        except Exception:
            LOG.exception("a checkpoint in %s was not written", self._folder)

    def _waits(self) -> None:
        self._heartbeat.phase(Phase.WAITING)

    def _save_now(self, step: int, job: Callable[[Path, int], Path] | None) -> Path:
        if job is None:
            # Set at each try: only while it waits for space may the worker be silent without a bound.
            self._heartbeat.phase(Phase.PREPARING)
        path = (job or self._trainable.sweep_save)(self._made_folder(), step)
        # A later step could not be read when the trial resumed: it will be written anew.
        for _, old in [one for one in self.kept() if one[0] <= step][:-KEEP_CHECKPOINTS]:
            _remove(old)
        return path

    def resume(self, named: Path | None, reported: int | None, begin_anew: Callable[[], object]) -> int:
        """Load the newest checkpoint of an epoch that was reported; return its step, 0 when none could be read.

        `named` is the newest that the daemon knows, `reported` the last epoch that it has: a newer checkpoint of such
        an epoch was written shortly before its worker died. A torn file costs epochs, which run again, and not the
        trial. `reported` None: the trial begins anew, and files of an earlier life are removed. Raises ValueError for a
        name that is no checkpoint's.
        """
        wanted = 0 if named is None else checkpoint_step(named)
        if wanted is None:
            raise ValueError(f"expected a path that ends in checkpoint-STEP, found {named}: check the trial's row")
        self._remove_unfinished()
        limit = max(wanted, reported or 0)
        for at, old in self.kept():
            # A later one was never committed: its epochs run again.
            if reported is None or at > limit:
                _remove(old)
        step = self._load_newest(begin_anew)
        if named is not None and (step is None or step < wanted) and str(named) not in self.unusable:
            self.unusable.append(str(named))
        if step is not None:
            self.resumed_step = self.step = step
            return step
        if named is not None:
            LOG.warning("the trial begins from scratch: no checkpoint up to %s can be read", named)
        self._trainable.sweep_forget(self._folder)
        return 0

    def _load_newest(self, begin_anew: Callable[[], object]) -> int | None:
        """Load the newest checkpoint that can be read; return its step."""
        for step, path in reversed(self.kept()):
            try:
                self._trainable.sweep_load(path)
            except Exception:
                # A damaged file may raise any error in a user's code. Half loaded is worse than not loaded.
                LOG.exception("the checkpoint %s cannot be read", path)
                self.unusable.append(str(path))
                begin_anew()
            else:
                return step
        return None

    def _remove_unfinished(self) -> None:
        """Remove what a killed worker left half written: each may be as large as a checkpoint."""
        if self._folder.is_dir():
            for path in self._folder.iterdir():
                if _UNFINISHED.fullmatch(path.name):
                    _remove(path)


def _remove(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink(missing_ok=True)


class CheckpointFolders(tune.Trainable):
    """The last base of a user's class: a checkpoint is a folder, unless the class overrides these methods."""

    sweep_saves_between_batches = False
    """The trial takes a checkpoint at any batch when it is due, not only at the end of a step."""

    sweep_saves_end = True
    """The last state of a trial that ends is saved, too: nothing else holds what the user's code has trained."""

    def sweep_snapshot(self) -> Callable[[Path, int], Path] | None:
        """Return a way to write the present state while the trial goes on; None: `sweep_save` must write it now."""
        return None

    def sweep_finish(self, folder: Path) -> Path:
        """Write what must be on the disk before the trial ends; return where."""
        return folder

    def sweep_forget(self, folder: Path) -> None:
        """Remove what earlier attempts left beside checkpoints, for a trial that begins from scratch."""

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
