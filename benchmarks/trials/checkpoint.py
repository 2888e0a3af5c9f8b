"""Train one 20M trial of benchmarks/checkpoints.py, with its checkpoints and without Ray, and note all in a diary."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from types import SimpleNamespace
from typing import Any

from actors.trial.checkpoints import CheckpointFolders, Checkpoints
from actors.trial.patchtst import PatchTSTTrainable
from actors.trial.result_keys import STEP
from supervisor.domain.checkpoint_schedule import Schedule

EPOCHS, BATCH = 6, 64


class Measured(PatchTSTTrainable, CheckpointFolders):
    """Notes each batch, and the size and time of each checkpoint."""

    note: Callable[[Mapping[str, Any]], None]

    def batch(self) -> float:
        """Note that a batch begins, or a part of the validation (without `at`)."""
        assert self._session is not None
        self.note({"batch_s": time.monotonic(), "at": self._session.cursor})
        return 0.0

    def sweep_save(self, folder: Path, step: int) -> Path:
        return self._measured(super().sweep_save, folder, step, held_s=None)

    def sweep_snapshot(self) -> Callable[[Path, int], Path] | None:
        began = time.monotonic()
        job = super().sweep_snapshot()
        held_s = time.monotonic() - began
        return None if job is None else lambda folder, step: self._measured(job, folder, step, held_s)

    def _measured(self, write: Callable[[Path, int], Path], folder: Path, step: int, held_s: float | None) -> Path:
        began = time.monotonic()
        path = write(folder, step)
        took_s = time.monotonic() - began
        # Without a copy the training stands still until the file is written.
        held_s = took_s if held_s is None else held_s
        self.note({"bytes": path.stat().st_size, "write_s": took_s, "held_s": held_s})
        return path


def trial_in(folder: Path, config: dict[str, Any], every_s: float) -> Measured:
    """Return the trial in `folder`: a new one, or one that a killed process left there."""
    made: Any = object.__new__(Measured)  # without Ray's constructor, which wants a Ray worker's environment
    diary = (folder / "diary").open("a", buffering=1)
    made.note = lambda line: diary.write(json.dumps(line) + "\n")
    made.sweep_extended = False
    made.sweep_final, made.sweep_memory, made.sweep_seed, made.sweep_number = False, None, 1, 0
    made.sweep_gate = SimpleNamespace(wait=made.batch, heartbeat=None)
    beat: Any = SimpleNamespace(phase=lambda _: None, begin_step=lambda: None)
    made.sweep_checkpoints = Checkpoints(folder / "0", made, beat, Schedule(every_s))
    made.setup(config)
    trial: Measured = made
    return trial


def results_in(folder: Path) -> dict[int, float]:
    """Return the losses that were committed, by epoch."""
    file = folder / "results"
    lines = file.read_text().splitlines() if file.exists() else []
    return dict(map(json.loads, lines))


def main() -> None:
    folder, every_s = Path(sys.argv[1]), float(sys.argv[2])
    config = json.loads((folder / "config.json").read_text())
    trial = trial_in(folder, config, every_s)
    begun = (folder / "0").exists()
    reported = max(results_in(folder), default=0) if begun or results_in(folder) else None
    trial.sweep_checkpoints.resume(None, reported, lambda: trial.setup(config))
    trial.note({"begun_s": time.monotonic(), "resumed": trial.sweep_checkpoints.resumed_step})
    done = False
    while not done:
        result = trial.step()
        done = bool(result["done"])
        trial.sweep_checkpoints.end_step(result[STEP], result["time_this_iter_s"], ended=done)
        with (folder / "results").open("a") as file:
            file.write(json.dumps([result[STEP], result["val_loss"]]) + "\n")
    trial.note({"ended_s": time.monotonic()})


if __name__ == "__main__":
    main()
