"""NVML as an injected module: every documented error, and functions that a driver lacks."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest
from pynvml import NVMLError, c_nvmlFieldValue_t

from supervisor.sensors import default_limits
from supervisor.sensors.nvidia import NvidiaProvider
from supervisor.sensors.reading import Limits, Quality, Reading

NOT_SUPPORTED, NO_PERMISSION, TIMEOUT, FUNCTION_NOT_FOUND, GPU_IS_LOST, UNKNOWN = 3, 4, 10, 13, 15, 999
DOCUMENTED = [*range(1, 31), UNKNOWN]


@dataclass
class FakeClock:
    def mono_s(self) -> float:
        return 100.0

    def wall_s(self) -> float:
        return 1.7e9


@dataclass
class Rates:
    gpu: int = 55


@dataclass
class FakeNvml:
    """A table of answers; an NVMLError is raised, and a name that is not in the table does not exist."""

    answers: dict[str, Any]
    fields: dict[int, Any] = field(default_factory=dict)
    NVMLError = NVMLError

    def __getattr__(self, name: str) -> Any:
        if name == "nvmlDeviceGetFieldValues":
            return self._fields
        if name not in self.answers:
            raise AttributeError(f"module 'pynvml' has no attribute {name!r}")

        def call(*arguments: Any) -> Any:
            answer = self.answers[name]
            if callable(answer):
                answer = answer(*arguments)
            if isinstance(answer, Exception):
                raise answer
            return answer

        return call

    def _fields(self, handle: object, ids: list[int]) -> list[c_nvmlFieldValue_t]:
        values = []
        for field_id in ids:
            value = c_nvmlFieldValue_t()
            number = self.fields.get(field_id)
            value.nvmlReturn = 0 if number is not None else NOT_SUPPORTED
            value.value.siVal = number or 0
            values.append(value)
        return values


def nvml(**changed: Any) -> FakeNvml:
    answers: dict[str, Any] = {
        "nvmlInit": None,
        "nvmlShutdown": None,
        "nvmlDeviceGetCount": 1,
        "nvmlDeviceGetHandleByIndex": object(),
        "nvmlDeviceGetUUID": "GPU-1",
        "nvmlDeviceGetTemperatureThreshold": lambda _handle, which: [102, 97, 105, 57][which],
        "nvmlDeviceGetTemperatureV": 56,
        "nvmlDeviceGetMarginTemperature": 41,
        "nvmlDeviceGetCurrentClocksEventReasons": 0,
        "nvmlDeviceGetUtilizationRates": Rates(),
        "nvmlDeviceGetPowerUsage": 300_500,
    }
    fields = changed.pop("fields", {82: 60, 194: -2})
    answers |= changed
    return FakeNvml({name: answer for name, answer in answers.items() if answer is not ...}, fields)


def read(module: FakeNvml) -> dict[str, Reading]:
    provider = NvidiaProvider(FakeClock(), module)
    provider.probe()
    return {reading.sensor_id.rpartition("/")[2]: reading for reading in provider.read()}


def test_a_whole_gpu() -> None:
    readings = read(nvml())
    assert {part: reading.value for part, reading in readings.items()} == {
        "core": 56.0,
        "memory": 60.0,
        "margin": 41.0,
        "throttle": 0.0,
        "utilisation": 55.0,
        "power": 300.5,
    }
    assert readings["core"].sensor_id == "nvml:GPU-1/core"
    assert readings["core"].limits == Limits(87.0, 92.0, 95.0, "device")
    assert readings["memory"].limits == Limits(93.0, 99.0, 103.0, "device")
    assert readings["margin"].limits == Limits(8.0, 3.0, -2.0, "device")


def test_removed_and_renamed_functions_are_tried_in_turn() -> None:
    old = nvml(
        nvmlDeviceGetTemperatureV=NVMLError(FUNCTION_NOT_FOUND),
        nvmlDeviceGetTemperature=77,
        nvmlDeviceGetCurrentClocksEventReasons=...,
        nvmlDeviceGetCurrentClocksThrottleReasons=0x20,
        nvmlDeviceGetMarginTemperature=...,
    )
    readings = read(old)
    assert readings["core"].value == 77.0
    assert readings["throttle"].value == 1.0
    assert readings["margin"].quality is Quality.UNSUPPORTED


@pytest.mark.parametrize(("bits", "level"), [(0x1, 0), (0x4, 0), (0x80, 0), (0x8, 0), (0x20, 1), (0x40, 2), (0x48, 2)])
def test_only_the_thermal_bits_count_and_the_hardwares_counts_more(bits: int, level: int) -> None:
    assert read(nvml(nvmlDeviceGetCurrentClocksEventReasons=bits))["throttle"].value == level


@pytest.mark.parametrize("code", DOCUMENTED)
def test_every_documented_error_of_a_reading_is_a_reading_without_a_value(code: int) -> None:
    readings = read(nvml(nvmlDeviceGetTemperatureV=NVMLError(code), nvmlDeviceGetTemperature=NVMLError(code)))
    assert readings["core"].value is None
    assert readings["core"].quality in (Quality.ERROR, Quality.UNSUPPORTED)
    assert readings["core"].detail
    assert readings["power"].value == 300.5


@pytest.mark.parametrize("code", DOCUMENTED)
def test_every_documented_error_at_start_makes_it_unavailable_with_a_reason(code: int) -> None:
    said = NvidiaProvider(FakeClock(), nvml(nvmlInit=NVMLError(code))).probe()
    assert not said.ok
    assert said.reason.startswith("NVML: ")


def test_a_gpu_that_falls_off_the_bus_is_reported() -> None:
    module = nvml()
    provider = NvidiaProvider(FakeClock(), module)
    provider.probe()
    for name in module.answers:
        if name.startswith("nvmlDeviceGet"):
            module.answers[name] = NVMLError(GPU_IS_LOST)
    core = next(reading for reading in provider.read() if reading.sensor_id.endswith("/core"))
    assert (core.quality, core.detail) == (Quality.ERROR, "GPU is lost")


def test_a_missing_feature_is_reported_once_and_then_left_out() -> None:
    provider = NvidiaProvider(FakeClock(), nvml(fields={}))
    provider.probe()
    first, second = provider.read(), provider.read()
    assert any(reading.quality is Quality.UNSUPPORTED for reading in first)
    assert all(reading.quality is Quality.OK for reading in second)


def test_no_gpu_and_no_package_are_no_errors() -> None:
    assert NvidiaProvider(FakeClock(), nvml(nvmlDeviceGetCount=0)).probe().reason == "NVML shows no GPU"


@pytest.mark.parametrize("celsius", [0, -40, 200])
def test_an_impossible_temperature_is_no_value(celsius: int) -> None:
    assert read(nvml(nvmlDeviceGetTemperatureV=celsius))["core"].quality is Quality.IMPLAUSIBLE


def test_implausible_limits_become_defaults() -> None:
    readings = read(nvml(nvmlDeviceGetTemperatureThreshold=127, fields={82: 60}))
    assert readings["core"].limits == default_limits.GPU_CORE
    assert readings["margin"].limits == default_limits.MARGIN
    shutdown_only = nvml(nvmlDeviceGetTemperatureThreshold=lambda _h, which: 100 if which == 0 else 0)
    assert read(shutdown_only)["core"].limits.critical == 93.0


@dataclass
class Event:
    device: object
    eventData: int  # noqa: N815 - NVML's name


def test_xid_errors_are_reported_once_with_their_meaning() -> None:
    pending = [Event(object(), 79), Event(object(), 13)]
    module = nvml(
        nvmlEventSetCreate=object(),
        nvmlDeviceRegisterEvents=None,
        nvmlEventSetWait_v2=lambda _events, _wait: pending.pop(0) if pending else NVMLError(TIMEOUT),
    )
    provider = NvidiaProvider(FakeClock(), module)
    provider.probe()
    (first,), (second,) = (
        [reading for reading in provider.read() if reading.sensor_id.endswith("/xid")] for _ in range(2)
    )
    assert (first.value, first.detail) == (2.0, "Xid 79 (the GPU has fallen off the bus), Xid 13")
    assert (second.value, second.detail) == (0.0, "no Xid")


@pytest.mark.parametrize("refused", ["nvmlEventSetCreate", "nvmlDeviceRegisterEvents"])
def test_without_permission_for_events_there_is_no_xid_reading(refused: str) -> None:
    allowed: dict[str, Any] = {"nvmlEventSetCreate": object(), "nvmlDeviceRegisterEvents": None}
    readings = read(nvml(**(allowed | {refused: NVMLError(NO_PERMISSION)})))
    assert "xid" not in readings
    assert readings["core"].value == 56.0
