"""Apple silicon above the native layer: decoding, gated clusters, failing keys, batteries; and that layer elsewhere."""

from __future__ import annotations

import contextlib
import plistlib
import struct
import subprocess
import sys
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import FakeClock
from supervisor.sensors.apple.native import Darwin
from supervisor.sensors.apple.provider import AppleProvider
from supervisor.sensors.apple.rules import decode, group_keys, hid_rejected, hottest
from supervisor.sensors.battery import MacBatteryProvider
from supervisor.sensors.provider import Absence
from supervisor.sensors.reading import Quality, Reading


class FakeMac:
    """SMC keys as floats; a key that is None fails to be read."""

    def __init__(self, smc: dict[str, float | None], hid: list[tuple[str, float]] | None = None) -> None:
        self.smc, self.hid = smc, hid or []
        self.thermal: int | OSError = 0
        self.memory: int | OSError = 1

    def smc_keys(self) -> list[str]:
        return sorted(self.smc)

    def smc_read(self, key: str) -> tuple[str, bytes]:
        value = self.smc[key]
        if value is None:
            raise OSError("result 132")
        return "flt ", struct.pack("<f", value)

    def hid_temperatures(self) -> list[tuple[str, float]]:
        return self.hid

    def thermal_pressure(self) -> int:
        return self._level(self.thermal)

    def memory_pressure(self) -> int:
        return self._level(self.memory)

    @staticmethod
    def _level(level: int | OSError) -> int:
        if isinstance(level, OSError):
            raise level
        return level


def read(mac: FakeMac) -> dict[str, Reading]:
    provider = AppleProvider(FakeClock(), mac)
    provider.probe()
    return {reading.sensor_id: reading for reading in provider.read()}


@pytest.mark.parametrize(
    ("kind", "raw", "value"),
    [
        ("flt ", struct.pack("<f", 112.125), 112.125),
        ("flt ", bytes.fromhex("00002042"), 40.0),
        ("fpe2", bytes.fromhex("1d4c"), 1875.0),
        ("ui8 ", b"\x02", 2.0),
        ("ui16", b"\x01\x00", 256.0),
        ("ui32", b"\x00\x00\x09\x69", 2409.0),
        ("sp78", bytes.fromhex("3280"), 50.5),
        ("ioft", struct.pack("<q", 3 * 65536), 3.0),
        ("ch8*", b"Mac", None),
        ("flt ", b"\x00", None),
    ],
)
def test_smc_types_decode_as_the_hardware_writes_them(kind: str, raw: bytes, value: float | None) -> None:
    assert decode(kind, raw) == value


@pytest.mark.parametrize("sentinel", [-4, 0, 1.5, 2.2, 2.4, 2.5, 3.4, 4, 5.2, 4.633, 6.7, 8.425, 9.4, 40.0])
def test_a_gated_clusters_constant_is_never_a_temperature(sentinel: float) -> None:
    parked = hottest({"Tp00": sentinel, "Tp01": sentinel})
    assert isinstance(parked, Absence)
    assert parked.quality is Quality.PARKED
    assert hottest({"Tp00": sentinel, "Tp01": 71.5}) == 71.5


@given(st.dictionaries(st.text(max_size=4), st.floats(allow_nan=True) | st.none()))
def test_the_hottest_value_of_any_keys_is_real_or_absent(values: dict[str, float | None]) -> None:
    found = hottest(values)
    if isinstance(found, Absence):
        assert found.quality is not Quality.OK
        assert found.detail
    else:
        assert 15.0 <= found <= 125.0
        assert found != 40.0


def test_a_die_near_40_degrees_is_read() -> None:
    """Only exactly 40 means gated."""
    assert hottest({"TCMb": 40.01}) == 40.01


def test_tf_keys_are_left_out_since_some_are_constants() -> None:
    assert group_keys(["Tf16", "Tf04", "Tp01", "TCMb", "Ta01"]) == {"smc:TCMb": ["TCMb"], "smc:performance": ["Tp01"]}


def test_a_chip_without_tcmz_still_has_its_average_and_clusters() -> None:
    readings = read(FakeMac({"TCMb": 90.0, "Tp01": 101.0}))
    assert "smc:TCMz" not in readings
    assert readings["smc:TCMb"].value == 90.0
    assert readings["smc:performance"].value == 101.0


