"""Test memory that runs out, and memory that is asked back, on Ray."""

from __future__ import annotations

import json

import pytest

from actors.trial.memory_retry import ALONE
from supervisor.domain.messages import AttemptLost, ResultReported, TrialStarted
from tests.integration.fake_daemon import FAST_POLICY
from training.session import TrainingSession
from training.settings import derive_seed

POINT = {"learning_rate": 0.001, "shape_rank": 1, "heads_log2": 1}
EPOCHS = 3


def host_memory(percent: float) -> dict[str, object]:
    return {
        "sensor_id": "script:memory", "kind": "memory", "component": "host", "value": percent, "unit": "percent"
    }  # fmt: skip


@pytest.fixture
def hungry(patchtst):
    """Make the spec of one trial of the built-in model on a device with room for `room` windows."""

    def make(room: int):
        config = {"precision": "fp32", "dropout": 0.0, "room": room}
        return patchtst(EPOCHS, config, trainable="memory_trainables:Hungry", max_trials=1, enqueue=[POINT])

    return make


def undisturbed(experiment) -> list[float]:
    config = {key: value for key, value in experiment["config"].items() if key != "room"}
    session = TrainingSession({**config, **POINT, "seed": derive_seed(experiment["seed"], 0)}, gate=lambda: 0.0)
    return [session.step().val_loss for _ in range(EPOCHS)]


@pytest.mark.slow
def test_a_trial_whose_memory_runs_out_goes_on_with_half_the_micro_batch(drive, spec):
    """The next attempt goes on from the checkpoint with what `sweep_smaller` returned."""
    daemon = drive(spec(trainable="memory_trainables:Halving", config={"room": 32}, max_trials=1))
    daemon.succeeds()
    lost = daemon.all(AttemptLost)
    assert [(loss.cause, loss.memory) for loss in lost] == [("oom", {"micro_batch": 32})]
    assert "no memory for this micro-batch" in lost[0].error
    assert [started.resumed_step for started in daemon.all(TrialStarted)] == [None, 1]
    row = daemon.store.rows[0]
    assert (row.end_reason, row.attempt) == ("finished", 2)
    assert [message.step for message in daemon.all(ResultReported)] == [1, 2, 3]


@pytest.mark.slow
def test_the_built_in_model_with_half_the_micro_batch_comes_to_the_same_losses(drive, hungry):
    """Each time from its checkpoint, the batch the same, and its record says what it took at last."""
    experiment = hungry(room=16)
    daemon = drive(experiment)
    daemon.succeeds()
    row = daemon.store.rows[0]
    lost = daemon.all(AttemptLost)
    assert [(loss.cause, loss.memory["micro_batch"]) for loss in lost] == [("oom", 32), ("oom", 16)]
    assert all("CUDA out of memory" in loss.error for loss in lost)
    assert [started.resumed_step for started in daemon.all(TrialStarted)] == [None, 1, 1]
    assert (row.end_reason, row.attempt) == ("finished", 3)
    assert [value for _, value in row.results] == pytest.approx(undisturbed(experiment), rel=1e-4)
    assert [message.step for message in daemon.all(ResultReported)] == [1, 2, 3]
    memory = row.record["memory"]
    assert (memory["micro_batch"], memory["accumulation"]) == (16, 4)


@pytest.mark.slow
def test_a_trial_that_is_too_large_at_any_micro_batch_ends_as_oom(drive, hungry):
    """64 windows, halved down to one, recomputed: eight attempts, whichever driver makes them."""
    experiment = hungry(room=0)
    first = drive(experiment)
    for _ in range(3):
        first.wait_for(AttemptLost)
    first.wait_for(TrialStarted)
    first.kill()
    row = first.store.rows[0]
    assert row.memory == {"micro_batch": 8, "checkpoint_activations": False}
    row.state = "PENDING"
    second = drive(experiment, store=first.store)
    second.succeeds()
    assert (row.end_reason, row.value) == ("oom", None)
    given = [loss.memory for daemon in (first, second) for loss in daemon.all(AttemptLost)]
    assert [(memory["micro_batch"], memory["checkpoint_activations"]) for memory in given] == [
        (32, False), (16, False), (8, False), (4, False), (2, False), (1, False), (1, True)
    ]  # fmt: skip
    assert [value for _, value in row.results] == pytest.approx(undisturbed(experiment)[:1], rel=1e-6)


@pytest.mark.slow
def test_a_trainable_without_micro_batches_is_tried_once_more_alone_and_then_ends(drive, spec, tmp_path):
    """Nothing else runs while it does; the search goes on after it."""
    log = tmp_path / "log"
    log.touch()
    points = [{"x": x} for x in (0.1, -0.5, 0.2, 0.3, 0.4, 0.6)]
    daemon = drive(
        spec(
            trainable="memory_trainables:insatiable", config={"log": str(log)}, enqueue=points, max_trials=6,
            concurrency=2,
        )
    )  # fmt: skip
    daemon.succeeds()
    assert [daemon.store.rows[number].end_reason for number in range(6)] == ["finished", "oom", *["finished"] * 4]
    [lost] = daemon.all(AttemptLost)
    assert (lost.number, lost.cause, lost.memory) == (1, "oom", {ALONE: True})
    lines = [json.loads(line) for line in log.read_text().splitlines()]
    _, alone = [line for line in lines if line["x"] == -0.5]
    others = [line for line in lines if line["x"] != -0.5]
    assert len(others) == 5
    assert [line for line in others if line["began"] < alone["ended"] and alone["began"] < line["ended"]] == []


@pytest.mark.slow
def test_the_largest_trial_is_asked_back_while_memory_is_short_and_comes_back_with_less(drive, spec, tmp_path):
    """In the middle of its very first epoch: it saves what it has, leaves, and goes on from there."""
    calm, short = host_memory(1.0), host_memory(98.5)
    script = tmp_path / "trace.jsonl"
    # Short again and again: however late a busy machine begins the trial, memory gets short while it works.
    changes = [(at_s + later, reading) for at_s in range(0, 600, 16) for later, reading in ((0, calm), (10, short))]
    frames = [{"at_s": at_s, "readings": [reading]} for at_s, reading in changes]
    script.write_text("".join(json.dumps(frame) + "\n" for frame in frames))
    daemon = drive(
        # By the name of its folder, which the workers note.
        spec(name="experiment", trainable="memory_trainables:Asked", max_trials=1),
        watchdog={"script": str(script), "policy": {**FAST_POLICY, "soft_dwell_s": 4.0}},
    )
    daemon.succeeds()
    row = daemon.store.rows[0]
    [lost] = daemon.all(AttemptLost)
    assert (lost.cause, lost.memory, lost.drill) == ("memory", {"micro_batch": 1}, False)
    assert [started.resumed_step for started in daemon.all(TrialStarted)] == [None, 0]
    assert (row.end_reason, row.attempt) == ("finished", 2)
    [report] = daemon.all(ResultReported)
    assert report.metrics["batches_before"] > 0
