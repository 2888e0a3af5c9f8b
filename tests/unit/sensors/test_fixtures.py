"""Every sample of real sensor data gives the reading, or the rejection, that docs/sensors.md tabulates.

`python tests/unit/sensors/test_fixtures.py` prints the table for docs/sensors.md.
"""

from __future__ import annotations

import json
import re
import struct
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

from supervisor.clock import Now
from supervisor.sensors import default_limits
from supervisor.sensors.apple import rules
from supervisor.sensors.apple.macmon import macmon_readings
from supervisor.sensors.apple.provider import AppleProvider
from supervisor.sensors.hwmon import HwmonProvider
from supervisor.sensors.provider import Sampler
from supervisor.sensors.reading import Kind, Reading

FIXTURES = Path(__file__).parents[1] / "fixtures_sensors"
DOCS = Path(__file__).parents[3] / "docs" / "sensors.md"
BEGIN, END = "<!-- fixtures: begin -->", "<!-- fixtures: end -->"
Row = tuple[str, str, str]


class StillClock:
    def mono_s(self) -> float:
        return 100.0

    def wall_s(self) -> float:
        return 1.7e9


class DumpedMac:
    """A Mac as a dump of its SMC keys and IOHID services."""

    def __init__(self, smc: dict[str, float], hid: list[tuple[str, float]]) -> None:
        self.smc, self.hid = smc, hid

    def smc_keys(self) -> list[str]:
        return sorted(self.smc)

    def smc_read(self, key: str) -> tuple[str, bytes]:
        return "flt ", struct.pack("<f", self.smc[key])

    def hid_temperatures(self) -> list[tuple[str, float]]:
        return self.hid

    def thermal_pressure(self) -> int:
        return 0

    def memory_pressure(self) -> int:
        return 1


def said(reading: Reading) -> str:
    if reading.value is not None:
        advisory = reading.kind is Kind.TEMPERATURE and reading.limits.soft is None
        return f"{reading.value:.1f}" + (" (advisory: no limits)" if advisory else "")
    return f"{reading.quality.value}: {reading.detail}"


def mac_dump(file: str) -> dict[str, float]:
    return {key: value for key, value in json.loads((FIXTURES / file).read_text()).items() if key[0] != "_"}


def smc_rows() -> Iterator[Row]:
    for file in ("smc_m4_hot.json", "smc_m4max_idle_parked.json"):
        provider = AppleProvider(StillClock(), DumpedMac(mac_dump(file), []))
        provider.probe()
        for reading in provider.read():
            if reading.sensor_id.startswith("smc:"):
                yield file, reading.sensor_id, said(reading)


def hid_rows() -> Iterator[Row]:
    file = "iohid_products.json"
    services = [(str(name), float(celsius)) for name, celsius in json.loads((FIXTURES / file).read_text())]
    provider = AppleProvider(StillClock(), DumpedMac({}, services))
    provider.probe()
    for reading in provider.read():
        if reading.sensor_id.startswith("hid:"):
            yield file, reading.sensor_id, said(reading)
    for name, celsius in services:
        why = rules.hid_rejected(name)
        if why is not None:
            yield file, f"{name} at {celsius:g}", f"never read: {why}"


def hwmon_rows() -> Iterator[Row]:
    provider = HwmonProvider(StillClock(), FIXTURES / "hwmon")
    provider.probe()
    for reading in provider.read():
        yield "hwmon/", reading.sensor_id.removeprefix("hwmon:virtual/"), said(reading)
    for ignored in provider.ignored:
        yield "hwmon/", f"{ignored.chip}/{ignored.label}".rstrip("/"), f"never read: {ignored.why}"


def macmon_rows() -> Iterator[Row]:
    for path in sorted(FIXTURES.glob("macmon_*.jsonl")):
        sampler = Sampler("macmon", Now(100.0, 1.7e9))
        for number, line in enumerate(path.read_text().splitlines(), start=1):
            try:
                value = json.loads(line)
            except ValueError:
                yield path.name, f"line {number}", "cut short: no reading, and macmon is started again"
                continue
            wanted = {"macmon:cpu_temp_avg", "macmon:gpu_temp_avg", "macmon:performance"}
            for reading in macmon_readings(value, sampler):
                if reading.sensor_id in wanted and number == 1:
                    yield path.name, reading.sensor_id, said(reading)


def nvidia_rows() -> Iterator[Row]:
    file = "nvidia_smi_q_temperature.txt"
    text = (FIXTURES / file).read_text()
    found = {name.strip(): float(value) for name, value in re.findall(r"GPU ([\w ]+?) Temp\s*: (\d+) C", text)}
    limits = default_limits.nvidia_core(default_limits.plausible_limit(found["Slowdown"], above=found["Current"]))
    yield file, "limits at slow-down 97", f"soft {limits.soft:g}, pause {limits.pause:g}, critical {limits.critical:g}"
    yield file, "GPU Max Operating Temp 57", "never used: below what the chip runs at"


