"""The built-in trainable under the driver, on real market data, tiny."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.messages import AttemptLost, ResultReported, TrialHeld
from training.checkpoint import read_checkpoint
from training.session import TrainingSession
from training.settings import derive_seed

PAUSE = Command(Action.PAUSE, Origin.OPERATOR, "the operator says so").to_json()
POINT = {"learning_rate": 0.001, "shape_rank": 1, "heads_log2": 1}


def test_a_search_of_patchtst_ends_with_records_and_checkpoints(drive, patchtst):
    """Each trial trains, says what it is and ran on, and leaves its newest two checkpoints; ASHA ends some."""
    pruner = {"kind": "asha", "grace_period": 1, "reduction_factor": 2, "max_t": 3}
    daemon = drive(patchtst(3, max_trials=4, concurrency=2, pruner=pruner))
    daemon.succeeds()
    rows = daemon.store.rows
    assert len(rows) == 4
    assert {row.end_reason for row in rows.values()} <= {"finished", "pruned"}
    for row in rows.values():
        assert row.record["param_count"] > 0
        assert row.record["dataset_sha256"]
        kept = sorted((daemon.folder / "experiment" / str(row.number)).iterdir())
        last = len(row.results)
        assert [file.name for file in kept] == [f"checkpoint-{step}.pt" for step in range(max(1, last - 1), last + 1)]
        assert row.checkpoint == str(kept[-1])
    epoch = daemon.all(ResultReported)[0].metrics
    assert {"train_loss", "val_loss", "time_this_iter_s", "paused_s", "learning_rate"} <= set(epoch)
    assert not {"config", "pid", "trial_id"} & set(epoch)


@pytest.mark.slow
def test_pause_kill_and_finish_leave_the_weights_of_an_undisturbed_run(drive, patchtst, tmp_path):
    """Held at a batch, its worker killed, its driver finished in the middle of an epoch: bit for bit the same model."""
    whole = patchtst(8, max_trials=1, enqueue=[POINT])
    first = drive(whole)
    first.wait_for(ResultReported)
    first.command(PAUSE)
    started = first.wait_for(TrialHeld)
    assert started.state == "PAUSED"
    time.sleep(0.5)
    first.command()
    first.wait_for(ResultReported, lambda message: message.step == 3)
    os.kill(next(m for m in first.seen if type(m).__name__ == "TrialStarted").worker_pid, signal.SIGKILL)
    first.wait_for(AttemptLost)
    first.wait_for(ResultReported, lambda message: message.step == 5)
    first.finish()
    first.succeeds()
    second = drive(whole, store=first.store)
    second.succeeds()
    row = second.store.rows[0]
    assert (row.end_reason, row.attempt) == ("finished", 3)

    session = TrainingSession({**whole["config"], **POINT, "seed": derive_seed(whole["seed"], 0)}, gate=lambda: 0.0)
    epochs = [session.step() for _ in range(8)]
    session.save(tmp_path / "undisturbed.pt")
    assert [value for _, value in row.results] == [epoch.val_loss for epoch in epochs]
    disturbed, undisturbed = read_checkpoint(Path(row.checkpoint)), read_checkpoint(tmp_path / "undisturbed.pt")
    assert disturbed["model"].keys() == undisturbed["model"].keys()
    for name, weights in undisturbed["model"].items():
        assert torch.equal(disturbed["model"][name], weights), name
