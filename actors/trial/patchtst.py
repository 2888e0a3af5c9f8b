"""The built-in trainable: trains one PatchTST, one epoch per step."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from actors.trial.best_epoch import BestEpoch
from actors.trial.checkpoints import Checkpoints
from actors.trial.gate import Gate
from actors.trial.memory_claims import MemoryClaims
from actors.trial.memory_retry import ALONE, Memory, once_alone
from actors.trial.result_keys import END, ERROR, RECORD, STEP
from supervisor.domain.lifecycle import EndReason
from supervisor.processes.environment import thread_environment
from training.errors import Diverged
from training.memory import MemoryEstimate, MemoryLimit
from training.settings import derive_seed

if TYPE_CHECKING:
    from training.loop import Epoch
    from training.session import TrainingSession

STATE_FILE = "state.pt"


class CheckpointDue(Exception):
    """A checkpoint is due in the middle of an epoch. Only an exception leaves the loop with its state whole."""


class PatchTSTTrainable(tune.Trainable):
    """Runs under `supervised.SupervisedTrainable`, which sets its gate, number, seed and memory."""

    sweep_gate: Gate
    sweep_batches = True
    sweep_own_keys = True
    sweep_number: int
    sweep_seed: int
    sweep_final: bool
    """The trial follows the search: the weights of its best epoch are kept for the test."""
    sweep_extended: bool
    """A person wants more epochs of the trial than it had when its checkpoint was written."""
    sweep_memory: Memory | None

    sweep_saves_between_batches = True
    sweep_saves_end = False
    sweep_checkpoints: Checkpoints

    _best: BestEpoch
    _saved_at: tuple[int, int] | None = None
    """The batch before which the last checkpoint in the middle of an epoch was taken."""
    _session: TrainingSession | None = None

    def setup(self, config: dict[str, Any]) -> None:
        self._open(config)

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._open(new_config)
        return True

    def _open(self, config: dict[str, Any]) -> None:
        self.cleanup()
        # OpenMP reads these once, when torch is loaded.
        os.environ.update(thread_environment(int(config.get("threads", 1))))
        from training.session import TrainingSession

        seed = config.get("seed", derive_seed(self.sweep_seed, self.sweep_number))
        self._session = TrainingSession(
            {**config, "seed": seed}, gate=self._at_batch, limit=self._limit(), claim=self._claim
        )
        self._best, self._saved_at = BestEpoch(self._session, final=self.sweep_final), None
        self.sweep_checkpoints.expect(self._session.checkpoint_bytes)
        self._record = self._session.record()

    def _claim(self, device: str, plan: Callable[[int], MemoryEstimate]) -> MemoryEstimate:
        heartbeat = self.sweep_gate.heartbeat
        return plan(0) if heartbeat is None else MemoryClaims(heartbeat).claim(device, plan)

    def _limit(self) -> MemoryLimit | None:
        given = {key: value for key, value in (self.sweep_memory or {}).items() if key != ALONE}
        return MemoryLimit(**given) if given else None

    def sweep_smaller(self) -> Memory | None:
        """Offer half the micro-batch, at last recomputing; a session that could not be built: one attempt alone."""
        if self._session is None:
            return once_alone(self.sweep_memory)
        limit = self._session.smaller()
        return None if limit is None else asdict(limit)

    @property
    def sweep_refused_device(self) -> str | None:
        """Return why the trial trains on the CPU although there is an accelerator; None where it need not."""
        return None if self._session is None else self._session.compared.refused

    def _opened(self) -> TrainingSession:
        if self._session is None:
            raise RuntimeError("expected an open training session, found none: setup() failed")
        return self._session

    def _at_batch(self) -> float:
        if self.sweep_checkpoints.is_over():
            cursor = self._opened().cursor
            # However short the interval, there is a batch between two checkpoints.
            if cursor is not None and cursor != self._saved_at:
                self._saved_at = cursor
                raise CheckpointDue
        return self.sweep_gate.wait()

    def step(self) -> dict[str, Any]:
        try:
            epoch = self._epoch()
        except Diverged as error:
            self._claim_nothing()
            return {END: EndReason.DIVERGED.value, ERROR: str(error), RECORD: self._record, "done": True}
        if epoch.finished:
            # Its worker keeps the session until it gets another trial.
            self._claim_nothing()
        self._best.forget_stored()
        write = self._best.improved() if epoch.best_epoch == epoch.number else None
        if write is not None:
            self.sweep_checkpoints.write_now(write)
        return {**result_of(epoch), RECORD: self._record}

    def _epoch(self) -> Epoch:
        """Train to the end of the running epoch, and take the checkpoints that are due before it."""
        while True:
            try:
                return self._opened().step()
            except CheckpointDue:
                # Taken outside of this block: the error's traceback holds the tensors of the loop.
                pass
            self.sweep_checkpoints.take_between_batches()

    def sweep_save(self, folder: Path, step: int) -> Path:
        """Write a checkpoint as one file, atomically; return its path."""
        return self._best.before(self._opened().save)(folder, step)

    def sweep_snapshot(self) -> Callable[[Path, int], Path] | None:
        state = self._opened().snapshot()
        if state is None:
            return None
        from training.checkpoint import write_checkpoint

        return self._best.before(lambda path: write_checkpoint(path, state))

    def sweep_finish(self, folder: Path) -> Path:
        """Write the best weights under the name that the test reads."""
        return self._best.settle(folder)

    def sweep_forget(self, folder: Path) -> None:
        from training.best_weights import forget_later

        forget_later(folder, None)

    def sweep_load(self, path: Path) -> None:
        from training.best_weights import forget_later

        self._opened().load(path, longer=self.sweep_extended)
        forget_later(path.parent, self._opened().best_epoch)
        # The checkpoint's micro-batch may be smaller than the chosen one.
        self._record = self._opened().record()

    def save_checkpoint(self, checkpoint_dir: str) -> None:
        """Save by Tune's own method, for schedulers that pause and resume with it."""
        self._opened().save(Path(checkpoint_dir) / STATE_FILE)

    def load_checkpoint(self, checkpoint: Any) -> None:
        self._opened().load(Path(checkpoint) / STATE_FILE)

    def sweep_release(self) -> None:
        """Free model, optimiser and data."""
        self.cleanup()

    def cleanup(self) -> None:
        if self._session is not None:
            self._session.close()
            self._session = None
            self._best.free()
            self._claim_nothing()

    def _claim_nothing(self) -> None:
        if self.sweep_gate.heartbeat is not None:
            self.sweep_gate.heartbeat.claim(0, 0)


def result_of(epoch: Epoch) -> dict[str, Any]:
    """Return an epoch as a Tune result. `time_this_iter_s` is training time: seconds without pauses."""
    result: dict[str, Any] = {
        **epoch.metrics,
        STEP: epoch.number,
        "train_loss": epoch.train_loss,
        "val_loss": epoch.val_loss,
        "best_val_loss": epoch.best_val_loss,
        "best_epoch": epoch.best_epoch,
        "learning_rate": epoch.learning_rate,
        "time_this_iter_s": epoch.seconds,
        "paused_s": epoch.paused_s,
        "samples": epoch.samples,
        "done": epoch.finished,
    }
    if epoch.end_reason is not None:
        result[END] = epoch.end_reason
    return result
