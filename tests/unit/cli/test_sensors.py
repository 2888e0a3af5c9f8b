"""`supervisorctl sensors` and the recording that a user can send: both without a daemon."""

from __future__ import annotations

import argparse
import json
import stat
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import sensors, supervisorctl
from supervisor.cli.sensors import UNPROTECTED, render
from supervisor.clock import FakeClock
from supervisor.home import Home
from supervisor.sensors import default_limits
from supervisor.sensors.reading import Kind, Quality, Reading
from supervisor.sensors.scripted import load_trace
from supervisor.sensors.survey import collect, record


def test_a_survey_is_json_and_names_every_provider(tmp_path: Path) -> None:
    clock = FakeClock()
    collected = collect([tmp_path], clock, clock.sleep)
    assert json.loads(json.dumps(collected)) == collected
    assert {"scripted", "host", "disk"} <= {provider["name"] for provider in collected["providers"]}
    ids = {reading["sensor_id"] for reading in collected["readings"]}
    assert {"host:memory.used", "host:cpu", f"disk:{tmp_path}"} <= ids


@pytest.mark.parametrize("new", [True, False])
def test_the_disk_shown_is_the_homes_from_any_folder(
    new: bool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    home = Home(tmp_path / "home")
    if not new:
        home.state.mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    monkeypatch.setattr("supervisor.sensors.survey.SETTLE_S", 0.0)
    assert sensors.sensors(home, argparse.Namespace(json=True, record=None, replay=None)) == 0
    disks = [r["sensor_id"] for r in json.loads(capsys.readouterr().out)["readings"] if r["kind"] == "disk"]
    assert disks == [f"disk:{tmp_path if new else home.state}"]


def reading(sensor_id: str, kind: Kind, value: float | None, unit: str, **more: Any) -> dict[str, Any]:
    quality = Quality.OK if value is not None else Quality.PARKED
    one = Reading(sensor_id, kind, "cpu", value, unit, 1.0, 2.0, "apple", quality, **more)
    return {**one.to_json(), "age_s": 0.25}


def test_the_table_shows_value_limits_their_source_quality_and_age() -> None:
    collected = {
        "protected": True,
        "providers": [{"name": "apple", "ok": True, "reason": "", "remedy": None}],
        "readings": [
            reading("smc:TCMb", Kind.TEMPERATURE, 91.25, "celsius", limits=default_limits.APPLE_DIE_AVERAGE),
            reading("smc:TCMz", Kind.TEMPERATURE, None, "celsius", detail="power-gated: 40"),
            reading("disk:/x", Kind.DISK, 3.5 * 2**30, "bytes"),
        ],
    }
    header, average, maximum, disk = render(collected).splitlines()
    assert " ".join(header.split()) == "sensor value soft / pause / critical limits by quality age read by"
    assert " ".join(average.split()) == "smc:TCMb 91.2 °C 92 / 99 / 105 default ok 0.2 s apple"
    assert "none" in maximum
    assert "parked (power-gated: 40)" in maximum
    assert "3.5 GiB" in disk


def test_an_unprotected_machine_is_named_first_with_the_cure() -> None:
    provider = {"name": "hwmon", "ok": False, "reason": "no /sys/class/hwmon here", "remedy": "load the driver"}
    lines = render({"protected": False, "providers": [provider], "readings": []}).splitlines()
    assert lines[0] == UNPROTECTED
    assert lines[-2:] == ["  hwmon: no /sys/class/hwmon here", "    load the driver"]


def test_a_recording_is_a_trace_that_plays_again_and_is_private(tmp_path: Path) -> None:
    clock = FakeClock()
    file = tmp_path / "sensors.jsonl"
    passes = record(file, 5.0, 1.0, [tmp_path], clock, clock.sleep)
    frames = load_trace(file)
    assert len(frames) == passes == 5
    assert [frame.at_s for frame in frames] == [0.0, 1.0, 2.0, 3.0, 4.0]
    assert any(reading.sensor_id == "host:memory.used" for reading in frames[0].readings)
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_a_recording_overwrites_nothing(tmp_path: Path) -> None:
    file = tmp_path / "mine.txt"
    file.write_text("mine")
    clock = FakeClock()
    with pytest.raises(FileExistsError):
        record(file, 5.0, 1.0, [tmp_path], clock, clock.sleep)
    assert file.read_text() == "mine"


def test_the_verb_records_for_a_time_and_plays_the_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    times: list[float] = []

    def fake(file: Path, duration_s: float, **_: Any) -> int:
        times.append(duration_s)
        clock = FakeClock()
        return record(file, 3.0, 1.0, [tmp_path], clock, clock.sleep)

    monkeypatch.setattr("supervisor.sensors.survey.record", fake)
    file = tmp_path / "sensors.jsonl"
    assert supervisorctl.main(["sensors", "--record", str(file), "--for", "5m"]) == 0
    assert (times, f"supervisorctl sensors --replay {file}" in capsys.readouterr().out) == ([300.0], True)
    assert supervisorctl.main(["sensors", "--replay", str(file)]) == 0
    assert "RUN throughout" in capsys.readouterr().out
    assert supervisorctl.main(["sensors", "--record", str(file)]) == 2
    assert "exists already" in capsys.readouterr().err
    assert supervisorctl.main(["sensors", "--record", str(tmp_path / "x"), "--for", "2d"]) == 2


@pytest.mark.parametrize(("duration_s", "period_s"), [(0, 1), (1, 0), (1, 2), (1e9, 1)])
def test_a_recording_has_a_bound(tmp_path: Path, duration_s: float, period_s: float) -> None:
    with pytest.raises(ValueError, match="between 1 and"):
        record(tmp_path / "x", duration_s, period_s, [tmp_path])
