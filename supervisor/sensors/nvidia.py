"""Reads NVIDIA GPUs by NVML (nvidia-ml-py): temperatures, margin, thermal slow-down, use, power and Xid errors.

Functions differ between drivers: nvmlDeviceGetTemperature is "removed in CUDA 14.0", nvmlDeviceGetMarginTemperature
needs driver 570, and the clocks' "throttle reasons" became "event reasons". Each is tried; none is required.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from supervisor.clock import TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.provider import NO_LIMITS, Absence, Provider, Sampler, Sensor, failed
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

MAX_DEVICES = 64
PLAUSIBLE_CELSIUS = (1.0, 125.0)

# nvml.h: nvmlTemperatureThresholds_t, field ids and nvmlClocksEventReason bits.
SHUTDOWN, SLOWDOWN, MEMORY_MAXIMUM = 0, 1, 2
MEMORY_TEMPERATURE_FIELD = 82
SLOWDOWN_MARGIN_FIELD = 194
SOFTWARE_THERMAL, HARDWARE_THERMAL = 0x20, 0x40

XID_CRITICAL_ERROR = 0x8  # nvmlEventTypeXidCriticalError
MAX_XIDS = 16
XID_HARDWARE = {
    48: "double-bit memory error",
    63: "memory page retired",
    64: "memory page could not be retired",
    74: "NVLink error",
    79: "the GPU has fallen off the bus",
    94: "contained memory error",
    95: "uncontained memory error",
    119: "the GPU's system processor does not answer",
}
"""Xid errors of the hardware (NVIDIA, "Xid Errors"); most others come from the program."""

REMEDIES = {
    "LibraryNotFound": "install the NVIDIA driver, if this machine has an NVIDIA GPU",
    "DriverNotLoaded": "load the driver: `sudo modprobe nvidia`, or reboot after an upgrade",
    "NoPermission": "allow this user to read /dev/nvidia*",
    "LibRmVersionMismatch": "reboot: the driver was upgraded under the running kernel",
}


@dataclass
class _Gpu:
    handle: Any
    uuid: str
    core: Limits
    memory: Limits
    margin: Limits
    unsupported: set[str] = field(default_factory=set)


@dataclass(frozen=True)
class _Signal:
    part: str
    kind: Kind
    component: str
    unit: str
    read: Callable[[Any], float]
    plausible: tuple[float, float] = (-math.inf, math.inf)


class NvidiaProvider(Provider):
    """Reads every GPU that NVML shows; `nvml` is the module, tests have their own."""

    name = "nvidia"

    def __init__(self, clock: TimeSource, nvml: Any = None) -> None:
        self._clock, self._nvml = clock, nvml
        self._gpus: list[_Gpu] | None = None
        self._xid: XidListener | None = None
        self._signals = (
            _Signal("core", Kind.TEMPERATURE, "gpu", "celsius", self._core, PLAUSIBLE_CELSIUS),
            _Signal("memory", Kind.TEMPERATURE, "vram", "celsius", self._memory, PLAUSIBLE_CELSIUS),
            _Signal("margin", Kind.MARGIN, "gpu", "celsius", self._margin, (-30.0, 125.0)),
            _Signal("throttle", Kind.THROTTLE, "gpu", "level", self._throttle),
            _Signal("utilisation", Kind.UTILISATION, "gpu", "percent", self._utilisation, (0.0, 100.0)),
            _Signal("power", Kind.POWER, "gpu", "watt", self._power, (0.0, 5000.0)),
        )

    def probe(self) -> Availability:
        try:
            if self._nvml is None:
                self._nvml = import_module("pynvml")
            self._nvml.nvmlInit()
            self._gpus = [self._describe(index) for index in range(min(MAX_DEVICES, self._nvml.nvmlDeviceGetCount()))]
        except ImportError:
            return Availability(False, "the package nvidia-ml-py is missing", "pip install nvidia-ml-py")
        except Exception as error:  # noqa: BLE001 - NVML's own errors, and ctypes' for missing functions
            kind = type(error).__name__.removeprefix("NVMLError_")
            return Availability(False, f"NVML: {error}", REMEDIES.get(kind))
        if not self._gpus:
            return Availability(False, "NVML shows no GPU")
        self._xid = XidListener(self._nvml, {gpu.uuid: gpu.handle for gpu in self._gpus})
        return Availability(True, f"{len(self._gpus)} GPUs")

    def read(self) -> list[Reading]:
        sampler = self._sampler()
        if self._gpus is None and not self.probe().ok:
            return []
        readings = [
            reading
            for gpu in self._gpus or ()
            for signal in self._signals
            if (reading := self._one(sampler, gpu, signal)) is not None
        ]
        return readings + self._xid_readings(sampler)

    def close(self) -> None:
        if self._gpus is None:
            return
        self._gpus, self._xid = None, None
        try:
            self._nvml.nvmlShutdown()
        except Exception:  # noqa: BLE001 - the driver may have been unloaded; nothing depends on it
            return

    def _describe(self, index: int) -> _Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        # GPU_MAX is not used: it was 57 on a chip that slows at 97 (thermal_daemon issue 300).
        slowdown = self._threshold(handle, SLOWDOWN)
        shutdown = self._threshold(handle, SHUTDOWN)
        if slowdown is None and shutdown is not None:
            slowdown = default_limits.plausible_limit(shutdown - 5.0)
        margin = _or_none(lambda: self._field(handle, SLOWDOWN_MARGIN_FIELD))
        return _Gpu(
            handle,
            uuid.decode() if isinstance(uuid, bytes) else str(uuid),
            core=default_limits.nvidia_core(slowdown),
            memory=default_limits.gpu_memory(self._threshold(handle, MEMORY_MAXIMUM)),
            margin=_margin_limits(margin),
        )

    def _one(self, sampler: Sampler, gpu: _Gpu, signal: _Signal) -> Reading | None:
        if signal.part in gpu.unsupported:
            return None
        limits = {"core": gpu.core, "memory": gpu.memory, "margin": gpu.margin}.get(signal.part, NO_LIMITS)
        sensor_id = f"nvml:{gpu.uuid}/{signal.part}"
        sensor = Sensor(sensor_id, signal.kind, signal.component, signal.unit, limits, signal.plausible)
        try:
            return sampler.reading(sensor, signal.read(gpu.handle))
        except Exception as error:  # noqa: BLE001 - NVML's own errors, and ctypes' for missing functions
            if not _missing(error):
                return sampler.reading(sensor, failed(error))
            # Reported once, then left out: only another driver would have it.
            gpu.unsupported.add(signal.part)
            return sampler.reading(sensor, Absence(Quality.UNSUPPORTED, str(error)))

    def _xid_readings(self, sampler: Sampler) -> list[Reading]:
        """Return the number of new Xid errors of each GPU, and their names."""
        if self._xid is None:
            return []
        new = self._xid.new()
        by_gpu = {uuid: [xid for other, xid in new if other == uuid] for uuid in sorted(self._xid.supported)}
        sensors = {uuid: Sensor(f"nvml:{uuid}/xid", Kind.EVENT, "gpu", "count") for uuid in by_gpu}
        return [sampler.reading(sensors[uuid], float(len(xids)), describe_xids(xids)) for uuid, xids in by_gpu.items()]

    # --- one NVML call each ---

    def _core(self, handle: Any) -> float:
        try:
            return float(self._nvml.nvmlDeviceGetTemperatureV(handle, 0))
        except Exception as error:
            if not _missing(error):
                raise
        return float(self._nvml.nvmlDeviceGetTemperature(handle, 0))

    def _memory(self, handle: Any) -> float:
        return float(self._field(handle, MEMORY_TEMPERATURE_FIELD))

    def _margin(self, handle: Any) -> float:
        return float(self._nvml.nvmlDeviceGetMarginTemperature(handle))

    def _throttle(self, handle: Any) -> float:
        try:
            bits = int(self._nvml.nvmlDeviceGetCurrentClocksEventReasons(handle))
        except Exception as error:
            if not _missing(error):
                raise
            bits = int(self._nvml.nvmlDeviceGetCurrentClocksThrottleReasons(handle))
        return 2.0 if bits & HARDWARE_THERMAL else 1.0 if bits & SOFTWARE_THERMAL else 0.0

    def _utilisation(self, handle: Any) -> float:
        return float(self._nvml.nvmlDeviceGetUtilizationRates(handle).gpu)

    def _power(self, handle: Any) -> float:
        return float(self._nvml.nvmlDeviceGetPowerUsage(handle)) / 1000

    def _threshold(self, handle: Any, which: int) -> float | None:
        celsius = _or_none(lambda: float(self._nvml.nvmlDeviceGetTemperatureThreshold(handle, which)))
        # Some drivers use 127 for "none" (nvidia-settings issue 34).
        return None if celsius == 127.0 else default_limits.plausible_limit(celsius)

    def _field(self, handle: Any, field_id: int) -> int:
        """Return the whole number of a field. Raises the field's own error, as NVML's other calls do."""
        (value,) = self._nvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if value.nvmlReturn != 0:
            raise self._nvml.NVMLError(value.nvmlReturn)
        return int(value.value.siVal)


def _or_none(call: Callable[[], float]) -> float | None:
    try:
        return call()
    except Exception:  # noqa: BLE001 - a limit that cannot be read has a default
        return None


def _missing(error: Exception) -> bool:
    """Decide whether the driver or the binding lacks this function, or the device this feature."""
    return type(error).__name__ in ("NVMLError_FunctionNotFound", "NVMLError_NotSupported", "AttributeError")


def _margin_limits(slowdown: float | None) -> Limits:
    """Return the limits of a margin; Hopper's count down to a slow-down point of their own, such as -2."""
    if slowdown is None or not -20.0 <= slowdown <= 0.0:
        return default_limits.MARGIN
    base = default_limits.MARGIN
    assert base.soft is not None
    assert base.pause is not None
    assert base.critical is not None
    return replace(
        base, soft=base.soft + slowdown, pause=base.pause + slowdown, critical=base.critical + slowdown, source="device"
    )


