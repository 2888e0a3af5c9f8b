"""Linux's files: faults of hwmon, control groups of both versions, stalls, counters, batteries, disks."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from supervisor.clock import FakeClock
from supervisor.sensors import default_limits
from supervisor.sensors.battery import BatteryProvider
from supervisor.sensors.cgroup import MemoryGroup, memory_event_counts, memory_groups
from supervisor.sensors.cpu_throttle import CpuThrottleProvider
from supervisor.sensors.disk import DiskProvider
from supervisor.sensors.host import Amount, HostProvider
from supervisor.sensors.hwmon import HwmonProvider
from supervisor.sensors.memory_pressure import MemoryKillsProvider, PressureStallProvider
from supervisor.sensors.reading import Kind, Quality, Reading

GIB = 2**30


CLOCK = FakeClock()


def write(root: Path, files: dict[str, str]) -> Path:
    for name, text in files.items():
        file = root / name
        file.parent.mkdir(parents=True, exist_ok=True)
        file.write_text(text)
    return root


def chip(root: Path, number: int, driver: str, device: Path | None = None, **files: int | str) -> None:
    folder = root / f"hwmon{number}"
    write(folder, {"name": driver + "\n", **{name: f"{value}\n" for name, value in files.items()}})
    if device is not None:
        device.mkdir(parents=True, exist_ok=True)
        (folder / "device").symlink_to(device)


def by_id(readings: list[Reading]) -> dict[str, Reading]:
    return {reading.sensor_id: reading for reading in readings}


# --- hwmon -----------------------------------------------------------------------------------------------------------


def test_an_id_is_the_devices_address_and_survives_renumbering(tmp_path: Path) -> None:
    device = tmp_path / "devices/pci0000:00/0000:00:01.1/0000:01:00.0/nvme/nvme0"
    for root, number in ((tmp_path / "boot1", 3), (tmp_path / "boot2", 7)):
        chip(root, number, "nvme", device, temp1_label="Composite", temp1_input=45850, temp1_max=85850)
    ids = [HwmonProvider(CLOCK, tmp_path / boot).read()[0].sensor_id for boot in ("boot1", "boot2")]
    assert ids == ["hwmon:0000:01:00.0/nvme/Composite"] * 2


def test_two_sockets_are_two_sensors(tmp_path: Path) -> None:
    for socket in (0, 1):
        device = tmp_path / f"devices/platform/coretemp.{socket}"
        chip(tmp_path / "h", socket, "coretemp", device, temp1_label="Package id 0", temp1_input=50000 + socket)
    assert set(by_id(HwmonProvider(CLOCK, tmp_path / "h").read())) == {
        "hwmon:coretemp.0/coretemp/Package id 0",
        "hwmon:coretemp.1/coretemp/Package id 0",
    }


def test_one_sensor_with_eagain_does_not_cost_the_others(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    chip(tmp_path, 0, "amdgpu", temp1_label="edge", temp1_input=44000, temp2_label="junction", temp2_input=48000)
    provider = HwmonProvider(CLOCK, tmp_path)
    provider.probe()
    real_open = os.open

    def sleepy(path: Path, flags: int) -> int:
        if Path(path).name == "temp1_input":
            raise OSError(errno.EAGAIN, "Resource temporarily unavailable")
        assert flags & os.O_NONBLOCK
        return real_open(path, flags)

    monkeypatch.setattr(os, "open", sleepy)
    edge, junction = provider.read()
    assert (edge.quality, edge.detail) == (Quality.ERROR, "EAGAIN")
    assert junction.value == 48.0


def test_tctl_is_left_out_if_there_is_tdie(tmp_path: Path) -> None:
    chip(tmp_path, 0, "k10temp", temp1_label="Tctl", temp1_input=95000, temp2_label="Tdie", temp2_input=68000)
    assert [reading.value for reading in HwmonProvider(CLOCK, tmp_path).read()] == [68.0]


@pytest.mark.parametrize(
    ("millidegrees", "quality"),
    [(0, "implausible"), (-273150, "implausible"), (255000, "implausible"), ("", "error"), ("abc", "error")],
)
def test_an_impossible_temperature_is_no_value(tmp_path: Path, millidegrees: int | str, quality: str) -> None:
    chip(tmp_path, 0, "coretemp", temp1_label="Package id 0", temp1_input=millidegrees)
    (reading,) = HwmonProvider(CLOCK, tmp_path).read()
    assert reading.quality.value == quality
    assert reading.value is None


@pytest.mark.parametrize("crit", [0, -273150, 65261850, 39000, 44000])
def test_a_threshold_that_is_a_placeholder_or_below_the_present_is_not_taken(tmp_path: Path, crit: int) -> None:
    chip(tmp_path, 0, "coretemp", temp1_label="Package id 0", temp1_input=45000, temp1_crit=crit)
    assert HwmonProvider(CLOCK, tmp_path).read()[0].limits == default_limits.INTEL_CPU


def test_other_chips_can_be_allowed_and_stay_advisory(tmp_path: Path) -> None:
    chip(tmp_path, 0, "nct6687", temp1_label="CPU", temp1_input=51000)
    assert HwmonProvider(CLOCK, tmp_path).read() == []
    (reading,) = HwmonProvider(CLOCK, tmp_path, extra_drivers=("nct*",)).read()
    assert (reading.value, reading.limits.soft) == (51.0, None)


# --- memory ----------------------------------------------------------------------------------------------------------


def test_version_2_walks_up_to_the_tightest_ancestor(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"self/cgroup": "0::/user/job\n"})
    write(
        tmp_path / "cg",
        {
            "user/memory.max": f"{4 * GIB}\n",
            "user/memory.high": "max\n",
            "user/memory.current": f"{3 * GIB}\n",
            "user/memory.stat": f"anon 1\ninactive_file {GIB}\n",
            "user/job/memory.max": "max\n",
            "user/job/memory.current": f"{GIB}\n",
        },
    )
    (group,) = memory_groups(tmp_path / "proc", tmp_path / "cg")
    assert (group.limit_bytes, group.used_bytes, group.available_bytes) == (4 * GIB, 2 * GIB, 2 * GIB)


def test_memory_high_counts_as_a_limit_since_the_kernel_slows_there(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"self/cgroup": "0::/job\n"})
    files = {"memory.max": f"{4 * GIB}", "memory.high": f"{3 * GIB}", "memory.current": f"{GIB}"}
    write(tmp_path / "cg", {f"job/{name}": text for name, text in files.items()})
    assert memory_groups(tmp_path / "proc", tmp_path / "cg")[0].limit_bytes == 3 * GIB


def test_version_1_writes_no_limit_as_a_huge_number(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"self/cgroup": "9:name=systemd:/\n4:memory:/a/b\n0::/\n"})
    write(
        tmp_path / "cg/memory",
        {
            "a/memory.limit_in_bytes": f"{2 * GIB}\n",
            "a/memory.usage_in_bytes": f"{GIB}\n",
            "a/memory.stat": f"total_inactive_file {GIB // 2}\n",
            "a/b/memory.limit_in_bytes": "9223372036854771712\n",
            "a/b/memory.usage_in_bytes": "5\n",
            "a/b/memory.oom_control": "oom_kill_disable 0\nunder_oom 0\noom_kill 7\n",
        },
    )
    (group,) = memory_groups(tmp_path / "proc", tmp_path / "cg")
    assert (group.limit_bytes, group.used_bytes) == (2 * GIB, GIB // 2)
    assert memory_event_counts(tmp_path / "proc", tmp_path / "cg") == {"oom_kill": 7}


def test_a_container_that_does_not_see_its_own_path_uses_the_mounts_root(tmp_path: Path) -> None:
    write(tmp_path / "proc", {"self/cgroup": "0::/docker/0123\n"})
    write(tmp_path / "cg", {"memory.max": f"{GIB}\n", "memory.current": "0\n"})
    assert [group.limit_bytes for group in memory_groups(tmp_path / "proc", tmp_path / "cg")] == [GIB]


def test_without_control_groups_the_list_is_empty(tmp_path: Path) -> None:
    assert memory_groups(tmp_path, tmp_path) == []
    assert memory_event_counts(tmp_path, tmp_path) == {}


class Figures:
    def cpu_percent(self) -> float:
        return 50.0

    def memory(self) -> Amount:
        return Amount(16 * GIB, 12 * GIB)

    def swap(self) -> Amount:
        return Amount(0, 0)


def test_a_full_control_group_counts_on_an_empty_host() -> None:
    group = MemoryGroup(Path("/job"), 4 * GIB, 3 * GIB)
    readings = by_id(HostProvider(CLOCK, Figures(), lambda: [group]).read())
    assert readings["host:memory.used"].value == 75.0
    assert readings["host:memory.available"].value == GIB
    assert "/job" in (readings["host:memory.used"].detail or "")


def test_a_groups_limit_above_the_hosts_memory_has_no_effect() -> None:
    group = MemoryGroup(Path("/job"), 64 * GIB, 60 * GIB)
    assert by_id(HostProvider(CLOCK, Figures(), lambda: [group]).read())["host:memory.used"].value == 25.0


def test_no_swap_is_unsupported_and_the_first_use_of_the_cpu_is_left_out() -> None:
    provider = HostProvider(CLOCK, Figures(), list)
    first, second = by_id(provider.read()), by_id(provider.read())
    assert "host:cpu" not in first
    assert second["host:cpu"].value == 50.0
    assert second["host:swap.used"].quality is Quality.UNSUPPORTED


def test_only_new_kills_for_memory_are_counted() -> None:
    counts = iter([7, 7, 9, 3, 4])
    provider = MemoryKillsProvider(CLOCK, lambda: {"oom_kill": next(counts)})
    assert [provider.read()[0].value for _ in range(5)] == [0, 0, 2, 0, 1]


# --- the rest --------------------------------------------------------------------------------------------------------


def test_stalls_are_the_ten_second_averages(tmp_path: Path) -> None:
    line = "avg10={} avg60=0.00 avg300=0.00 total=12"
    for name, some, full in (("memory", 9.0, 1.5), ("io", 8.0, 2.5), ("cpu", 7.25, 0.0)):
        write(tmp_path, {name: f"some {line.format(some)}\nfull {line.format(full)}\n"})
    readings = by_id(PressureStallProvider(CLOCK, tmp_path).read())
    assert {key: reading.value for key, reading in readings.items()} == {
        "psi:memory/full": 1.5,
        "psi:io/full": 2.5,
        "psi:cpu/some": 7.25,
    }


@pytest.mark.parametrize("text", ["", "some avg60=1\n", "full nonsense\n"])
def test_a_stall_file_of_another_form_is_an_error_reading(tmp_path: Path, text: str) -> None:
    write(tmp_path, {"memory": text})
    provider = PressureStallProvider(CLOCK, tmp_path)
    assert not provider.probe().ok
    assert all(reading.quality is Quality.ERROR for reading in provider.read())


def test_throttling_is_a_counter_that_grew_once_per_package(tmp_path: Path) -> None:
    for cpu, package in ((0, 0), (1, 0), (2, 1)):
        write(
            tmp_path,
            {
                f"cpu{cpu}/thermal_throttle/package_throttle_count": "5\n",
                f"cpu{cpu}/topology/physical_package_id": f"{package}\n",
            },
        )
    provider = CpuThrottleProvider(CLOCK, tmp_path)
    assert [reading.value for reading in provider.read()] == [0.0, 0.0]
    write(tmp_path, {"cpu2/thermal_throttle/package_throttle_count": "9\n"})
    readings = by_id(provider.read())
    assert readings["cpu-throttle:package1"].value == 1.0
    assert readings["cpu-throttle:package0"].value == 0.0
    assert provider.read()[1].value == 0.0


def test_a_mouses_battery_is_left_out(tmp_path: Path) -> None:
    write(tmp_path, {"hidpp/type": "Battery\n", "hidpp/scope": "Device\n", "hidpp/capacity": "5\n"})
    write(tmp_path, {"AC/type": "Mains\n", "AC/online": "1\n"})
    assert not BatteryProvider(CLOCK, tmp_path).probe().ok
    write(tmp_path, {"BAT0/type": "Battery\n", "BAT0/capacity": "64\n", "BAT0/status": "Discharging\n"})
    readings = by_id(BatteryProvider(CLOCK, tmp_path).read())
    assert (readings["battery:BAT0/charge"].value, readings["battery:BAT0/discharging"].value) == (64.0, 1.0)


def test_free_space_is_read_per_folder_and_a_missing_one_is_an_error(tmp_path: Path) -> None:
    there, gone = DiskProvider([tmp_path, tmp_path / "gone"], CLOCK).read()
    assert there.kind is Kind.DISK
    assert (there.value or 0) > 0
    assert gone.quality is Quality.ERROR
    assert "No such file" in (gone.detail or "")
