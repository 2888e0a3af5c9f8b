"""The loop: warm-up, decay and clipping act, the best epoch is kept, a bad loss stops at once."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from tests.unit.training.small_learner import closing_after, made, run, weights
from training.errors import Diverged
from training.loop import EXPLODED_BATCHES, EXPLODED_NATS, Learner, Recent, gather, set_learning_rate, train_batch
from training.schedule import learning_rate_at


def test_the_rate_rises_linearly_then_falls_in_a_cosine_to_almost_0() -> None:
    rates = [learning_rate_at(step, 100, 1.0, 0.1) for step in range(100)]
    assert rates[:10] == pytest.approx([0.1 * (i + 1) for i in range(10)])
    assert rates[10] == 1.0
    assert rates[55] == pytest.approx(0.5)
    assert 0 < rates[99] < 0.001
    assert rates[10:] == sorted(rates[10:], reverse=True)


@given(st.integers(1, 5000), st.floats(0, 1), st.floats(1e-6, 1))
def test_the_rate_is_always_within_zero_and_its_peak(total: int, warmup: float, peak: float) -> None:
    for step in {0, total // 3, total - 1}:
        assert 0 <= learning_rate_at(step, total, peak, warmup) <= peak * (1 + 1e-12)


def test_the_schedule_reaches_the_optimiser_at_every_step(dataset: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    learner, windows = made(dataset, warmup_fraction=0.4)
    used: list[float] = []
    step = learner.optimizer.step
    monkeypatch.setattr(
        learner.optimizer, "step", lambda: (used.append(learner.optimizer.param_groups[1]["lr"]), step())
    )
    results = run(learner, windows)
    total = 3 * math.ceil(len(windows.train) / 64)
    assert used == [learning_rate_at(i, total, 3e-3, 0.4) for i in range(total)]
    assert results[-1].learning_rate == used[-1]


def test_a_first_step_in_warm_up_moves_weights_less_than_one_without(dataset: Path) -> None:
    moved = []
    for warmup in (0.0, 0.9):
        learner, windows = made(dataset, warmup_fraction=warmup, weight_decay=0.0)
        before = weights(learner)
        with pytest.raises(InterruptedError):
            run(learner, windows, closing_after(1))
        moved.append(float((weights(learner) - before).abs().max()))
    assert 0 < moved[1] < moved[0] / 5


# --- the optimiser step --------------------------------------------------------------------------------------------


def test_weight_decay_shrinks_matrices_by_its_own_share_apart_from_the_gradient(dataset: Path) -> None:
    ends = []
    for decay in (0.0, 0.5):
        learner, windows = made(dataset, weight_decay=decay, dropout=0.0)
        set_learning_rate(learner, 0.01)
        start = learner.model.embedding.weight.detach().clone()
        bias = learner.model.embedding.bias
        train_batch(learner, windows, windows.train[:64])
        ends.append((learner.model.embedding.weight.detach().clone(), bias.detach().clone()))
    # Decoupled: the difference is lr * decay * weight exactly, whatever the gradient was.
    torch.testing.assert_close(ends[0][0] - ends[1][0], 0.01 * 0.5 * start, rtol=1e-3, atol=1e-7)
    assert torch.equal(ends[0][1], ends[1][1])


def test_the_clip_bounds_the_gradient_norm(dataset: Path) -> None:
    norms = []
    for clip in (1e6, 1e-3):
        learner, windows = made(dataset, gradient_clip=clip)
        train_batch(learner, windows, windows.train[:64])
        gradients = torch.cat([p.grad.flatten() for p in learner.model.parameters() if p.grad is not None])
        norms.append(float(gradients.norm()))
    assert norms[0] > 0.01
    assert norms[1] == pytest.approx(1e-3, rel=1e-2)


@pytest.mark.parametrize("micro", [1, 7, 32])
def test_micro_batches_add_up_to_the_whole_batch(dataset: Path, micro: int) -> None:
    whole, windows = made(dataset, dropout=0.0, gradient_clip=1e6)
    split, _ = made(dataset, micro_batch=micro, dropout=0.0, gradient_clip=1e6)
    losses = [train_batch(learner, windows, windows.train[:64]) for learner in (whole, split)]
    torch.testing.assert_close(losses[0], losses[1])
    for one, other in zip(whole.model.parameters(), split.model.parameters(), strict=True):
        torch.testing.assert_close(one.grad, other.grad, rtol=1e-3, atol=1e-6)


def test_gather_gives_each_sample_its_day_and_the_days_before_it() -> None:
    days = torch.arange(20.0).view(20, 1).expand(20, 2)
    windows = gather(days, torch.tensor([4, 19, 9]), context=5)
    assert windows.shape == (3, 5, 2)
    assert windows[:, :, 0].tolist() == [[0, 1, 2, 3, 4], [15, 16, 17, 18, 19], [5, 6, 7, 8, 9]]


def test_each_epoch_sees_every_train_window_once_in_another_order(dataset: Path) -> None:
    learner, windows = made(dataset)
    seen: list[torch.Tensor] = []
    forward = learner.forward

    def watching(batch: torch.Tensor) -> torch.Tensor:
        if learner.model.training:
            seen.append(batch[:, -1, 3])
        return forward(batch)

    learner.forward = watching
    results = run(learner, windows)
    closes = torch.cat(seen).view(3, len(windows.train))
    expected = windows.days[windows.train, 3]
    for epoch in closes:
        assert torch.equal(epoch.sort().values, expected.sort().values)
    assert not torch.equal(closes[0], closes[1])
    assert {result.samples for result in results} == {len(windows.train)}


def test_the_loop_learns_a_learnable_label(stationary: Path) -> None:
    learner, windows = made(stationary, max_epochs=30, dropout=0.0, normalisation="zscore", patience=30)
    # A label that one input of the last day tells.
    labels = (windows.days[:, 9] > windows.days[windows.train, 9].median()).float()
    results = run(learner, replace(windows, labels=labels))
    assert results[-1].train_loss < 0.35 < results[0].train_loss


def test_losses_and_metrics_are_those_of_the_logits(dataset: Path) -> None:
    learner, windows = made(dataset, max_epochs=1)
    (epoch,) = run(learner, windows)
    learner.model.eval()
    with torch.no_grad():
        logits = learner.model(gather(windows.days, windows.val, 30))
    labels = windows.labels[windows.val]
    expected = torch.nn.functional.binary_cross_entropy_with_logits(logits, labels)
    assert epoch.val_loss == pytest.approx(float(expected), rel=1e-5)
    assert epoch.metrics["accuracy"] == pytest.approx(float(((logits > 0) == (labels > 0.5)).float().mean()))
    assert epoch.metrics["base_rate"] == pytest.approx(float(labels.mean()))


def test_the_best_epoch_is_reported_and_patience_counts_from_it(dataset: Path) -> None:
    learner, windows = made(dataset, max_epochs=50, patience=4, learning_rate=0.03, dropout=0.0)
    results = run(learner, windows)
    losses = [result.val_loss for result in results]
    last = results[-1]
    assert last.end_reason == "early_stopped"
    assert last.best_val_loss == min(losses)
    assert last.best_epoch == losses.index(min(losses)) + 1
    assert last.number == last.best_epoch + 4 < 50
    assert [result.finished for result in results] == [False] * (len(results) - 1) + [True]


def test_a_trial_that_keeps_improving_finishes_at_max_epochs(dataset: Path) -> None:
    learner, windows = made(dataset, max_epochs=2, patience=1, learning_rate=1e-5)
    results = run(learner, windows)
    assert [result.number for result in results] == [1, 2]
    assert results[-1].end_reason == "finished"


def test_a_non_finite_loss_raises_at_the_batch_that_shows_it(dataset: Path) -> None:
    learner, windows = made(dataset)
    calls = 0

    def poisoned() -> float:
        nonlocal calls
        calls += 1
        if calls == 3:
            with torch.no_grad():
                learner.model.head.weight.fill_(math.nan)
        return 0.0

    with pytest.raises(Diverged) as caught:
        run(learner, windows, poisoned)
    assert (caught.value.epoch, caught.value.batch) == (1, 3)
    assert calls == 3


def test_a_test_day_in_a_batch_ends_the_trial(dataset: Path) -> None:
    learner, windows = made(dataset)
    stray = windows.train.clone()
    stray[0] = len(windows.days) - 10
    with pytest.raises(Diverged):
        run(learner, replace(windows, train=stray))


def scaling_head(learner: Learner, factors: dict[int, float]) -> Callable[[], float]:
    """Make a gate that multiplies the head's weights before the batches that `factors` names, from 1."""
    calls = itertools.count(1)

    def gate() -> float:
        with torch.no_grad():
            learner.model.head.weight.mul_(factors.get(next(calls), 1.0))
        return 0.0

    return gate


