"""Predict the peak memory of a trial, and of reading windows with its weights, from its architecture.

The terms count the tensors that each operation of ``training.model`` keeps for its backward pass; the other constants
(the runtime, the allocator) were measured. Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from training.errors import DoesNotFit
from training.grid import Architecture, param_count

DeviceKind = Literal["cpu", "cuda", "mps"]
Precision = Literal["fp32", "bf16"]

FP32_BYTES = 4
# A process without layers: interpreter, torch, pandas, data, and the libraries that the first step loads. Measured on
# the CPU (410 to 427 MiB at 9k parameters); on CUDA and MPS it is an estimate of context and libraries.
RUNTIME_BYTES: dict[str, int] = {"cpu": 420 * 2**20, "cuda": 700 * 2**20, "mps": 600 * 2**20}
# The allocator leaves holes between blocks: with this factor, predictions were 0.97 to 1.03 of the peak under glibc.
# Recomputing trials allocate tightly (training.devices.allocator), which leaves almost no holes.
ALLOCATOR_FACTOR = 1.15
TIGHT_ALLOCATOR_FACTOR = 1.05
MIN_MICRO_BATCH = 1


@dataclass(frozen=True, slots=True)
class MemoryLimit:
    """A bound for a trial whose memory ran out: at most ``micro_batch`` windows at once.

    With ``checkpoint_activations`` their activations are recomputed, not kept.
    """

    micro_batch: int
    checkpoint_activations: bool = False


@dataclass(frozen=True, slots=True)
class MemoryEstimate:
    """The predicted peak of a trial, by part; ``accumulation`` micro-batches make one batch."""

    weights_bytes: int
    gradients_bytes: int
    optimizer_bytes: int
    activations_bytes: int
    total_bytes: int
    micro_batch: int
    accumulation: int
    checkpoint_activations: bool
    runtime_bytes: int


Claim = Callable[[str, Callable[[int], MemoryEstimate]], MemoryEstimate]
"""Called with a device and a plan: returns ``plan(bytes)`` for the bytes that other trials are still to take there,
and keeps its total from later trials."""


def claim_alone(device: str, plan: Callable[[int], MemoryEstimate]) -> MemoryEstimate:
    """Plan as the only trial."""
    return plan(0)


def predict_trial_memory(
    architecture: Architecture,
    batch_size: int,
    device_kind: DeviceKind = "cpu",
    *,
    precision: Precision = "fp32",
    micro_batch: int | None = None,
    checkpoint_activations: bool = False,
) -> MemoryEstimate:
    """Predict the peak of one optimiser step at this micro-batch (default: the whole batch at once)."""
    micro = batch_size if micro_batch is None else min(micro_batch, batch_size)
    accumulation = -(-batch_size // micro)
    weights = param_count(architecture) * FP32_BYTES
    activations = _activations(architecture, micro, precision, checkpoint_activations)
    factor = TIGHT_ALLOCATOR_FACTOR if checkpoint_activations else ALLOCATOR_FACTOR
    live = int(factor * (activations + _layer_working(architecture, micro)))
    # Without accumulation gradients grow while activations are freed, layer by layer: the peak holds the larger.
    moving = weights + live if accumulation > 1 else max(weights, live)
    runtime = RUNTIME_BYTES[device_kind]
    return MemoryEstimate(
        weights_bytes=weights,
        gradients_bytes=weights,
        optimizer_bytes=2 * weights,
        activations_bytes=activations,
        total_bytes=runtime + 3 * weights + moving,
        micro_batch=micro,
        accumulation=accumulation,
        checkpoint_activations=checkpoint_activations,
        runtime_bytes=runtime,
    )


def choose_micro_batch(
    architecture: Architecture,
    batch_size: int,
    device_kind: DeviceKind = "cpu",
    *,
    available_bytes: int,
    precision: Precision = "fp32",
    limit: MemoryLimit | None = None,
) -> MemoryEstimate:
    """Choose the cheapest way to run a batch within ``available_bytes`` and ``limit``.

    Splitting costs little until matrices get thin; recomputing costs a third forward pass. So micro-batches are halved
    first, and activations are recomputed only if a single window still does not fit. Raises DoesNotFit if even that
    does not fit.
    """
    smallest: MemoryEstimate | None = None
    for recompute in (False, True) if limit is None or not limit.checkpoint_activations else (True,):
        micro = batch_size if limit is None else min(batch_size, limit.micro_batch)
        while micro >= MIN_MICRO_BATCH:
            smallest = predict_trial_memory(
                architecture,
                batch_size,
                device_kind,
                precision=precision,
                micro_batch=micro,
                checkpoint_activations=recompute,
            )
            if smallest.total_bytes <= available_bytes:
                return smallest
            micro //= 2
    assert smallest is not None
    raise DoesNotFit(smallest.total_bytes, available_bytes)


def predict_inference_memory(
    architecture: Architecture, windows: int, device_kind: DeviceKind = "cpu", *, precision: Precision = "fp32"
) -> int:
    """Predict the peak bytes of reading this many windows at once without a backward pass.

    Layers follow each other and keep nothing: the weights, and the tensors of one layer.
    """
    tokens = windows * architecture.n_patches
    live = _layer_kept(architecture, tokens, precision) + _ends(architecture, tokens)
    weights = param_count(architecture) * FP32_BYTES + _weight_casts(architecture, precision)
    return RUNTIME_BYTES[device_kind] + weights + int(ALLOCATOR_FACTOR * live)


def choose_inference_windows(
    architecture: Architecture,
    windows: int,
    device_kind: DeviceKind = "cpu",
    *,
    available_bytes: int,
    precision: Precision = "fp32",
) -> int:
    """Halve the number of windows read at once until it fits. Raises DoesNotFit if even one window does not."""
    while True:
        needed = predict_inference_memory(architecture, windows, device_kind, precision=precision)
        if needed <= available_bytes:
            return windows
        if windows == 1:
            raise DoesNotFit(needed, available_bytes)
        windows //= 2


def copy_fits(estimate: MemoryEstimate, copy_bytes: int, available_bytes: int, limit_bytes: int | None) -> bool:
    """Return whether a copy of a trial's state fits into the host's memory beside the trial at work.

    It may take half of what is free now and is not needed for activations: the rest is for other trials, and keeps the
    governor's limits away. ``limit_bytes`` bounds the trial and its copy together.
    """
    within = limit_bytes is None or estimate.total_bytes + copy_bytes <= limit_bytes
    return within and copy_bytes <= (available_bytes - estimate.activations_bytes) // 2


def limit_below(estimate: MemoryEstimate) -> MemoryLimit | None:
    """Return the next smaller way to run the same batch, or None after the last.

    It halves the micro-batch; at one window it recomputes activations. The memory model is not asked: it had said that
    this estimate would fit.
    """
    if estimate.micro_batch > MIN_MICRO_BATCH:
        return MemoryLimit(estimate.micro_batch // 2, estimate.checkpoint_activations)
    return None if estimate.checkpoint_activations else MemoryLimit(MIN_MICRO_BATCH, checkpoint_activations=True)


def _activations(architecture: Architecture, windows: int, precision: Precision, recompute: bool) -> int:
    tokens = windows * architecture.n_patches
    layer = _layer_kept(architecture, tokens, precision)
    if recompute:
        between = tokens * architecture.d_model * FP32_BYTES
        kept = architecture.n_layers * between + layer
    else:
        kept = architecture.n_layers * layer
    return kept + _ends(architecture, tokens) + _weight_casts(architecture, precision)


def _ends(architecture: Architecture, tokens: int) -> int:
    """Count the tensors before the first layer and after the last."""
    return tokens * (architecture.token_inputs + 4 * architecture.d_model) * FP32_BYTES


def _weight_casts(architecture: Architecture, precision: Precision) -> int:
    """Count the bf16 copies of the weights, which autocast keeps until its block has ended."""
    return 2 * param_count(architecture) if precision == "bf16" else 0


def _layer_kept(architecture: Architecture, tokens: int, precision: Precision) -> int:
    """Count one layer's tensors for backward: two residuals, two norms, Q, K, V, attention, F twice, two masks."""
    d, f = architecture.d_model, architecture.d_ff
    residual = 2 * d * FP32_BYTES
    masks = 2 * d
    statistics = architecture.n_heads * FP32_BYTES + 4 * FP32_BYTES
    values = 2 * d + 3 * d + d + 2 * f
    if precision == "fp32":
        return tokens * (residual + masks + statistics + FP32_BYTES * values)
    # In bf16 attention's weights are kept, too: the fused kernel is not used there.
    return tokens * (residual + masks + statistics + 2 * (values + architecture.n_heads * architecture.n_patches))


def _layer_working(architecture: Architecture, windows: int) -> int:
    tokens = windows * architecture.n_patches
    return tokens * (architecture.d_model + 2 * architecture.d_ff) * FP32_BYTES
