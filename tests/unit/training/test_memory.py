"""The memory model: its parts, its choice of micro-batch, and its refusal of trials that cannot fit."""

from __future__ import annotations

import pickle
from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import DoesNotFit
from training.grid import Architecture, param_count
from training.memory import (
    MemoryLimit,
    Precision,
    choose_inference_windows,
    choose_micro_batch,
    limit_below,
    predict_inference_memory,
    predict_trial_memory,
)

GIB = 2**30


def architecture(d_model: int, n_layers: int) -> Architecture:
    return Architecture(d_model, n_layers, 4 * d_model, 2, 25, 80, 10, 5)


architectures = st.builds(architecture, st.sampled_from([64, 256, 1024, 2048]), st.integers(1, 256))


def test_weights_gradients_and_two_moments_are_four_bytes_a_parameter() -> None:
    shape = architecture(512, 6)
    estimate = predict_trial_memory(shape, 64)
    assert estimate.weights_bytes == estimate.gradients_bytes == 4 * param_count(shape)
    assert estimate.optimizer_bytes == 8 * param_count(shape)


@given(architectures, st.integers(1, 256))
def test_more_windows_or_layers_never_take_less(shape: Architecture, batch: int) -> None:
    estimate = predict_trial_memory(shape, batch)
    assert predict_trial_memory(shape, batch + 1).total_bytes >= estimate.total_bytes
    deeper = predict_trial_memory(architecture(shape.d_model, shape.n_layers + 1), batch)
    assert deeper.total_bytes > estimate.total_bytes
    # From the second layer on, recomputing keeps one layer's worth instead of all.
    recomputed = predict_trial_memory(
        architecture(shape.d_model, shape.n_layers + 1), batch, checkpoint_activations=True
    )
    assert recomputed.activations_bytes < deeper.activations_bytes


@given(architectures, st.integers(1, 256))
def test_the_scales_of_the_windows_are_counted(shape: Architecture, batch: int) -> None:
    """Four copies of their weights, and for each token the scale of every feature."""
    without = predict_trial_memory(replace(shape, scales=False), batch)
    estimate = predict_trial_memory(shape, batch)
    assert estimate.weights_bytes - without.weights_bytes == 4 * 25 * shape.d_model
    assert estimate.activations_bytes - without.activations_bytes == 4 * 25 * 15 * batch


@given(architectures)
def test_bf16_takes_less_memory_for_a_large_batch(shape: Architecture) -> None:
    plain, half = (predict_trial_memory(shape, 512, precision=precision) for precision in ("fp32", "bf16"))
    assert half.activations_bytes < plain.activations_bytes
    alone = predict_trial_memory(architecture(2048, 48), 1, precision="bf16")
    assert alone.activations_bytes > 2 * param_count(architecture(2048, 48))


@given(architectures, st.integers(1, 512), st.floats(0.1, 200))
def test_a_choice_fits_and_is_the_largest_that_fits(shape: Architecture, batch: int, available_gib: float) -> None:
    available = int(available_gib * GIB)
    least = predict_trial_memory(shape, batch, micro_batch=1, checkpoint_activations=True)
    if least.total_bytes > available:
        with pytest.raises(DoesNotFit) as caught:
            choose_micro_batch(shape, batch, available_bytes=available)
        assert (caught.value.needed_bytes, caught.value.available_bytes) == (least.total_bytes, available)
        return
    choice = choose_micro_batch(shape, batch, available_bytes=available)
    assert choice.total_bytes <= available
    assert choice.micro_batch * choice.accumulation >= batch > choice.micro_batch * (choice.accumulation - 1)
    if choice.micro_batch < batch and not choice.checkpoint_activations:
        twice = predict_trial_memory(shape, batch, micro_batch=2 * choice.micro_batch + 1)
        assert twice.total_bytes > available
    if choice.checkpoint_activations:
        assert predict_trial_memory(shape, batch, micro_batch=1).total_bytes > available


def test_a_trial_that_once_swapped_for_days_is_cut_to_fit_or_refused() -> None:
    """1024 x 256 layers at batch 128 have 3.2 billion parameters; four copies are 48 GiB without activations."""
    giant = architecture(1024, 256)
    with pytest.raises(DoesNotFit, match=r"needs at least \d+\.\d\d GiB; 24.00 GiB are available"):
        choose_micro_batch(giant, 128, available_bytes=24 * GIB)
    choice = choose_micro_batch(giant, 128, available_bytes=64 * GIB)
    assert choice.total_bytes <= 64 * GIB
    assert choice.accumulation > 1