def test_an_exploded_loss_ends_the_trial_within_its_epoch(dataset: Path) -> None:
    learner, windows = made(dataset, dropout=0.0)
    batches = math.ceil(len(windows.train) / 64)
    assert batches < EXPLODED_BATCHES
    with pytest.raises(Diverged) as caught:
        run(learner, windows, scaling_head(learner, {1: 1e5}))
    assert (caught.value.epoch, caught.value.batch) == (1, batches)
    assert EXPLODED_NATS < caught.value.loss < math.inf


def test_one_bad_batch_ends_no_trial(dataset: Path) -> None:
    learner, windows = made(dataset, dropout=0.0, max_epochs=1)
    (epoch,) = run(learner, windows, scaling_head(learner, {3: 1e3, 4: 1e-3}))
    batches = math.ceil(len(windows.train) / 64)
    # The one batch alone lost more than the bound.
    assert 1.0 < EXPLODED_NATS / batches + 1.0 < epoch.train_loss < EXPLODED_NATS


@given(st.lists(st.tuples(st.floats(0, 100), st.integers(1, 64)), max_size=40), st.integers(1, EXPLODED_BATCHES))
def test_a_loss_has_exploded_when_the_mean_of_a_full_row_of_batches_has(
    batches: list[tuple[float, int]], most: int
) -> None:
    recent = Recent(most)
    for place, (mean, samples) in enumerate(batches, 1):
        row = batches[max(0, place - most) : place]
        expected = sum(one * count for one, count in row) / sum(count for _, count in row)
        found = recent.exploded(mean * samples, samples)
        if place < most or expected < EXPLODED_NATS * (1 - 1e-9):
            assert found is None
        elif expected > EXPLODED_NATS * (1 + 1e-9):
            assert found == pytest.approx(expected)


def test_a_validation_window_without_a_finite_logit_ends_the_trial_before_the_next_ones(dataset: Path) -> None:
    learner, windows = made(dataset, max_epochs=1, micro_batch=8)
    asked = 0

    def gate() -> float:
        nonlocal asked
        asked += not learner.model.training
        return 0.0

    days = windows.days.clone()
    days[windows.val[0]] = math.nan
    with pytest.raises(Diverged):
        run(learner, replace(windows, days=days), gate)
    assert asked == 1 < len(windows.val) / 16
