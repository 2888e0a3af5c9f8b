"""Test each provider with any source, also with one that breaks."""

from __future__ import annotations

import importlib
import json
import pkgutil
import re
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

import supervisor.sensors
from supervisor.clock import FakeClock
from supervisor.sensors.apple.macmon import MacmonProvider
from supervisor.sensors.battery import BatteryProvider, MacBatteryProvider
from supervisor.sensors.cpu_throttle import CpuThrottleProvider
from supervisor.sensors.discovery import ANYWHERE, Listed, open_providers
from supervisor.sensors.disk import DiskProvider
from supervisor.sensors.host import HostProvider
from supervisor.sensors.hwmon import HwmonProvider
from supervisor.sensors.isolation import IsolatedProvider, Patience
from supervisor.sensors.memory_pressure import MemoryKillsProvider, PressureStallProvider
from supervisor.sensors.provider import Provider
from supervisor.sensors.reading import Kind, Quality, Reading
from supervisor.sensors.trial_memory import TrialMemoryProvider
from tests import waits
from tests.unit.sensors.provider_cases import CASES, Case, apple, isolated, nvidia, scripted

UNITS = {
    Kind.TEMPERATURE: {"celsius"},
    Kind.MARGIN: {"celsius"},
    Kind.PRESSURE: {"level"},
    Kind.THROTTLE: {"level"},
    Kind.UTILISATION: {"percent"},
    Kind.FAN: {"rpm"},
    Kind.POWER: {"watt"},
    Kind.MEMORY: {"percent", "bytes"},
    Kind.SWAP: {"percent", "bytes"},
    Kind.PSI: {"percent"},
    Kind.DISK: {"bytes"},
    Kind.BATTERY: {"percent", "flag"},
    Kind.FREQUENCY: {"megahertz"},
    Kind.EVENT: {"count"},
}


def first_readings(case: Case) -> list[Reading]:
    """Return the first readings; a provider with a process of its own may need a moment."""
    return waits.until(f"{case.provider.name} has readings", case.provider.read, period_s=0.01)


@pytest.fixture(params=CASES, ids=lambda case: case.__name__)
def make(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Callable[[], tuple[Case, FakeClock]]]:
    opened: list[Case] = []

    def build() -> tuple[Case, FakeClock]:
        clock = FakeClock()
        folder = tmp_path / str(len(opened))
        folder.mkdir()
        opened.append(request.param(clock, folder))
        return opened[-1], clock

    yield build
    for case in opened:
        case.provider.close()


Built = Callable[[], tuple[Case, FakeClock]]


def test_it_is_a_provider_and_its_probe_gives_a_reason(make: Built) -> None:
    case, _ = make()
    assert isinstance(case.provider, Provider)
    assert re.fullmatch(r"[a-z][a-z-]*", case.provider.name)
    said = case.provider.probe()
    assert said.reason


def test_readings_are_valid_and_survive_json(make: Built) -> None:
    case, clock = make()
    case.provider.probe()
    clock.now_s += 5.0
    for reading in first_readings(case):
        assert reading.unit in UNITS[reading.kind]
        assert reading.mono_s == clock.mono_s()
        assert reading.wall_s == clock.wall_s()
        assert reading.source == case.provider.name
        assert reading.quality is Quality.OK or reading.detail
        assert Reading.from_json(json.loads(json.dumps(reading.to_json()))) == reading


def test_ids_are_unique_and_the_same_at_every_pass_and_start(make: Built) -> None:
    (first, clock), (second, _) = make(), make()
    for case in (first, second):
        case.provider.probe()
    ids = [reading.sensor_id for reading in first_readings(first)]
    assert len(ids) == len(set(ids))
    assert ids == [reading.sensor_id for reading in first_readings(second)]
    clock.now_s += 5.0
    assert ids == [reading.sensor_id for reading in first_readings(first)]
    assert not any(re.search(r"hwmon\d", sensor_id) for sensor_id in ids)


def test_it_reads_the_same_without_a_probe(make: Built) -> None:
    """A restarted child gets no probe, only reads."""
    (probed, _), (unprobed, _) = make(), make()
    probed.provider.probe()
    first_readings(probed), first_readings(unprobed)  # the first pass has no difference to tell
    assert {r.sensor_id for r in first_readings(unprobed)} == {r.sensor_id for r in first_readings(probed)}


