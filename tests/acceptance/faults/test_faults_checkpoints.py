"""Test faults of checkpoints with real trials on a real Ray: a full disk, a damaged file."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.acceptance.conftest import Sweep, driver_pid
from tests.acceptance.faults.evidence import audited, recorded, stored
from tests.acceptance.mounts import memory_of, mounted

CLASS = """\
import os, time
from pathlib import Path
from ray import tune


class Saves(tune.Trainable):
    def setup(self, config):
        self.count, self.config = 0, config

    def step(self):
        time.sleep(0.4)
        self.count += 1
        return {"loss": 1.0 / self.count + self.config["x"] ** 2, "done": self.count == 8}

    def save_checkpoint(self, folder):
        # More than the disk has left when it is full, and one write(2) like any other.
        (Path(folder) / "weights").write_bytes(os.urandom(256 * 1024))
        (Path(folder) / "count").write_text(str(self.count))

    def load_checkpoint(self, folder):
        assert len((Path(folder) / "weights").read_bytes()) == 256 * 1024, "it was cut short"
        self.count = int((Path(folder) / "count").read_text())
"""
PLAN = """\
name: saving
description: a class that keeps checkpoints, on a small disk
trainable: saves:Saves
seed: 1
metric: loss
mode: min
space:
  x: {type: float, low: 0, high: 1}
max_trials: 1
max_epochs: 8
concurrency: 1
resources: {cpu: 1}
sampler: {kind: random}
pruner: {kind: none}
checkpoint_every_s: 0
hardware:
  {disk_pause_bytes: 4e6, disk_hold_bytes: 8e6, pause_dwell_s: 1, min_off_s: 1, ease_after_s: 2, hold_min_s: 1}
"""


@pytest.fixture
def runs_on_a_small_disk(sweep: Sweep) -> Iterator[Sweep]:
    """Put the runs and their checkpoints on a file system of 32 MiB; the store is elsewhere."""
    with mounted(sweep.home.runs, *memory_of("32m")):
        (sweep.folder / "saves.py").write_text(CLASS)
        (sweep.folder / "saving.yaml").write_text(PLAN)
        yield sweep


def results(sweep: Sweep) -> int:
    return int(stored(sweep.home, "SELECT count(*) AS n FROM result")[0]["n"])


def newest_checkpoint(sweep: Sweep) -> Path:
    (row,) = stored(sweep.home, "SELECT checkpoint FROM trial WHERE state IN ('RUNNING', 'PAUSED')")
    return Path(row["checkpoint"])


def stands(sweep: Sweep) -> None:
    """Wait until the epoch that ran when the pause came has been reported."""
    seen: list[int] = []

    def settled(_: object) -> bool:
        seen.append(results(sweep))
        return len(seen) > 20 and len(set(seen[-20:])) == 1

    sweep.until("the trial stands", settled)


@pytest.mark.slow
@pytest.mark.fault(
    "33",
    "the disk of the checkpoints is full",
    "the last checkpoint is kept, work pauses and the trial waits; it resumes when there is space, and does not fail",
)
@pytest.mark.fault(
    "39",
    "a trial's newest checkpoint was cut short, and its driver is killed",
    "it resumes from the one before, which is recorded (`checkpoint.rejected`); each epoch counts once",
)
def test_a_full_disk_and_a_damaged_checkpoint_cost_a_trial_epochs_but_do_not_end_it(
    runs_on_a_small_disk: Sweep,
) -> None:
    sweep = runs_on_a_small_disk
    started = sweep.d("start", str(sweep.folder / "saving.yaml"))
    assert started.returncode == 0, started.stderr
    sweep.until("two results", lambda _: results(sweep) >= 2)

    filler = sweep.home.runs / "filler"
    subprocess.run(["dd", "if=/dev/zero", f"of={filler}", "bs=64k"], capture_output=True, check=False)
    sweep.until("paused", lambda view: view["experiments"][0]["state"] == "PAUSED")
    kept = newest_checkpoint(sweep)
    assert len((kept / "weights").read_bytes()) == 256 * 1024
    filler.unlink()
    before = results(sweep)
    sweep.until("the trial goes on", lambda _: results(sweep) >= before + 2)

    assert sweep.ctl("pause", "--now").returncode == 0
    sweep.until("paused", lambda view: view["experiments"][0]["state"] == "PAUSED")
    stands(sweep)
    damaged = newest_checkpoint(sweep)
    with (damaged / "weights").open("r+b") as file:
        file.truncate(1000)
    os.kill(driver_pid(sweep.events("saving")), signal.SIGKILL)
    assert sweep.ctl("resume").returncode == 0
    assert sweep.ctl("wait").returncode == 0

    audited(sweep.home, "saving")
    events = recorded(sweep.home, "saving")
    assert [event for event in events if event["event"] in ("trial.failed", "experiment.failed")] == []
    (rejected,) = [event for event in events if event["event"] == "checkpoint.rejected"]
    assert rejected["path"] == str(damaged)
    (begun,) = [
        event["resumed_step"]
        for event in events
        if event["event"] == "trial.started" and (event["trial"], event["attempt"]) == (0, rejected["attempt"])
    ]
    assert begun == int(damaged.name.rpartition("-")[2]) - 1, "the one before it"
    assert any("disk" in str(event.get("reason")) for event in events if event["event"] == "experiment.paused")