class XidListener:
    """Receives the Xid errors of each GPU that allows it; the others are not in `supported`."""

    def __init__(self, nvml: Any, handles: Mapping[str, Any]) -> None:
        self._nvml = nvml
        self.supported: set[str] = set()
        try:
            self._events = nvml.nvmlEventSetCreate()
        except Exception:  # noqa: BLE001 - NVML's own errors, and ctypes' for missing functions
            return
        for uuid, handle in handles.items():
            try:
                nvml.nvmlDeviceRegisterEvents(handle, XID_CRITICAL_ERROR, self._events)
            except Exception:  # noqa: BLE001, S112 - as above; another GPU may allow it
                continue
            self.supported.add(uuid)

    def new(self) -> list[tuple[str, int]]:
        """Return at once the UUID and Xid of each error since the last call."""
        found: list[tuple[str, int]] = []
        while self.supported and len(found) < MAX_XIDS:
            try:
                event = self._nvml.nvmlEventSetWait_v2(self._events, 0)
                uuid = self._nvml.nvmlDeviceGetUUID(event.device)
            except Exception:  # noqa: BLE001 - NVML ends the list by a timeout error
                break
            found.append((uuid.decode() if isinstance(uuid, bytes) else str(uuid), int(event.eventData)))
        return found


def describe_xids(xids: list[int]) -> str:
    """Return the errors as text for people."""
    named = (f"Xid {xid}" + (f" ({XID_HARDWARE[xid]})" if xid in XID_HARDWARE else "") for xid in xids)
    return ", ".join(named) or "no Xid"
