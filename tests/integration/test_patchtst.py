"""The built-in trainable under the driver, on real market data, tiny."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest
import torch

from supervisor.daemon.experiments.evaluation import request_of
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import after_search
from supervisor.domain.messages import AttemptLost, ResultReported, TrialHeld
from training.checkpoint import read_checkpoint
from training.evaluation import Request, evaluate
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
        # Beside them is what the trial printed.
        kept = sorted((daemon.folder / "experiment" / str(row.number)).glob("*.pt*"))
        last = len(row.results)
        assert [file.name for file in kept] == [f"checkpoint-{step}.pt" for step in range(max(1, last - 1), last + 1)]
        assert row.checkpoint == str(kept[-1])
    epoch = daemon.all(ResultReported)[0].metrics
    assert {"train_loss", "val_loss", "time_this_iter_s", "paused_s", "learning_rate"} <= set(epoch)
    assert not {"config", "pid", "trial_id"} & set(epoch)


@pytest.mark.slow
def test_folds_are_searched_finalised_and_walked_across_a_drivers_death_and_then_tested(drive, patchtst):
    """Kill the driver in the walk-forward: the next one ends the same trials; the test finds each fold's loss again."""
    finalize = {"top": 1, "seeds": 1, "folds": 3}
    experiment = patchtst(2, {"split": {"kind": "folds"}}, max_trials=5, concurrency=2, finalize=finalize)
    first = drive(experiment)
    first.wait_for(ResultReported, lambda message: message.number == 3)
    first.kill()
    second = drive(experiment, store=first.store.driver_is_gone())
    second.succeeds()

    rows = second.store.rows
    assert [rows[number].source for number in range(5)] == ["sampled"] * 2 + ["finalize"] + ["walk_forward"] * 2
    trials = [row.for_driver() for row in rows.values()]
    assert {n: rows[n].params for n in (2, 3, 4)} == {n: p for n, (_, p) in after_search(experiment, trials).items()}
    assert [rows[n].params["fold"] for n in (2, 3, 4)] == [3, 1, 2]
    seen = [rows[n].record["train_windows"] for n in range(5)]
    assert seen[3] < seen[4] < seen[2] == seen[0]
    assert rows[0].record["val_windows"] == sum(rows[n].record["val_windows"] for n in (2, 3, 4))

    opening = {"trials": [2, 3, 4], "openings": 1, "by": "a test", "reason": "its turn", "at": "now"}
    request = request_of(experiment, trials, opening, rows[2].record, second.folder / "experiment")
    result = evaluate(Request.from_json({**request, "draws": 50}))
    assert [fold["windows"]["val"] for fold in result["folds"]] == [rows[n].record["val_windows"] for n in (3, 4, 2)]
    for fold, number in zip(result["folds"], (3, 4, 2), strict=True):
        assert fold["bce"]["patchtst"]["val"] == pytest.approx(rows[number].value, rel=1e-4)


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
