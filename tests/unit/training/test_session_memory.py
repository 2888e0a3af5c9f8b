"""A session that has less memory cuts its batches into smaller pieces and reaches the same losses."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.unit.training.small_session import made
from training.errors import DoesNotFit
from training.memory import MemoryLimit


def test_a_trial_that_cannot_fit_is_refused_with_both_figures(dataset: Path) -> None:
    with pytest.raises(DoesNotFit) as caught:
        made(dataset, memory_limit_bytes=1000)
    assert caught.value.available_bytes == 1000 < caught.value.needed_bytes


def test_less_memory_gives_smaller_micro_batches_and_the_same_loss(dataset: Path) -> None:
    whole = made(dataset, dropout=0.0, precision="fp32")
    tight = made(dataset, dropout=0.0, precision="fp32", memory_limit_bytes=whole.memory.total_bytes - 1)
    assert tight.memory.micro_batch < whole.memory.micro_batch
    assert tight.memory.accumulation > 1
    assert tight.step().train_loss == pytest.approx(whole.step().train_loss, rel=1e-3)


def test_a_trial_whose_memory_ran_out_resumes_in_smaller_pieces_with_the_same_losses(
    dataset: Path, tmp_path: Path
) -> None:
    """It resumes from its checkpoint with half the micro-batch and twice the pieces, and records the new estimate."""
    whole = made(dataset, dropout=0.0, precision="fp32", max_epochs=3)
    first = whole.step()
    whole.save(tmp_path / "c.pt")
    undisturbed = [whole.step() for _ in range(2)]
    halved = made(dataset, limit=whole.smaller(), dropout=0.0, precision="fp32", max_epochs=3)
    halved.load(tmp_path / "c.pt")
    before, after = whole.record()["memory"], halved.record()["memory"]
    assert (after["micro_batch"], after["accumulation"]) == (before["micro_batch"] // 2, 2 * before["accumulation"])
    assert after["total_bytes"] < before["total_bytes"]
    again = [halved.step() for _ in range(2)]
    assert first.number == 1
    for one, other in zip(undisturbed, again, strict=True):
        assert (other.samples, other.learning_rate) == (one.samples, one.learning_rate)
        assert other.train_loss == pytest.approx(one.train_loss, rel=1e-4)
        assert other.val_loss == pytest.approx(one.val_loss, rel=1e-4)


def test_a_resumed_trial_keeps_its_micro_batch(dataset: Path, tmp_path: Path) -> None:
    """A session with more memory keeps the checkpoint's cut, and its record and estimate show it."""
    small = made(dataset, limit=MemoryLimit(8))
    small.step()
    small.save(tmp_path / "c.pt")
    resumed = made(dataset)
    resumed.load(tmp_path / "c.pt")
    assert resumed.record()["memory"] == small.record()["memory"]
    assert resumed.smaller() == MemoryLimit(4)


def test_a_trial_that_recomputes_one_window_at_a_time_has_no_smaller_way(dataset: Path) -> None:
    last = made(dataset, limit=MemoryLimit(1, checkpoint_activations=True), max_epochs=1)
    assert last.smaller() is None
    assert last.record()["memory"]["checkpoint_activations"] is True
