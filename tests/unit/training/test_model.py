"""The model: its inputs, its answers, and the equality of its faster paths."""

from __future__ import annotations

from dataclasses import replace

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.dropout import Dropout, keep_mask
from training.grid import Architecture
from training.model import PatchTST, decay_groups, log_scales

SMALL = Architecture(d_model=16, n_layers=3, d_ff=32, n_heads=4, num_features=5, context=23, patch=10, stride=5)
WITHOUT_SCALES = replace(SMALL, scales=False)


def model(architecture: Architecture = SMALL, *, dropout: float = 0.0, revin: bool = True) -> PatchTST:
    torch.manual_seed(0)
    return PatchTST(architecture, dropout=dropout, revin=revin)


def windows(batch: int = 6) -> torch.Tensor:
    return torch.randn(batch, SMALL.context, SMALL.num_features, generator=torch.Generator().manual_seed(1))


def test_the_answer_is_one_logit_per_window() -> None:
    net = model()
    with torch.no_grad():
        net.head.bias.fill_(-30.0)
    logits = net(windows())
    assert logits.shape == (6,)
    assert (logits < -1).all()


def test_patches_end_with_the_newest_day_and_leave_out_the_oldest() -> None:
    days = torch.arange(23.0).view(1, 23, 1).expand(1, 23, 5)
    patches = model().patches(days).view(1, 3, 5, 10)
    assert patches[0, 0, 0].tolist() == list(range(3, 13))
    assert patches[0, 1, 4].tolist() == list(range(8, 18))
    assert patches[0, 2, 0].tolist() == list(range(13, 23))


def test_each_window_is_judged_alone() -> None:
    net = model().eval()
    together = net(windows())
    alone = torch.cat([net(window.unsqueeze(0)) for window in windows()])
    torch.testing.assert_close(together, alone)


def test_with_revin_scale_and_level_of_a_feature_do_not_matter_and_without_they_do() -> None:
    moved = windows() * torch.tensor([1e-3, 1.0, 10.0, 1e6, 1e9]) + torch.tensor([0.0, 5.0, -3.0, 0.0, 0.0])
    without = model(WITHOUT_SCALES)
    torch.testing.assert_close(without(windows()), without(moved), atol=1e-3, rtol=1e-2)
    plain = model(WITHOUT_SCALES, revin=False)
    assert not torch.allclose(plain(windows()), plain(windows() * 2 + 1), atol=1e-3)


@pytest.mark.parametrize("start", [1.0, 100.0, 4000.0])
def test_twice_the_volatility_changes_the_answer_with_scales_and_not_without(start: float) -> None:
    """The level of volatility tells most about a large move: by default the model must not lose it."""
    prices = start * torch.exp(0.01 * windows().cumsum(dim=1))
    mean = prices.mean(dim=1, keepdim=True)
    for architecture, seen in ((SMALL, True), (WITHOUT_SCALES, False)):
        with torch.no_grad():
            before, after = (model(architecture)(one) for one in (prices, mean + 2 * (prices - mean)))
        assert bool((after - before).abs().max() / before.abs().max() > 1e-2) == seen


def test_every_token_gets_the_same_log_scales_after_its_days() -> None:
    inputs = model().inputs(windows())
    assert inputs.shape == (6, 3, 11 * 5)
    assert inputs.shape[2] == SMALL.token_inputs
    scales = log_scales(windows())
    assert all(torch.equal(inputs[:, token, 50:], scales) for token in range(3))
    assert torch.equal(inputs[:, :, :50], model(WITHOUT_SCALES).inputs(windows()))


def test_recomputing_activations_changes_neither_answer_nor_gradients() -> None:
    answers = []
    for recompute in (False, True):
        net = model(dropout=0.3).train()
        net.checkpoint_activations = recompute
        torch.manual_seed(5)
        loss = net(windows()).square().sum()
        loss.backward()
        answers.append((loss.detach(), [parameter.grad for parameter in net.parameters()]))
    torch.testing.assert_close(answers[0], answers[1], rtol=0, atol=0)


