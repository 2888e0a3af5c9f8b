"""The checks of what runs: daemon, socket, last run, leftovers, sensors."""

from __future__ import annotations

import os
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from supervisor.cli.doctor import live
from supervisor.errors import NotOurs, SlowAnswer, SweepError
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.preflight.machine import Level
from supervisor.processes import orphans
from tests.unit.cli.doctor.broken_home import levels, sound_home


@pytest.fixture
def home(tmp_path: Path) -> Iterator[Home]:
    made = sound_home(tmp_path)
    yield made
    shutil.rmtree(made.runtime(), ignore_errors=True)


def test_the_socket_of_a_dead_daemon_and_its_run_are_named_with_the_way_on(home: Home) -> None:
    with socket.socket(socket.AF_UNIX) as left:
        left.bind(str(home.socket))
    checks = live.check_daemon(home)
    assert levels(checks) == {"daemon": Level.WARNING, "last run": Level.ERROR}
    assert all("supervisord start" in (check.remedy or "") for check in checks)


def test_another_file_at_the_sockets_place_is_an_error(home: Home) -> None:
    home.socket.write_text("")
    assert levels(live.check_daemon(home))["daemon"] is Level.ERROR


def test_without_a_daemon_and_a_run_nothing_is_wrong(tmp_path: Path) -> None:
    assert levels(live.check_daemon(Home(tmp_path / "new"))) == {"daemon": Level.OK}


def test_a_corrupt_store_does_not_end_the_check_of_the_daemon(home: Home) -> None:
    home.store.write_bytes(b"no database")
    assert levels(live.check_daemon(home)) == {"daemon": Level.OK}


VIEW = {"daemon": {"pid": 7, "version": live.__version__}, "run": {"id": "smoke-1", "state": "RUNNING"}}


@pytest.mark.parametrize(
    ("answer", "level", "words"),
    [
        (VIEW, Level.OK, "pid 7 works on smoke-1"),
        ({**VIEW, "daemon": {"pid": 7, "version": "0.0.0"}}, Level.WARNING, "it is version 0.0.0"),
        (SlowAnswer("no answer within 5 s"), Level.ERROR, "no answer within 5 s"),
        (NotOurs("found another program", remedy="end it"), Level.ERROR, "another program"),
    ],
)
def test_a_daemon_that_holds_the_home_is_asked(
    home: Home, monkeypatch: pytest.MonkeyPatch, answer: Any, level: Level, words: str
) -> None:
    def ask(*_: object, **__: object) -> Any:
        if isinstance(answer, SweepError):
            raise answer
        return answer

    monkeypatch.setattr(live, "ask", ask)
    lock = take_lock(home)
    try:
        (found,) = live.check_daemon(home)
    finally:
        os.close(lock)
    assert found.level is level
    assert words in found.detail
    assert (found.remedy is None) is (level is Level.OK)


def test_the_session_of_the_last_daemon_is_measured(home: Home) -> None:
    home.ray_temp.mkdir()
    (home.ray_temp / "log").write_bytes(bytes(2048))
    found = {check.name: check for check in live.check_leftovers(home)}
    assert "2.0 KiB" in found["Ray's session"].detail


def test_a_process_that_ends_while_it_is_named_is_no_leftover(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    class Gone:
        pid = 7

        def name(self) -> str:
            raise psutil.NoSuchProcess(self.pid)

    monkeypatch.setattr(orphans, "find", lambda _: [Gone()])
    assert levels(live.check_leftovers(home))["Ray's processes"] is Level.OK


def test_folders_are_counted_up_to_a_bound(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    for folder in range(5):
        (tmp_path / str(folder)).mkdir()
        (tmp_path / str(folder) / "file").write_bytes(bytes(100))
    (tmp_path / "loop").symlink_to(tmp_path)
    assert live.folder_bytes([tmp_path]) == 500
    monkeypatch.setattr(live, "MAX_ENTRIES", 7)
    assert 0 < live.folder_bytes([tmp_path]) < 500
    assert live.folder_bytes([tmp_path / "none"]) == 0


def test_one_folder_with_many_files_is_counted_up_to_the_same_bound(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for number in range(9):
        (tmp_path / str(number)).write_bytes(bytes(100))
    monkeypatch.setattr(live, "MAX_ENTRIES", 7)
    assert live.folder_bytes([tmp_path]) == 700


def test_sensors_are_read_by_a_process_that_may_not_hang(monkeypatch: pytest.MonkeyPatch) -> None:
    assert levels(live.check_sensors())["sensors"] is Level.OK
    monkeypatch.setattr(live, "SENSORS_WITHIN_S", 0.001)
    (found,) = live.check_sensors()
    assert (found.level, "took longer" in found.detail) == (Level.ERROR, True)


def test_an_unprotected_machine_and_a_broken_sensor_are_warnings() -> None:
    broken = {"sensor_id": "hwmon:x", "kind": "temperature", "value": None, "quality": "error", "detail": "no answer"}
    found = {
        "providers": [{"name": "host", "ok": True, "reason": "", "remedy": None},
                      {"name": "nvidia", "ok": False, "reason": "no library", "remedy": "install it"}],
        "readings": [broken],
    }  # fmt: skip
    checks = live.check_sensors(lambda: found)
    assert levels(checks) == {"temperature": Level.WARNING, "sensor hwmon:x": Level.WARNING, "sensors": Level.OK}
    assert "UNPROTECTED" in checks[0].detail
    warm = {**broken, "value": 61.0, "quality": "ok"}
    assert levels(live.check_sensors(lambda: {**found, "readings": [warm]})) == {
        "temperature": Level.OK, "sensors": Level.OK,
    }  # fmt: skip