def powermetrics_rows() -> Iterator[Row]:
    for path in sorted(FIXTURES.glob("powermetrics_*.txt")):
        has_temperature = re.search(r"die temperature: [\d.]+ C", path.read_text()) is not None
        fact = (
            "a temperature, but Intel only and root only" if has_temperature else "no temperature in it, and root only"
        )
        yield path.name, "powermetrics", f"no provider: {fact}"


def table() -> str:
    rows: Iterable[Row] = [
        *smc_rows(),
        *hid_rows(),
        *hwmon_rows(),
        *macmon_rows(),
        *nvidia_rows(),
        *powermetrics_rows(),
    ]
    lines = ["| sample | sensor | reading, or why none |", "|---|---|---|"]
    return "\n".join(lines + [f"| {sample} | {sensor} | {result} |" for sample, sensor, result in rows])


def result(sample: str, sensor: str) -> str:
    rows = {(s, n): r for s, n, r in (*smc_rows(), *hid_rows(), *hwmon_rows(), *macmon_rows(), *nvidia_rows())}
    return rows[sample, sensor]


def test_the_hot_m4_reads_112_and_not_the_average_of_its_keys() -> None:
    assert result("smc_m4_hot.json", "smc:TCMz") == "112.1"
    assert result("smc_m4_hot.json", "smc:TCMb") == "96.5"
    assert result("smc_m4_hot.json", "smc:performance") == "112.1"


def test_the_idle_m4_max_is_parked_and_its_awake_cores_are_read() -> None:
    for sensor in ("smc:TCMb", "smc:TCMz", "smc:performance"):
        assert result("smc_m4max_idle_parked.json", sensor).startswith("parked")
    assert result("smc_m4max_idle_parked.json", "smc:efficiency") == "37.6"
    assert result("smc_m4max_idle_parked.json", "smc:gpu") == "36.9"


def test_iohid_uses_die_diodes_and_leaves_constants_out() -> None:
    assert result("iohid_products.json", "hid:die") == "38.1"
    assert result("iohid_products.json", "hid:battery") == "30.1"
    assert "fixed-point" in result("iohid_products.json", "PMU tdev6 at 7654.4")


def test_the_hwmon_tree_chip_by_chip() -> None:
    expected = {
        "coretemp/Package id 0": "45.0",
        "coretemp/Package id 1": "47.0",
        "k10temp/Tctl": "85.0",
        "k10temp/Tccd1": "75.0",
        "amdgpu/edge": "44.0",
        "amdgpu/junction": "48.0",
        "amdgpu/mem": "50.0",
        "nvme/Composite": "45.9",
        "xe/pkg": "51.0",
        "xe/vram": "58.0",
    }
    rows = {sensor: value for _, sensor, value in hwmon_rows()}
    assert {sensor: value for sensor, value in rows.items() if not value.startswith("never")} == expected
    for chip in ("nct6687/SYSTIN", "nct6687/AUXTIN0", "acpitz", "cros_ec/cpu_f75303", "iwlwifi_1", "w1_slave_temp"):
        assert rows[chip] == "never read: not on the allow-list"


def test_placeholder_limits_become_defaults_and_real_ones_are_used() -> None:
    provider = HwmonProvider(StillClock(), FIXTURES / "hwmon")
    limits = {reading.sensor_id.rpartition("/")[2]: reading.limits for reading in provider.read()}
    assert (limits["Package id 0"].soft, limits["Package id 0"].source) == (92.0, "device")
    assert limits["Composite"].pause == 85.85
    assert limits["junction"].critical == 108.0
    assert limits["pkg"] == default_limits.GPU_CORE


def test_macmons_averages_are_advisory_zero_is_no_sensor_and_a_mean_of_sentinels_is_parked() -> None:
    assert result("macmon_v082_hot_avg_hides_112.jsonl", "macmon:cpu_temp_avg") == "83.0 (advisory: no limits)"
    assert result("macmon_v082_no_sensors_zero.jsonl", "macmon:cpu_temp_avg").startswith("unsupported")
    assert result("macmon_v082_gpu_parked.jsonl", "macmon:gpu_temp_avg").startswith("parked")
    assert result("macmon_v061_old.jsonl", "macmon:performance") == "1800.0"
    assert result("macmon_truncated_then_eof.jsonl", "line 2").startswith("cut short")


def test_nvidias_limits_come_from_its_slow_down_and_never_from_gpu_max() -> None:
    assert result("nvidia_smi_q_temperature.txt", "limits at slow-down 97") == "soft 87, pause 92, critical 95"


def test_the_documented_table_is_this_one() -> None:
    text = DOCS.read_text()
    assert text.count(BEGIN) == text.count(END) == 1
    assert text.split(BEGIN)[1].split(END)[0].strip() == table(), "run this file and paste what it prints"


if __name__ == "__main__":
    sys.stdout.write(table() + "\n")
