"""Timing of steps: the session's own batches, warm-up left out, and no trial that would take too long."""

from __future__ import annotations

from itertools import count
from pathlib import Path
from typing import Any

import pytest

from tests.unit.training.small_trial import config
from training import loop
from training.timing import MOST_STEPS, WARM_UP_STEPS, Failed, Timed, TooSlow, time_trials


def trial(dataset: Path, operations: float = 1.0, needed_bytes: float = 0.0, **changes: Any) -> dict[str, Any]:
    return {"config": config(dataset, **changes), "operations": operations, "bytes": needed_bytes}


def test_each_trial_is_timed_by_the_clock_on_its_device(dataset: Path) -> None:
    ticks = count()
    trials = [trial(dataset), trial(dataset, batch_size=16)]
    found = [one for one in time_trials(trials, 1e9, lambda: 0.001 * next(ticks)) if isinstance(one, Timed)]
    assert [timed.trial for timed in found] == [0, 1]
    assert {timed.device for timed in found} == {"cpu"}
    # The gate reads the clock once a batch, and the loop twice in it.
    assert [timed.step_s for timed in found] == pytest.approx([0.003, 0.003])


def test_an_epoch_of_a_single_batch_is_timed_too(dataset: Path) -> None:
    (found,) = time_trials([trial(dataset, batch_size=4096)], 1e9, iter(count()).__next__)
    assert isinstance(found, Timed)
    assert found.step_s > 0
    assert MOST_STEPS > 1


def test_a_trial_that_would_take_longer_than_the_time_left_is_left_out(dataset: Path) -> None:
    ticks = count()
    trials = [trial(dataset), trial(dataset, operations=1e9), trial(dataset, operations=2.0)]
    first, slow, last = time_trials(trials, 60.0, lambda: 0.001 * next(ticks))
    assert isinstance(first, Timed)
    assert isinstance(last, Timed)
    assert slow == TooSlow(1, pytest.approx((WARM_UP_STEPS + 1) * 1e9 * first.step_s))


def test_a_trial_that_cannot_be_built_is_left_out_and_named(dataset: Path) -> None:
    trials = [trial(dataset, memory_limit_bytes=1), trial(dataset)]
    failed, timed = time_trials(trials, 1e9, iter(count()).__next__)
    assert isinstance(failed, Failed)
    assert "DoesNotFit" in failed.error
    assert isinstance(timed, Timed)


def test_queued_batches_share_the_time_of_their_queue(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """On an accelerator the gate is called before each queue of batches."""
    monkeypatch.setattr(loop, "_batches_at_once", lambda *_: 4)
    ticks = count()
    (found,) = time_trials([trial(dataset, batch_size=4)], 1e9, lambda: 0.001 * next(ticks))
    assert isinstance(found, Timed)
    # Three readings of the clock for each gate, and so for four batches.
    assert found.step_s == pytest.approx(0.003 / 4)
