"""Measures what this process holds on its accelerator: its resident bytes (RSS) show none of it.

Standard library only: torch is asked where the trial has loaded it.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class DeviceMemory:
    """The bytes that torch's allocator holds. `shared`: they are the machine's own memory, as on Apple silicon."""

    held_bytes: int = 0
    shared: bool = False


NONE = DeviceMemory()


def device_memory(modules: Mapping[str, Any] = sys.modules) -> DeviceMemory:
    """Ask torch's allocators for CUDA and Metal; NONE where torch is not loaded, or has no accelerator."""
    torch = modules.get("torch")
    try:
        if torch is None:
            return NONE
        if torch.cuda.is_initialized():
            held = sum(int(torch.cuda.memory_reserved(index)) for index in range(torch.cuda.device_count()))
            return DeviceMemory(held)
        if torch.backends.mps.is_available():
            return DeviceMemory(int(torch.mps.driver_allocated_memory()), shared=True)
    except Exception:  # noqa: BLE001 - another thread may just import torch; a figure for people ends no trial
        return NONE
    return NONE
