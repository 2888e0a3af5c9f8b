"""NVIDIA GPUs by NVML (nvidia-ml-py): core and memory temperature, margin, thermal slow-down, use, power, Xid errors.

Functions come and go: nvmlDeviceGetTemperature is "removed in CUDA 14.0", nvmlDeviceGetMarginTemperature needs
driver 570, and the clocks' "throttle reasons" became "event reasons". Each is tried, none is required.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from importlib import import_module
from typing import Any

from supervisor.clock import Now, TimeSource
from supervisor.sensors import default_limits
from supervisor.sensors.nvidia_xid import XidListener, described
from supervisor.sensors.provider import NO_LIMITS, Sampler
from supervisor.sensors.reading import Availability, Kind, Limits, Quality, Reading

MAX_DEVICES = 64
PLAUSIBLE_CELSIUS = (1.0, 125.0)

# nvml.h: nvmlTemperatureThresholds_t, field ids and nvmlClocksEventReason bits.
SHUTDOWN, SLOWDOWN, MEMORY_MAXIMUM = 0, 1, 2
MEMORY_TEMPERATURE_FIELD = 82
SLOWDOWN_MARGIN_FIELD = 194
SOFTWARE_THERMAL, HARDWARE_THERMAL = 0x20, 0x40

REMEDIES = {
    "LibraryNotFound": "install the NVIDIA driver, if there is an NVIDIA GPU here",
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
    plausible: tuple[float, float] | None = None


class NvidiaProvider:
    """Every GPU that NVML shows. `nvml` is the module; tests hand in their own."""

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
        except Exception as error:  # noqa: BLE001 - NVML's own tree, and ctypes errors for what the driver lacks
            kind = type(error).__name__.removeprefix("NVMLError_")
            return Availability(False, f"NVML: {error}", REMEDIES.get(kind))
        if not self._gpus:
            return Availability(False, "no NVIDIA GPU here")
        self._xid = XidListener(self._nvml, {gpu.uuid: gpu.handle for gpu in self._gpus})
        return Availability(True, f"{len(self._gpus)} GPUs")

    def read(self) -> list[Reading]:
        sampler = Sampler(self.name, Now.of(self._clock))
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
        except Exception:  # noqa: BLE001 - a driver that is gone cannot be left in order, and nothing depends on it
            return

    def _describe(self, index: int) -> _Gpu:
        handle = self._nvml.nvmlDeviceGetHandleByIndex(index)
        uuid = self._nvml.nvmlDeviceGetUUID(handle)
        # GPU_MAX is not among them: it was seen at 57 on a chip that slows at 97 (thermal_daemon issue 300).
        slowdown = self._threshold(handle, SLOWDOWN)
        shutdown = self._threshold(handle, SHUTDOWN)
        if slowdown is None and shutdown is not None:
            slowdown = default_limits.plausible_limit(shutdown - 5.0)
        margin = self._quietly(lambda: self._field(handle, SLOWDOWN_MARGIN_FIELD), None)
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
        sensor_id = f"nvml:{gpu.uuid}/{signal.part}"
        limits = {"core": gpu.core, "memory": gpu.memory, "margin": gpu.margin}.get(signal.part, NO_LIMITS)

        def absent(quality: Quality, why: str) -> Reading:
            return sampler.absent(sensor_id, signal.kind, signal.component, signal.unit, quality, why, limits=limits)

        try:
            value = signal.read(gpu.handle)
        except Exception as error:  # noqa: BLE001 - NVML's own tree, and ctypes errors for what the driver lacks
            if _missing(error):
                # Told once, then left out: it will not come without another driver.
                gpu.unsupported.add(signal.part)
                return absent(Quality.UNSUPPORTED, str(error))
            return absent(Quality.ERROR, str(error) or type(error).__name__)
        if signal.plausible is not None and not signal.plausible[0] <= value <= signal.plausible[1]:
            low, high = signal.plausible
            return absent(Quality.IMPLAUSIBLE, f"{value:g} is outside {low:g} to {high:g}")
        return sampler.ok(sensor_id, signal.kind, signal.component, value, signal.unit, limits=limits)

    def _xid_readings(self, sampler: Sampler) -> list[Reading]:
        """Per GPU how many Xid errors came since the last pass, and which."""
        if self._xid is None:
            return []
        new = self._xid.new()
        by_gpu = {uuid: [xid for other, xid in new if other == uuid] for uuid in sorted(self._xid.supported)}
        return [
            sampler.ok(f"nvml:{uuid}/xid", Kind.EVENT, "gpu", float(len(xids)), "count", detail=described(xids))
            for uuid, xids in by_gpu.items()
        ]

    # --- one call each ---

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
        celsius = self._quietly(lambda: float(self._nvml.nvmlDeviceGetTemperatureThreshold(handle, which)), None)
        # 127 is what some drivers say for "none" (nvidia-settings issue 34).
        return None if celsius == 127.0 else default_limits.plausible_limit(celsius)

    def _field(self, handle: Any, field_id: int) -> int:
        """A whole number by its field id. Raises the error of the field, as NVML's other calls do."""
        (value,) = self._nvml.nvmlDeviceGetFieldValues(handle, [field_id])
        if value.nvmlReturn != 0:
            raise self._nvml.NVMLError(value.nvmlReturn)
        return int(value.value.siVal)

    def _quietly(self, call: Callable[[], float], otherwise: float | None) -> float | None:
        try:
            return call()
        except Exception:  # noqa: BLE001 - a threshold that cannot be had has a default
            return otherwise


def _missing(error: Exception) -> bool:
    """Whether the driver or the binding lacks this function, or the device this feature."""
    return type(error).__name__ in ("NVMLError_FunctionNotFound", "NVMLError_NotSupported", "AttributeError")


def _margin_limits(slowdown: float | None) -> Limits:
    """Hopper's margins count down to a slow-down point of their own, such as -2; without it every node alarms."""
    if slowdown is None or not -20.0 <= slowdown <= 0.0:
        return default_limits.MARGIN
    base = default_limits.MARGIN
    assert base.soft is not None
    assert base.pause is not None
    assert base.critical is not None
    return replace(
        base, soft=base.soft + slowdown, pause=base.pause + slowdown, critical=base.critical + slowdown, source="device"
    )
