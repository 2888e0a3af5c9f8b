"""Build a Learner: model, optimiser and, if the plan wants it, the compiled model."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, cast

import torch
from torch import Tensor
from torch.optim import Optimizer

from training.devices.accelerator import accelerator_of
from training.devices.allocator import allocate_tightly
from training.grid import Architecture, param_count
from training.loop import Learner
from training.memory import MemoryEstimate, Precision
from training.model import PatchTST, decay_groups
from training.settings import TrialSettings


class AdamW(torch.optim.AdamW):
    """Computes what `torch.optim.AdamW` does, without PyTorch's compiler.

    PyTorch wraps its optimisers' methods so that a compiler leaves them out, and the first call of any of them imports
    `torch._dynamo`, and SymPy with it: seconds in each worker. Only the forward pass is compiled here, so the methods
    are called plainly.
    """

    add_param_group = inspect.unwrap(Optimizer.add_param_group)
    zero_grad = inspect.unwrap(Optimizer.zero_grad)
    state_dict = inspect.unwrap(Optimizer.state_dict)
    load_state_dict = inspect.unwrap(Optimizer.load_state_dict)

    @torch.no_grad()  # as PyTorch's own wrapper does
    def step(self, closure: Any = None) -> Any:
        """Update the parameters by their gradients."""
        return _STEP(self, closure)


_STEP: Any = inspect.unwrap(torch.optim.AdamW.step)


@dataclass(frozen=True, slots=True)
class Compilation:
    """The compilation: if the plan ``asked`` for it, if it is ``used``, and the compiler's ``error``."""

    asked: bool
    used: bool
    error: str | None = None


def precision_for(settings: TrialSettings, device: str) -> Precision:
    """Return the plan's precision; for "auto" bf16 if the device multiplies in it natively, else float32."""
    if settings.precision != "auto":
        return settings.precision
    return "bf16" if multiplies_in_bf16(device) else "fp32"


def multiplies_in_bf16(device: str) -> bool:
    """Return whether bf16 is native: on GPUs since Ampere, CPUs with AVX-512 BF16 or AMX. Emulation is slower.

    Metal has it since macOS 14; whether it agrees with the CPU there is found by training.devices.parity.
    """
    if device == "cuda":
        return bool(torch.cuda.is_bf16_supported(including_emulation=False))
    if device == "mps":
        return bool(torch.backends.mps.is_macos_or_newer(14, 0))
    capabilities = getattr(torch.cpu, "get_capabilities", None)  # since torch 2.12
    if device != "cpu" or capabilities is None:
        return False
    found = capabilities()
    return bool(found.get("avx512_bf16") or found.get("amx_bf16"))


def flops_per_step(architecture: Architecture, batch_size: int) -> float:
    """Count the operations of one step: 6 per parameter and token (Kaplan et al., 2020), and attention's."""
    tokens = batch_size * architecture.n_patches
    attention = 12 * architecture.n_layers * architecture.n_patches * architecture.d_model
    return float(tokens * (6 * param_count(architecture) + attention))


def build_learner(settings: TrialSettings, architecture: Architecture, device: str, memory: MemoryEstimate) -> Learner:
    """Build a fresh Learner. The trial's seed draws the weights on the CPU, so they are equal on every device."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(settings.seed)
        model = PatchTST(architecture, dropout=settings.dropout, revin=settings.scales_windows)
        rng_state = torch.get_rng_state()
    model.checkpoint_activations = memory.checkpoint_activations
    if memory.checkpoint_activations and device == "cpu":
        allocate_tightly()
    model.to(device)
    accelerator = accelerator_of(device)
    optimizer = AdamW(
        decay_groups(model, settings.weight_decay),
        lr=settings.learning_rate,
        betas=(0.9, 0.95),  # 0.999 averages over more steps than a small trial has
        fused=True,
    )
    return Learner(
        settings=settings,
        model=model,
        forward=model,
        optimizer=optimizer,
        device=torch.device(device),
        precision=precision_for(settings, device),
        micro_batch=memory.micro_batch,
        rng_state=rng_state,
        accelerator=accelerator,
        device_rng_state=None if accelerator is None else accelerator.first_rng_state(settings.seed),
    )


def compile_forward(learner: Learner, example: Tensor) -> Compilation:
    """Compile the model if the plan wants it and ``example`` (B, T, C) passes; else keep the plain one."""
    if not learner.settings.compile:
        return Compilation(asked=False, used=False)
    compiled = cast(Callable[[Tensor], Tensor], torch.compile(learner.model, dynamic=True))
    try:
        with learner.own_randomness_discarded(), learner.autocast():
            compiled(example).sum().backward()  # type: ignore[no-untyped-call]
    except Exception as error:  # noqa: BLE001 - compilers raise any class: no C++ compiler, no Triton, an unknown operator
        return Compilation(asked=True, used=False, error=f"{type(error).__name__}: {error}"[:500])
    finally:
        learner.optimizer.zero_grad(set_to_none=True)
    learner.forward = compiled
    return Compilation(asked=True, used=True)


def load_optimizer(optimizer: torch.optim.Optimizer, state: Mapping[str, Any]) -> None:
    """Load an optimiser's state whose tensors are mapped from a checkpoint's file; keep none of them.

    An accelerator copies them into its own memory. A CPU keeps them as they are, and a mapped tensor would hold a
    deleted checkpoint's disk space: those are copied one by one.
    """
    optimizer.load_state_dict(dict(state))
    for values in optimizer.state.values():
        for name, value in values.items():
            if isinstance(value, Tensor) and value.device.type == "cpu":
                values[name] = value.clone()
