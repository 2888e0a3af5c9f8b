"""Choose a trial's device by timing a few of its own steps: the GPU is not always the faster one."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from training.devices.accelerator import accelerator_of
from training.devices.allocator import give_back_free_memory
from training.errors import SettingsError
from training.settings import DeviceRequest

# More than the matrix speed of a core of today, with AMX or SME: if the trial's threads would lose even so, the CPU is
# not timed.
CORE_CEILING_FLOPS = 2e12


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device, and the seconds of a step on each candidate; None if not timed, or too small for the trial."""

    device: str
    seconds_per_step: Mapping[str, float | None]
    reason: str


def available_devices() -> list[str]:
    """List the devices of this process: "cpu", and "cuda" or "mps" if torch can use one."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(
    request: DeviceRequest,
    available: list[str],
    flops_per_step: float,
    threads: int,
    time_step: Callable[[str], float],
) -> DeviceChoice:
    """Choose the device of a trial: the requested one, the only one, or the fastest.

    ``time_step(device)`` returns seconds, infinity where the trial does not fit. Accelerators are timed first; the CPU
    only if the trial's ``threads`` could win at ``CORE_CEILING_FLOPS`` each. Raises SettingsError when the requested
    device is missing.
    """
    if request != "auto":
        if request not in available:
            raise SettingsError("device", request, "not on this machine", f"Choose {', '.join(available)} or auto.")
        return DeviceChoice(request, {request: None}, "asked for")
    if available == ["cpu"]:
        return DeviceChoice("cpu", {"cpu": None}, "the only one")
    seconds: dict[str, float | None] = {name: time_step(name) for name in available if name != "cpu"}
    fastest = min(value for value in seconds.values() if value is not None)
    if flops_per_step / (threads * CORE_CEILING_FLOPS) > fastest:
        seconds["cpu"] = None
        reason = "timed; the trial's CPU threads could not be faster"
    else:
        seconds["cpu"] = time_step("cpu")
        reason = "timed"
    timed = {name: value for name, value in seconds.items() if value is not None}
    fitting = {name: value if value is not None and math.isfinite(value) else None for name, value in seconds.items()}
    return DeviceChoice(min(timed, key=lambda name: timed[name]), fitting, reason)


def device_memory_bytes(device: str, cpu_available_bytes: int) -> int:
    """Return the memory that a trial can use on a device now. CPU and MPS share the machine's memory."""
    found = accelerator_of(device)
    if found is None:
        return cpu_available_bytes
    free = int(found.free_bytes())
    return min(cpu_available_bytes, free) if found.shares_memory else free


def release_cached_memory(device: str) -> None:
    """Collect garbage, then return the GPU's cached blocks and the process's freed ones."""
    gc.collect()
    found = accelerator_of(device)
    if found is not None:
        found.empty_cache()
    give_back_free_memory()
