"""A step is timed within a bound: several times if it is fast, once and in part if it is slow."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from supervisor.clock import FakeClock
from tests.unit.training.small_learner import made
from training.devices.timing import SLOW_S, TIMED_STEPS, seconds_per_step

BATCH = 64


def timed(dataset: Path, monkeypatch: pytest.MonkeyPatch, window_s: float, set_up_s: float) -> tuple[float, list[int]]:
    """Time a step on a device that takes ``window_s`` a window, the first time ``set_up_s`` more; its batches, too."""
    learner, windows = made(dataset, batch_size=BATCH)
    clock, sizes = FakeClock(), []

    def train_batch(_: Any, __: Any, samples: torch.Tensor) -> torch.Tensor:
        sizes.append(len(samples))
        clock.sleep(window_s * len(samples) + (set_up_s if len(sizes) == 1 else 0.0))
        return torch.zeros(())

    monkeypatch.setattr("training.devices.timing.train_batch", train_batch)
    return seconds_per_step(learner, windows, clock.mono_s), sizes


@pytest.mark.parametrize("set_up_s", [0.0, 30.0])
def test_a_fast_step_is_timed_several_times_after_its_set_up(
    dataset: Path, monkeypatch: pytest.MonkeyPatch, set_up_s: float
) -> None:
    seconds, sizes = timed(dataset, monkeypatch, 1e-4, set_up_s)
    assert seconds == pytest.approx(64e-4)
    assert sizes == [1, BATCH // 8, *[BATCH] * TIMED_STEPS]


def test_a_slower_step_is_timed_once(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seconds, sizes = timed(dataset, monkeypatch, 0.2, 0.0)
    assert seconds == pytest.approx(0.2 * BATCH)
    assert sizes == [1, BATCH // 8, BATCH]


def test_a_step_of_minutes_is_timed_on_a_part_of_its_batch(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As a 2B step on two threads: four whole ones took a quarter of an hour before the trial began."""
    seconds, sizes = timed(dataset, monkeypatch, 230 / BATCH, 0.0)
    assert seconds == pytest.approx(230.0)
    assert sum(sizes) * 230 / BATCH < 40 + SLOW_S
