"""Make each provider on a source that a test can break."""

from __future__ import annotations

import json
import plistlib
import struct
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

import psutil

from supervisor.clock import FakeClock
from supervisor.sensors.apple.macmon import MacmonProvider
from supervisor.sensors.apple.provider import AppleProvider
from supervisor.sensors.battery import BatteryProvider, MacBatteryProvider
from supervisor.sensors.cgroup import MemoryGroup
from supervisor.sensors.cpu_throttle import CpuThrottleProvider
from supervisor.sensors.disk import DiskProvider
from supervisor.sensors.host import Amount, HostProvider
from supervisor.sensors.hwmon import HwmonProvider
from supervisor.sensors.isolation import IsolatedProvider, Patience
from supervisor.sensors.memory_pressure import MemoryKillsProvider, PressureStallProvider
from supervisor.sensors.nvidia import NvidiaProvider
from supervisor.sensors.provider import Provider
from supervisor.sensors.scripted import Frame, ScriptedProvider, simple_reading
from supervisor.sensors.trial_memory import TrialMemoryProvider, TrialWorker

FIXTURES = Path(__file__).parents[1] / "fixtures_sensors"


class Breakable:
    """A source whose calls all fail once it is `broken`."""

    broken = False

    def check(self) -> None:
        if self.broken:
            raise OSError(5, "Input/output error")


@dataclass
class Figures(Breakable):
    def cpu_percent(self) -> float:
        self.check()
        return 12.5

    def memory(self) -> Amount:
        self.check()
        return Amount(16 * 2**30, 8 * 2**30)

    def swap(self) -> Amount:
        self.check()
        return Amount(2 * 2**30, 2**30)


class Mac(Breakable):
    def __init__(self) -> None:
        self.smc = {"TCMb": 88.0, "TCMz": 97.0, "Tp01": 97.0, "Te05": 70.0, "Tg0f": 66.0}
        self.smc |= {"TB1T": 31.0, "PSTR": 40.0, "F0Ac": 1900.0}

    def smc_keys(self) -> list[str]:
        self.check()
        return [*self.smc, "FNum", "MSSP"]

    def smc_read(self, key: str) -> tuple[str, bytes]:
        self.check()
        return ("ui8 ", b"\x01") if key == "FNum" else ("flt ", struct.pack("<f", self.smc[key]))

    def hid_temperatures(self) -> list[tuple[str, float]]:
        self.check()
        return [("PMU tdie1", 61.0), ("gas gauge battery", 30.5)]

    def thermal_pressure(self) -> int:
        self.check()
        return 0

    def memory_pressure(self) -> int:
        self.check()
        return 1


class Nvml(Breakable):
    """The functions of NVML that the provider calls."""

    class NVMLError(Exception):
        pass

    @dataclass
    class Rates:
        gpu: int

    @dataclass
    class Value:
        nvmlReturn: int  # noqa: N815 - NVML's name
        value: object

    @dataclass
    class Number:
        siVal: int  # noqa: N815 - NVML's name

    def nvmlInit(self) -> None:  # noqa: N802 - NVML's names, here and below
        self.check()

    def nvmlShutdown(self) -> None:  # noqa: N802
        self.check()

    def nvmlDeviceGetCount(self) -> int:  # noqa: N802
        return 2

    def nvmlDeviceGetHandleByIndex(self, index: int) -> int:  # noqa: N802
        return index

    def nvmlDeviceGetUUID(self, handle: int) -> str:  # noqa: N802
        return f"GPU-{handle:08x}"

    def nvmlDeviceGetTemperatureThreshold(self, handle: int, which: int) -> int:  # noqa: N802
        return {0: 102, 1: 97, 2: 105, 3: 57}[which]

    def nvmlDeviceGetTemperatureV(self, handle: int, sensor: int) -> int:  # noqa: N802
        self.check()
        return 56

    def nvmlDeviceGetMarginTemperature(self, handle: int) -> int:  # noqa: N802
        self.check()
        return 40

    def nvmlDeviceGetFieldValues(self, handle: int, fields: list[int]) -> list[Value]:  # noqa: N802
        self.check()
        return [self.Value(0, self.Number({82: 60, 194: -2}[field])) for field in fields]

    def nvmlDeviceGetCurrentClocksEventReasons(self, handle: int) -> int:  # noqa: N802
        self.check()
        return 1

    def nvmlDeviceGetUtilizationRates(self, handle: int) -> Rates:  # noqa: N802
        self.check()
        return self.Rates(99)

    def nvmlDeviceGetPowerUsage(self, handle: int) -> int:  # noqa: N802
        self.check()
        return 250_000


@dataclass
class Case:
    """A provider with its source, and a function that breaks the source."""

    provider: Provider
    break_it: Callable[[], None]


def on_fake(make: Callable[[Breakable], Provider], below: Breakable) -> Case:
    def break_it() -> None:
        below.broken = True

    return Case(make(below), break_it)


