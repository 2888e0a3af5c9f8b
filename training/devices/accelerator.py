"""Hold torch's calls for one kind of accelerator: its queue, its random generator, its memory. Tests have their own."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Accelerator:
    """The calls of one kind. ``shares_memory`` says that its memory is a part of the machine's, as Apple's is.

    ``free_bytes`` is the memory that this process can still take, ``held_bytes`` what it holds there.
    """

    kind: str
    shares_memory: bool
    rng_state: Callable[[], Tensor]
    set_rng_state: Callable[[Tensor], object]
    free_bytes: Callable[[], int]
    held_bytes: Callable[[], int]
    empty_cache: Callable[[], object]

    def first_rng_state(self, seed: int) -> Tensor:
        """Return the state of a generator that begins with ``seed``; the device's own one is left alone."""
        return torch.Generator(self.kind).manual_seed(seed).get_state()


def _free_cuda_bytes() -> int:
    # Memory that torch reserved and does not use counts as used on the GPU, but is this process's own.
    cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
    return int(torch.cuda.mem_get_info()[0]) + int(cached)


# The calls are looked up when they are made: a torch without CUDA or Metal has them, and they raise there.
_CUDA = Accelerator(
    "cuda",
    shares_memory=False,
    rng_state=lambda: torch.cuda.get_rng_state(),
    set_rng_state=lambda state: torch.cuda.set_rng_state(state),
    free_bytes=_free_cuda_bytes,
    held_bytes=lambda: torch.cuda.memory_reserved(),
    empty_cache=lambda: torch.cuda.empty_cache(),
)
_MPS = Accelerator(
    "mps",
    shares_memory=True,
    rng_state=lambda: torch.mps.get_rng_state(),
    set_rng_state=lambda state: torch.mps.set_rng_state(state),
    free_bytes=lambda: torch.mps.recommended_max_memory() - torch.mps.current_allocated_memory(),
    held_bytes=lambda: torch.mps.driver_allocated_memory(),
    empty_cache=lambda: torch.mps.empty_cache(),
)
_KINDS = {"cuda": _CUDA, "mps": _MPS}


def accelerator_of(device: str) -> Accelerator | None:
    """Return the calls for "cuda" or "mps"; None for the CPU, whose work is done when a call returns."""
    return _KINDS.get(device)