def test_a_key_that_fails_costs_only_itself() -> None:
    mac = FakeMac({"TCMb": 90.0, "TCMz": None, "Tp01": 88.0, "Tp02": None})
    readings = read(mac)
    assert readings["smc:TCMz"].quality is Quality.ERROR
    assert readings["smc:performance"].value == 88.0


def test_a_sensor_that_was_gated_at_start_is_read_once_it_wakes() -> None:
    """A program that chooses its keys by their first values would lose it for ever."""
    mac = FakeMac({"TCMb": 40.0, "Tp01": 40.0, "Te01": 35.5})
    provider = AppleProvider(FakeClock(), mac)
    assert provider.probe().ok
    mac.smc["TCMb"] = 112.0
    assert {r.sensor_id: r.value for r in provider.read()}["smc:TCMb"] == 112.0


def test_services_that_share_a_name_are_folded_to_their_maximum() -> None:
    readings = read(FakeMac({}, [("PMU tdie1", 51.0), ("PMU tdie1", 58.5), ("PMU tdev6", 7654.4)]))
    assert readings["hid:die"].value == 58.5
    assert hid_rejected("PMU tdie1") is None


def test_pressures_are_levels_and_other_numbers_are_implausible() -> None:
    mac = FakeMac({"TCMb": 90.0})
    mac.thermal, mac.memory = 2, OSError("sysctlbyname failed")
    readings = read(mac)
    assert readings["notify:thermalpressure"].value == 2.0
    assert readings["sysctl:memorypressure"].quality is Quality.ERROR
    mac.thermal = 50
    assert read(mac)["notify:thermalpressure"].quality is Quality.IMPLAUSIBLE


def test_a_virtual_mac_reports_that_it_has_no_temperature() -> None:
    said = AppleProvider(FakeClock(), FakeMac({})).probe()
    assert not said.ok
    assert said.remedy == "expected inside virtual machines"


def test_the_native_layer_refuses_elsewhere_and_never_crashes() -> None:
    """On macOS too: a virtual machine may lack the SMC, which is an OSError and no crash."""
    if sys.platform != "darwin":
        with pytest.raises(OSError, match="CoreFoundation"):
            Darwin()
        return
    with contextlib.suppress(OSError):
        assert Darwin().memory_pressure() in (1, 2, 4)


def battery(**changed: Any) -> dict[str, Reading]:
    entry = {"CurrentCapacity": 80, "MaxCapacity": 100, "ExternalConnected": True, "Temperature": 3010} | changed
    provider = MacBatteryProvider(FakeClock(), lambda: plistlib.dumps([entry]))
    return {reading.sensor_id.rpartition("/")[2]: reading for reading in provider.read()}


def test_a_battery_behind_a_weak_adapter_drains_although_plugged_in() -> None:
    """ioreg prints a negative current as an unsigned number of 64 bits."""
    assert battery(InstantAmperage=2**64 - 1500)["discharging"].value == 1.0
    assert battery(InstantAmperage=1500)["discharging"].value == 0.0
    assert battery(ExternalConnected=False)["discharging"].value == 1.0


@pytest.mark.parametrize(("raw", "celsius"), [(3010, 30.1), (30, None), (30100, None)])
def test_a_battery_temperature_in_another_unit_is_implausible(raw: int, celsius: float | None) -> None:
    reading = battery(Temperature=raw, InstantAmperage=0)["temperature"]
    assert reading.value == celsius


def slow() -> bytes:
    raise subprocess.TimeoutExpired("ioreg", 1.5)


def absent() -> bytes:
    raise FileNotFoundError(2, "No such file or directory: 'ioreg'")


@pytest.mark.parametrize("ask", [slow, absent, lambda: b"", lambda: b"<garbage", lambda: plistlib.dumps([])])
def test_an_ioreg_that_fails_is_no_battery(ask: Any) -> None:
    provider = MacBatteryProvider(FakeClock(), ask)
    assert not provider.probe().ok
    assert [reading.quality for reading in provider.read()] == [Quality.ERROR]