def test_bf16_on_a_cpu_answers_and_learns_as_float32_does() -> None:
    results = []
    for enabled in (False, True):
        net = model()
        with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
            logits = net(windows(32))
        logits.float().sum().backward()
        results.append((logits.float().detach(), net.layers[0].qkv.weight.grad))
    (plain, plain_gradient), (half, half_gradient) = results
    torch.testing.assert_close(half, plain, atol=0.02, rtol=0.05)
    assert torch.nn.functional.cosine_similarity(plain_gradient.flatten(), half_gradient.flatten(), dim=0) > 0.99


@pytest.mark.parametrize("enabled", [False, True])
def test_logits_are_float32_also_under_bf16(enabled: bool) -> None:
    """Under bf16 they would have 8 bits: most of a thousand days would tie."""
    with torch.autocast("cpu", dtype=torch.bfloat16, enabled=enabled):
        logits = model()(windows(256))
    assert logits.dtype is torch.float32
    assert len(logits.unique()) == 256


def test_no_weight_is_left_at_its_first_value_after_a_step() -> None:
    net = model()
    before = {name: parameter.detach().clone() for name, parameter in net.named_parameters()}
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-2)
    for _ in range(2):  # norms start at exactly 1 and biases at 0; both must move too
        optimizer.zero_grad()
        net(windows()).square().sum().backward()
        optimizer.step()
    unmoved = [name for name, parameter in net.named_parameters() if torch.equal(parameter, before[name])]
    assert unmoved == []


def test_matrices_decay_and_nothing_else_does() -> None:
    net = model()
    decayed, spared = decay_groups(net, 0.1)
    assert (decayed["weight_decay"], spared["weight_decay"]) == (0.1, 0.0)
    names = {id(parameter): name for name, parameter in net.named_parameters()}
    decayed_names = {names[id(parameter)] for parameter in decayed["params"]}  # type: ignore[attr-defined]
    spared_names = {names[id(parameter)] for parameter in spared["params"]}  # type: ignore[attr-defined]
    assert decayed_names | spared_names == set(names.values())
    assert all(name.endswith(".weight") and "norm" not in name for name in decayed_names)
    assert all("norm" in name or name.endswith("bias") or name == "positions" for name in spared_names)


@given(p=st.sampled_from([0.05, 0.1, 0.37, 0.5, 0.9]), seed=st.integers(0, 1000))
def test_dropout_drops_its_share_and_keeps_the_mean(p: float, seed: int) -> None:
    torch.manual_seed(seed)
    x = torch.ones(400, 100)
    dropped = Dropout(p).train()(x)
    share = float((dropped == 0).float().mean())
    assert share == pytest.approx(p, abs=5 * (p * (1 - p) / 40_000) ** 0.5 + 1e-4)
    kept = dropped[dropped != 0]
    torch.testing.assert_close(kept, torch.full_like(kept, 1 / (1 - p)), rtol=1e-4, atol=0)


def test_dropout_is_independent_from_value_to_value() -> None:
    """Four values come from one 64-bit draw; neighbours must still be independent."""
    torch.manual_seed(0)
    mask = keep_mask(torch.Size([4000, 100]), 2**15).float()
    for lag in (1, 2, 3, 4, 100):
        flat = mask.flatten()
        correlation = torch.corrcoef(torch.stack([flat[:-lag], flat[lag:]]))[0, 1]
        assert abs(float(correlation)) < 0.01, lag


def test_the_gradient_passes_where_the_value_passed() -> None:
    x = torch.randn(50, 50, requires_grad=True)
    dropped = Dropout(0.4).train()(x)
    dropped.sum().backward()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, torch.where(dropped == 0, 0.0, dropped / x).detach())


def test_dropout_is_off_in_evaluation_and_at_zero() -> None:
    x = torch.randn(5, 5)
    assert torch.equal(Dropout(0.5).eval()(x), x)
    assert torch.equal(Dropout(0.0).train()(x), x)
