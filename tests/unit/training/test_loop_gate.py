"""The loop asks the gate before each batch; a trial can stop there and continue to the same bits."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch

from tests.unit.training.small_learner import Clock, closing_after, made, run, weights
from tests.unit.training.small_trial import no_gate
from training.loop import Progress, epochs


def test_the_gate_is_asked_before_every_batch_and_its_time_is_not_training_time(dataset: Path) -> None:
    learner, windows = made(dataset, max_epochs=1)
    clock, calls = Clock(), 0

    def gate() -> float:
        nonlocal calls
        calls += 1
        clock.now_s += 1000.0
        return 1000.0

    (paused,) = epochs(learner, windows, gate, clock)
    learner, windows = made(dataset, max_epochs=1)
    (straight,) = run(learner, windows)
    train, validation = math.ceil(len(windows.train) / 64), math.ceil(len(windows.val) / 128)
    assert calls == train + validation
    assert paused.paused_s == 1000.0 * calls
    assert straight.paused_s == 0.0
    assert paused.seconds == straight.seconds < 1000.0
    assert paused.val_loss == straight.val_loss


@pytest.mark.parametrize("batches", [0, 1, 4, 6, 7])
def test_an_interruption_at_the_gate_changes_no_result(dataset: Path, batches: int) -> None:
    reference, windows = made(dataset)
    expected = run(reference, windows)
    learner, _ = made(dataset)
    gate = closing_after(batches)
    with pytest.raises(InterruptedError):
        run(learner, windows, gate)
    results = run(learner, windows, gate)
    assert [(r.train_loss, r.val_loss) for r in results] == [(r.train_loss, r.val_loss) for r in expected]
    assert torch.equal(weights(learner), weights(reference))


def test_a_step_on_trial_restores_the_random_state_even_if_it_fails(dataset: Path) -> None:
    learner, _ = made(dataset)
    before = learner.rng_state.clone()

    def fail() -> None:
        with learner.own_randomness_discarded():
            torch.rand(3)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fail()
    assert torch.equal(learner.rng_state, before)


def test_trials_in_one_process_do_not_disturb_each_other(dataset: Path) -> None:
    alone, windows = made(dataset)
    expected = [result.val_loss for result in run(alone, windows)]
    first, second = made(dataset)[0], made(dataset, seed=2)[0]
    interleaved = [
        (one.val_loss, torch.rand(1))
        for one, _ in zip(
            epochs(first, windows, no_gate, Clock()), epochs(second, windows, no_gate, Clock()), strict=True
        )
    ]
    assert [loss for loss, _ in interleaved] == expected


def test_an_ended_trial_yields_nothing_more(dataset: Path) -> None:
    learner, windows = made(dataset)
    learner.progress = Progress(epoch=3, end_reason="finished")
    assert run(learner, windows) == []