def test_the_refusal_can_be_pickled() -> None:
    again = pickle.loads(pickle.dumps(DoesNotFit(5, 3)))
    assert (again.needed_bytes, again.available_bytes) == (5, 3)
    assert again.remedy


@given(architectures, st.integers(1, 512))
def test_repeated_running_out_halves_down_to_one_window_then_recomputes_then_ends(
    shape: Architecture, batch: int
) -> None:
    """Each way takes less memory than the one before and runs the same batch."""
    estimate, seen = predict_trial_memory(shape, batch), []
    while (limit := limit_below(estimate)) is not None:
        smaller = choose_micro_batch(shape, batch, available_bytes=2**62, limit=limit)
        assert smaller.activations_bytes < estimate.activations_bytes or shape.n_layers == 1
        assert smaller.micro_batch * smaller.accumulation >= batch > smaller.micro_batch * (smaller.accumulation - 1)
        seen.append((smaller.micro_batch, smaller.checkpoint_activations))
        estimate = smaller
    halves = [(batch >> times, False) for times in range(1, batch.bit_length())]
    assert seen == [*halves, (1, True)]


def test_a_limit_and_the_available_memory_both_bind() -> None:
    shape = architecture(256, 8)
    limited = choose_micro_batch(shape, 64, available_bytes=2**62, limit=MemoryLimit(8))
    assert (limited.micro_batch, limited.accumulation, limited.checkpoint_activations) == (8, 8, False)
    recomputing = choose_micro_batch(
        shape, 64, available_bytes=2**62, limit=MemoryLimit(1, checkpoint_activations=True)
    )
    assert (recomputing.micro_batch, recomputing.checkpoint_activations) == (1, True)
    assert choose_micro_batch(shape, 4, available_bytes=2**62, limit=MemoryLimit(8)).micro_batch == 4
    with pytest.raises(DoesNotFit):
        choose_micro_batch(shape, 64, available_bytes=1, limit=MemoryLimit(8))


# Reading windows without a backward pass


@given(architectures, st.integers(1, 256), st.sampled_from(["fp32", "bf16"]))
def test_reading_takes_less_than_training_and_more_for_more_windows(
    shape: Architecture, windows: int, precision: Precision
) -> None:
    reading = predict_inference_memory(shape, windows, precision=precision)
    assert reading < predict_trial_memory(shape, windows, precision=precision).total_bytes
    assert reading < predict_inference_memory(shape, windows + 1, precision=precision)
    deeper = predict_inference_memory(architecture(shape.d_model, shape.n_layers + 1), windows, precision=precision)
    weights = param_count(architecture(shape.d_model, shape.n_layers + 1)) - param_count(shape)
    assert deeper - reading == weights * (4 if precision == "fp32" else 6), (
        "a layer more keeps no tensor but its weights"
    )


@pytest.mark.parametrize(("d_model", "n_layers", "free_gib"), [(1024, 160, 12), (2048, 40, 16), (512, 640, 12)])
def test_a_model_of_2_billion_is_read_where_it_could_not_be_trained(d_model: int, n_layers: int, free_gib: int) -> None:
    shape = architecture(d_model, n_layers)
    with pytest.raises(DoesNotFit):
        choose_micro_batch(shape, 256, available_bytes=free_gib * GIB)
    windows = choose_inference_windows(shape, 256, available_bytes=free_gib * GIB)
    assert predict_inference_memory(shape, windows) <= free_gib * GIB


def test_windows_are_halved_until_they_fit_and_refused_when_not_even_one_does() -> None:
    shape = architecture(1024, 160)
    needed = {windows: predict_inference_memory(shape, windows) for windows in (256, 64, 1)}
    assert choose_inference_windows(shape, 256, available_bytes=needed[256]) == 256
    assert choose_inference_windows(shape, 256, available_bytes=needed[64]) == 64
    assert choose_inference_windows(shape, 100, available_bytes=needed[64]) == 50
    with pytest.raises(DoesNotFit) as caught:
        choose_inference_windows(shape, 256, available_bytes=needed[1] - 1)
    assert (caught.value.needed_bytes, caught.value.outside) == (needed[1], True)