def test_a_broken_source_gives_readings_without_a_value_and_no_exception(make: Built) -> None:
    case, clock = make()
    case.provider.probe()
    before = first_readings(case)
    case.break_it()
    clock.now_s += 60.0
    after = case.provider.read()
    if case.provider.name != "scripted":
        values = {reading.sensor_id: reading.value for reading in before if reading.value is not None}
        assert all(reading.value is None for reading in after if reading.sensor_id in values)
    assert {reading.sensor_id for reading in after if reading.kind is not Kind.EVENT} <= {r.sensor_id for r in before}


def test_it_can_be_read_unprobed_closed_twice_and_read_after_that(make: Built) -> None:
    case, _ = make()
    case.provider.read()
    case.provider.close()
    case.provider.close()
    assert isinstance(case.provider.read(), list)


def test_the_suite_covers_every_provider() -> None:
    classes = {
        getattr(module, name)
        for found in pkgutil.walk_packages(supervisor.sensors.__path__, "supervisor.sensors.")
        for module in [importlib.import_module(found.name)]
        for name in dir(module)
        if name.endswith("Provider") and getattr(module, name).__module__ == module.__name__ and name != "Provider"
    }
    covered = {type(case(FakeClock(), Path("/nonexistent")).provider) for case in (nvidia, apple, scripted, isolated)}
    covered |= {HostProvider, DiskProvider, HwmonProvider, PressureStallProvider, CpuThrottleProvider}
    covered |= {TrialMemoryProvider, BatteryProvider, MemoryKillsProvider, MacBatteryProvider, MacmonProvider}
    assert classes == covered


@pytest.mark.parametrize("platform", ["linux", "darwin"])
def test_a_machine_without_sensors_is_no_error_and_gives_remedies(platform: str, tmp_path: Path) -> None:
    """Also for the other platform, of which this machine has nothing: the rest is still read."""
    if platform == sys.platform and Path("/sys/class/hwmon").exists():
        pytest.skip("this machine has sensors, so it cannot show what one without does")
    providers, said = open_providers(None, [tmp_path], FakeClock(), platform)
    names = {provider.name for provider in providers}
    assert {"scripted", "host", "disk"} <= names
    unavailable = [availability for _, availability in said if not availability.ok]
    assert unavailable
    assert all(availability.reason for availability in unavailable)
    kinds = {reading.kind for provider in providers for reading in [*provider.read(), *provider.read()]}
    assert {Kind.UTILISATION, Kind.MEMORY, Kind.DISK} <= kinds
    for provider in providers:
        provider.close()


def test_a_driver_that_hangs_at_the_start_is_tried_again_later(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = FakeClock()
    hanging = IsolatedProvider("late", ["sh", "-c", "sleep 1000"], clock, Patience(start_s=0.05))
    absent = IsolatedProvider(
        "none", ["sh", "-c", 'read verb; echo \'{"availability": {"ok": false, "reason": "no GPU"}}\''], clock
    )
    listed = (Listed(ANYWHERE, lambda _clock, _: hanging), Listed(ANYWHERE, lambda _clock, _: absent))
    monkeypatch.setattr("supervisor.sensors.discovery.PROVIDERS", listed)
    providers, said = open_providers(None, [tmp_path], clock, "linux")
    assert [provider.name for provider in providers] == ["scripted", "late"]
    assert dict(said)["late"].reason == "its process hung: no answer in 0.05 s"
    assert dict(said)["none"].reason == "no GPU"
    assert [reading.kind for reading in hanging.read()] == [Kind.EVENT]
    hanging.close()


def test_a_script_replaces_the_thermal_providers(tmp_path: Path) -> None:
    trace = tmp_path / "trace.jsonl"
    trace.write_text('{"at_s": 0, "celsius": 60}\n')
    providers, said = open_providers(trace, [tmp_path], FakeClock(), "linux")
    assert {"hwmon", "nvidia", "cpu-throttle"}.isdisjoint(name for name, _ in said)
    assert providers[0].read()[0].value == 60.0
