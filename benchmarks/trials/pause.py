"""The trials of benchmarks/pause.py, and their log of batches."""

from __future__ import annotations

import os
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from ray import tune

BATCH_S, BATCHES, TRIALS = 0.02, 25, 2
SETTLE_S = 0.7


class Batches(tune.Trainable):
    """Train BATCHES batches a step and log the start of each; wait at the gate if there is one."""

    def setup(self, config: dict[str, Any]) -> None:
        self.log = Path(config["log"]).open("a", buffering=1)  # noqa: SIM115 - it stays open as long as the trial
        self.batch = 0

    def step(self) -> dict[str, Any]:
        for _ in range(BATCHES):
            if hasattr(self, "sweep_gate"):
                self.sweep_gate.wait()
            self.batch += 1
            self.log.write(f"{os.getpid()} {time.monotonic()}\n")
            time.sleep(BATCH_S)
        return {"loss": 1.0 / self.batch}

    def save_checkpoint(self, checkpoint_dir: str) -> dict[str, Any]:
        return {"batch": self.batch}

    def load_checkpoint(self, checkpoint: Any) -> None:
        self.batch = checkpoint["batch"]


def starts(log: Path) -> list[tuple[str, float]]:
    rows = [line.split() for line in log.read_text().splitlines()] if log.exists() else []
    return [(row[0], float(row[1])) for row in rows if len(row) == 2]


def wait_for_both(log: Path, after: float, timeout_s: float = 120.0) -> list[float]:
    """Wait for the first batch of each of the two workers after a moment; return their times."""
    deadline = time.monotonic() + timeout_s
    while time.monotonic() < deadline:
        first: dict[str, float] = {}
        for worker, at in starts(log):
            if at > after:
                first.setdefault(worker, at)
        if len(first) >= TRIALS:
            return sorted(first.values())[:TRIALS]
        time.sleep(0.05)
    raise SystemExit(f"no batch for {timeout_s:g} s")


def wait_until_quiet(log: Path, quiet_s: float = SETTLE_S) -> None:
    deadline = time.monotonic() + 120
    while time.monotonic() < deadline:
        before = len(starts(log))
        time.sleep(quiet_s)
        if len(starts(log)) == before:
            return
    raise SystemExit("the trials do not pause")


def gap(log: Path, after: float) -> tuple[float, list[float]]:
    """Find the pause: the last batch before each worker rested for a second, and the first batches after it."""
    by_worker: dict[str, list[float]] = {}
    for worker, at in starts(log):
        by_worker.setdefault(worker, []).append(at)
    last, first = after, []
    for times in by_worker.values():
        pairs = [(before, now) for before, now in pairwise(times) if now > after and now - before > 1.0]
        if pairs:
            last, first = max(last, pairs[0][0]), [*first, pairs[0][1]]
    if len(first) < TRIALS:
        raise SystemExit(f"expected {TRIALS} paused trials, found {len(first)}")
    return last, first
