"""Which device a trial computes on: measured on a few of its own steps, for the faster one is not always the GPU."""

from __future__ import annotations

import gc
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import torch

from training.allocator import give_back_free_memory
from training.errors import SettingsError
from training.settings import DeviceRequest

# Above the matrix speed of any CPU of today; what a CPU cannot reach even so need not be timed (a step of a large
# trial takes a CPU minutes).
CPU_CEILING_FLOPS = 10e12


@dataclass(frozen=True, slots=True)
class DeviceChoice:
    """The device, and the seconds of one step on each candidate; None for one not timed, or too small for the trial."""

    device: str
    seconds_per_step: Mapping[str, float | None]
    reason: str


def available_devices() -> list[str]:
    """The devices of this process: "cpu" always, "cuda" or "mps" where torch can use one."""
    found = ["cpu"]
    if torch.cuda.is_available():
        found.append("cuda")
    if torch.backends.mps.is_available():
        found.append("mps")
    return found


def choose_device(
    request: DeviceRequest, available: list[str], flops_per_step: float, time_step: Callable[[str], float]
) -> DeviceChoice:
    """The device for a trial: the one asked for, the only one, or the fastest by ``time_step(device)`` in seconds.

    ``time_step`` answers infinity for a device that the trial does not fit.

    Accelerators are timed first; the CPU only if it could win at ``CPU_CEILING_FLOPS``. Raises SettingsError when the
    device asked for is not there.
    """
    if request != "auto":
        if request not in available:
            raise SettingsError("device", request, "not on this machine", f"There are {', '.join(available)}; or auto.")
        return DeviceChoice(request, {request: None}, "asked for")
    if available == ["cpu"]:
        return DeviceChoice("cpu", {"cpu": None}, "the only one")
    seconds: dict[str, float | None] = {name: time_step(name) for name in available if name != "cpu"}
    fastest = min(value for value in seconds.values() if value is not None)
    if flops_per_step / CPU_CEILING_FLOPS > fastest:
        seconds["cpu"] = None
        reason = "timed; no CPU could be faster"
    else:
        seconds["cpu"] = time_step("cpu")
        reason = "timed"
    timed = {name: value for name, value in seconds.items() if value is not None}
    fitting = {name: value if value is not None and math.isfinite(value) else None for name, value in seconds.items()}
    return DeviceChoice(min(timed, key=lambda name: timed[name]), fitting, reason)


def device_memory_bytes(device: str, cpu_available_bytes: int) -> int:
    """What a trial can have on a device now. CPU and MPS share the machine's memory; a GPU is asked."""
    if device == "cuda":
        # What torch reserved and does not use counts as taken on the GPU, but this process gets it back.
        cached = torch.cuda.memory_reserved() - torch.cuda.memory_allocated()
        return int(torch.cuda.mem_get_info()[0]) + int(cached)
    if device == "mps":
        return min(cpu_available_bytes, int(torch.mps.recommended_max_memory()))
    return cpu_available_bytes


def release_cached_memory(device: str) -> None:
    """Collect what nobody refers to any more, and give it back: a GPU's cached blocks, and the process's own."""
    gc.collect()
    if device == "cuda":
        torch.cuda.empty_cache()
    elif device == "mps":
        torch.mps.empty_cache()
    give_back_free_memory()
