"""Xid errors of NVIDIA GPUs as they happen, where the driver lets us listen.

The numbers are from NVIDIA's "Xid Errors" guide; those below mean the hardware, most others the program.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

XID_CRITICAL_ERROR = 0x8  # nvmlEventTypeXidCriticalError
MAX_EVENTS = 16
HARDWARE = {
    48: "double-bit memory error",
    63: "memory page retired",
    64: "memory page could not be retired",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor does not answer",
}


class XidListener:
    """Registers for every handle that allows it. Raises nothing: without the feature `supported` is empty."""

    def __init__(self, nvml: Any, handles: Mapping[str, Any]) -> None:
        self._nvml = nvml
        self.supported: set[str] = set()
        try:
            self._events = nvml.nvmlEventSetCreate()
        except Exception:  # noqa: BLE001 - NVML's own tree, and ctypes errors for what the driver lacks
            return
        for uuid, handle in handles.items():
            try:
                nvml.nvmlDeviceRegisterEvents(handle, XID_CRITICAL_ERROR, self._events)
            except Exception:  # noqa: BLE001, S112 - as above; another card may allow it
                continue
            self.supported.add(uuid)

    def new(self) -> list[tuple[str, int]]:
        """UUID and Xid of what came since the last call; returns at once."""
        found: list[tuple[str, int]] = []
        while self.supported and len(found) < MAX_EVENTS:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = self._nvml.nvmlDeviceGetUUID(event.device)
            except Exception:  # noqa: BLE001 - a timeout is how NVML says that there is nothing more
                break
            found.append((uuid.decode() if isinstance(uuid, bytes) else str(uuid), int(event.eventData)))
        return found


def described(xids: list[int]) -> str:
    """What the newest errors are, for people."""
    return ", ".join(f"Xid {xid}" + (f" ({HARDWARE[xid]})" if xid in HARDWARE else "") for xid in xids) or "no Xid"
