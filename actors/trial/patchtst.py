"""The built-in trainable: trains one PatchTST, one epoch per step."""

from __future__ import annotations

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ray import tune

from actors.trial.gate import Gate
from actors.trial.memory_retry import ALONE, Memory, once_alone
from actors.trial.result_keys import END, ERROR, RECORD, STEP
from supervisor.domain.lifecycle import EndReason
from supervisor.processes.environment import thread_environment
from training.errors import Diverged
from training.memory import MemoryLimit
from training.settings import derive_seed

if TYPE_CHECKING:
    from training.loop import Epoch
    from training.session import TrainingSession

STATE_FILE = "state.pt"


class PatchTSTTrainable(tune.Trainable):
    """Runs under `supervised.SupervisedTrainable`, which sets its gate, number, seed and memory."""

    sweep_gate: Gate
    sweep_batches = True
    sweep_own_keys = True
    sweep_number: int
    sweep_seed: int
    sweep_final: bool
    """The trial follows the search: the weights of its best epoch are kept for the test."""
    sweep_memory: Memory | None

    _best_step: int | None = None
    """The last epoch, if it is the best so far and not saved yet."""
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
        self._session = TrainingSession({**config, "seed": seed}, gate=self.sweep_gate.wait, limit=self._limit())
        self._record = self._session.record()

    def _limit(self) -> MemoryLimit | None:
        given = {key: value for key, value in (self.sweep_memory or {}).items() if key != ALONE}
        return MemoryLimit(**given) if given else None

    def sweep_smaller(self) -> Memory | None:
        """Offer half the micro-batch, at last recomputing; a session that could not be built: one attempt alone."""
        if self._session is None:
            return once_alone(self.sweep_memory)
        limit = self._session.smaller()
        return None if limit is None else asdict(limit)

    def _opened(self) -> TrainingSession:
        if self._session is None:
            raise RuntimeError("expected an open training session, found none: setup() failed")
        return self._session

    def step(self) -> dict[str, Any]:
        try:
            epoch = self._opened().step()
        except Diverged as error:
            return {END: EndReason.DIVERGED.value, ERROR: str(error), RECORD: self._record, "done": True}
        self._best_step = epoch.number if epoch.best_epoch == epoch.number else None
        return {**result_of(epoch), RECORD: self._record}

    def sweep_save(self, folder: Path, step: int) -> Path:
        """Write a checkpoint as one file, atomically; return its path."""
        path = folder / f"checkpoint-{step}.pt"
        self._opened().save(path)
        if self.sweep_final and self._best_step == step:
            from training.best_weights import keep_weights

            keep_weights(path, folder)
        # A later save of the same step has a part of the next epoch too.
        self._best_step = None
        return path

    def sweep_load(self, path: Path) -> None:
        self._opened().load(path)
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
