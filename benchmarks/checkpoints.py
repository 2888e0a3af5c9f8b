"""Measure checkpoints by time beside checkpoints at each epoch: bytes, time, and what kills cost.

    python -m benchmarks.checkpoints                # two trials of 20M parameters, then ten kills: about 15 minutes
    python -m benchmarks.checkpoints --kills 0

Two trials train six short epochs at the same time, on one core each: one saves itself at the end of each epoch, before
the next one begins, the other every `--every` seconds, beside the training. Then the second one is killed (SIGKILL) at
random moments and begins again each time; its losses must be those of the undisturbed one, to the bit.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from itertools import pairwise
from pathlib import Path
from typing import Any

from benchmarks.machine import machine
from benchmarks.trials.checkpoint import BATCH, EPOCHS, results_in
from supervisor.processes.environment import thread_environment
from training.data.dataset_files import build_dataset
from training.data.imports import import_sample
from training.data.manifest import dataset_path
from training.data.windows import load_windows
from training.settings import TrialSettings

ROOT = Path(__file__).parents[1]
POLL_S = 0.1


def config_of(dataset: Path, train_fraction: float) -> dict[str, Any]:
    return {
        "budget": "20M", "horizon": 1, "grid": {"d_model": [512], "n_layers": [6], "n_heads": [4], "d_ff_ratio": [4]},
        "shape_rank": 0, "heads_log2": 2, "learning_rate": 1e-4, "dataset": str(dataset), "seed": 1,
        "batch_size": BATCH, "max_epochs": EPOCHS, "patience": EPOCHS, "device": "cpu", "threads": 1,
        "split": {"train_fraction": train_fraction, "val_fraction": 0.05, "min_val_windows": 50},
    }  # fmt: skip


class Trial:
    """A trial in a folder and a process of its own."""

    def __init__(self, folder: Path, config: dict[str, Any], every_s: float) -> None:
        self.folder, self._every_s = folder, every_s
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir()
        (folder / "config.json").write_text(json.dumps(config))
        self.begin()

    def begin(self) -> None:
        command = [sys.executable, "-m", "benchmarks.trials.checkpoint", str(self.folder), str(self._every_s)]
        with (self.folder / "output").open("ab") as output:
            environment = {**os.environ, **thread_environment(1)}
            self.process = subprocess.Popen(command, cwd=ROOT, env=environment, stdout=output, stderr=output)

    def end(self) -> None:
        if self.process.wait() != 0:
            raise RuntimeError(f"the trial ended with {self.process.returncode}:\n{self._output()}")

    def _output(self) -> str:
        return (self.folder / "output").read_text()[-2000:]

    def lines(self, key: str) -> list[dict[str, Any]]:
        """Return the lines of the diary that have `key`; a line that a kill cut short is left out."""
        file = self.folder / "diary"
        text = file.read_text() if file.exists() else ""
        found = [json.loads(line) for line in text.splitlines(keepends=True) if line.endswith("}\n")]
        return [line for line in found if key in line]

    def kill_after(self, seconds: float) -> None:
        """Kill the process once it has trained for so long; not if it has ended."""
        starts = len(self.lines("begun_s"))
        while len(self.lines("begun_s")) == starts and self.process.poll() is None:
            time.sleep(POLL_S)
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline and self.process.poll() is None:
            time.sleep(POLL_S)
        self.process.kill()
        self.process.wait()


def report(name: str, trial: Trial) -> float:
    """Print what the checkpoints of a trial cost; return the seconds that it trained."""
    kept, begun = trial.lines("bytes"), trial.lines("begun_s")[0]["begun_s"]
    seconds = trial.lines("ended_s")[0]["ended_s"] - begun
    size, write_s, held_s = (sum(line[key] for line in kept) for key in ("bytes", "write_s", "held_s"))
    print(
        f"{name:<12} {len(kept):>3} checkpoints {size / 1e6:>8,.0f} MB   written in {write_s:>5.1f} s,"
        f" training stood still for {held_s:>5.1f} s of {seconds:,.0f} s ({held_s / seconds:.2%})"
    )
    return float(seconds)


def trained_again(trial: Trial) -> list[float]:
    """Return the seconds of work that each restart repeated: batches that had begun before, at the median's time."""
    batches = [(line["batch_s"], tuple(line["at"])) for line in trial.lines("batch_s") if line["at"] is not None]
    batch_s = statistics.median(after[0] - before[0] for before, after in pairwise(batches))
    per_epoch = max(batch for _, (_, batch) in batches) + 1
    places = [epoch * per_epoch + batch for _, (epoch, batch) in batches]
    return [(before + 1 - after) * batch_s for before, after in pairwise(places) if after <= before]


def killed(folder: Path, config: dict[str, Any], every_s: float, kills: int, seconds: float, seed: int) -> Trial:
    """Train a trial that is killed so often, at moments that `seed` draws from an undisturbed trial's `seconds`."""
    draw = random.Random(seed)
    moments = sorted(draw.uniform(0.0, seconds) for _ in range(kills))
    trial = Trial(folder, config, every_s)
    for before, moment in zip([0.0, *moments], moments, strict=False):
        trial.kill_after(moment - before)
        trial.begin()
    trial.end()
    return trial


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--every", type=float, default=60.0, help="checkpoint_every_s of the second trial")
    parser.add_argument("--train", type=float, default=0.1, help="share of the days to train on: the epochs' length")
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--seed", type=int, default=7)
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory(prefix="ckpt") as name:
        folder = Path(name)
        import_sample(folder / "data")
        build_dataset("SP500", "a25", folder / "data")
        config = config_of(dataset_path(folder / "data", "SP500"), arguments.train)
        windows = len(load_windows(TrialSettings.from_config(config)).train)
        print(f"{machine()}\n20M parameters, {EPOCHS} epochs of {windows} windows, one core each\n")
        each, timed = Trial(folder / "each", config, 0.0), Trial(folder / "timed", config, arguments.every)
        each.end()
        timed.end()
        report("each epoch", each)
        seconds = report(f"every {arguments.every:g} s", timed)
        if results_in(each.folder) != results_in(timed.folder):
            raise RuntimeError("expected the same losses of both trials, found others")
        if arguments.kills:
            trial = killed(folder / "killed", config, arguments.every, arguments.kills, seconds, arguments.seed)
            again = trained_again(trial)
            same = results_in(trial.folder) == results_in(timed.folder)
            print(f"\n{arguments.kills} kills: {', '.join(f'{one:.0f}' for one in again)} s of work trained again,"
                  f" at most {max(again, default=0.0):.0f} s at once, {sum(again):.0f} s in all;"
                  f" losses {'equal, to the bit' if same else 'DIFFER'}")  # fmt: skip


if __name__ == "__main__":
    main()