def on_files(make: Callable[[Path], Provider], root: Path, files: dict[str, str]) -> Case:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)

    def break_it() -> None:
        for name in files:
            (root / name).unlink()

    return Case(make(root), break_it)


def host(clock: FakeClock, _: Path) -> Case:
    group = MemoryGroup(Path("/g"), 8 * 2**30, 2 * 2**30)
    return on_fake(lambda below: HostProvider(clock, below, lambda: [group]), Figures())  # type: ignore[arg-type]


def disk(clock: FakeClock, _: Path) -> Case:
    below = Breakable()

    def free(folder: Path) -> int:
        below.check()
        return 10**9

    return on_fake(lambda _: DiskProvider([Path("/a"), Path("/b"), Path("/a")], clock, free), below)


def hwmon(clock: FakeClock, root: Path) -> Case:
    files = {
        "hwmon3/name": "coretemp\n",
        "hwmon3/temp1_label": "Package id 0\n",
        "hwmon3/temp1_input": "45000\n",
        "hwmon3/temp1_crit": "100000\n",
    }
    return on_files(lambda root: HwmonProvider(clock, root), root, files)


def psi(clock: FakeClock, root: Path) -> Case:
    line = "avg10=1.50 avg60=0.00 avg300=0.00 total=0"
    files = dict.fromkeys(("memory", "io", "cpu"), f"some {line}\nfull {line}\n")
    return on_files(lambda root: PressureStallProvider(clock, root), root, files)


def cpu_throttle(clock: FakeClock, root: Path) -> Case:
    files = {"cpu0/thermal_throttle/package_throttle_count": "3\n", "cpu0/topology/physical_package_id": "0\n"}
    return on_files(lambda root: CpuThrottleProvider(clock, root), root, files)


def battery(clock: FakeClock, root: Path) -> Case:
    files = {"BAT0/type": "Battery\n", "BAT0/capacity": "80\n", "BAT0/status": "Discharging\n", "BAT0/temp": "301\n"}
    return on_files(lambda root: BatteryProvider(clock, root), root, files)


def memory_kills(clock: FakeClock, _: Path) -> Case:
    below = Breakable()
    return on_fake(
        lambda _: MemoryKillsProvider(clock, lambda: {} if below.broken else {"oom_kill": 3}),
        below,
    )


def trial_memory(clock: FakeClock, _: Path) -> Case:
    below = Breakable()

    def resident(pid: int) -> int | None:
        below.check()
        return 2**30

    return on_fake(lambda _: TrialMemoryProvider(lambda: {4242: TrialWorker("2M-h1/17")}, clock, resident), below)


def nvidia(clock: FakeClock, _: Path) -> Case:
    return on_fake(lambda below: NvidiaProvider(clock, below), Nvml())


def apple(clock: FakeClock, _: Path) -> Case:
    return on_fake(lambda below: AppleProvider(clock, below), Mac())  # type: ignore[arg-type]


def mac_battery(clock: FakeClock, _: Path) -> Case:
    below = Breakable()
    entry = {"CurrentCapacity": 80, "MaxCapacity": 100, "InstantAmperage": -900, "Temperature": 3010}

    def ask() -> bytes:
        below.check()
        return plistlib.dumps([entry])

    return on_fake(lambda _: MacBatteryProvider(clock, ask), below)


def kill_child(word: str) -> None:
    """Kill this process's child with `word` on its command line."""
    for child in psutil.Process().children():
        if word in " ".join(child.cmdline()):
            child.kill()


def macmon(clock: FakeClock, _: Path) -> Case:
    command = ["sh", "-c", f"cat '{FIXTURES}/macmon_v082_ok.jsonl'; sleep 1000"]
    provider = MacmonProvider(clock, command)
    return Case(provider, lambda: kill_child("macmon_v082_ok"))


def scripted(clock: FakeClock, _: Path) -> Case:
    return Case(ScriptedProvider(clock, [Frame(0.0, (simple_reading(60.0),))]), lambda: None)


def isolated(clock: FakeClock, _: Path) -> Case:
    """A child that answers at once, with the time of the suite's clock."""
    reading = replace(simple_reading(60.0), sensor_id="child:die", source="child", mono_s=105.0, wall_s=1.7e9 + 105.0)
    answer = json.dumps({"readings": [reading.to_json()], "availability": {"ok": True, "reason": "one sensor"}})
    command = ["sh", "-c", f"while read verb; do echo '{answer}'; done"]
    provider = IsolatedProvider("child", command, clock, Patience(grace_s=10.0))
    return Case(provider, lambda: kill_child("child:die"))


CASES = (
    host,
    disk,
    hwmon,
    psi,
    cpu_throttle,
    battery,
    memory_kills,
    nvidia,
    apple,
    mac_battery,
    macmon,
    scripted,
    isolated,
    trial_memory,
)
