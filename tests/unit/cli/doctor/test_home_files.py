"""The checks of a home's folders and files: each fault is named with its cure, and nothing is made or changed."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

import pytest

from supervisor.cli.doctor import home_files
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.preflight.machine import Level
from tests.unit.cli.doctor.broken_home import levels, sound_home


def test_a_sound_home_has_nothing_wrong(tmp_path: Path) -> None:
    home = sound_home(tmp_path / "home")
    checks = [*home_files.check_folders(home), *home_files.check_files(home), *home_files.check_store(home)]
    assert {check.level for check in checks} == {Level.OK}
    assert {"state", "runs", "logs", "runtime folder", "store"} <= {check.name for check in checks}


def test_a_home_that_is_not_there_is_not_made(tmp_path: Path) -> None:
    home = Home(tmp_path / "new")
    checks = [*home_files.check_folders(home), *home_files.check_files(home), *home_files.check_store(home)]
    assert {check.level for check in checks} == {Level.OK}
    assert not home.root.exists()


def test_a_file_where_a_folder_belongs_is_an_error(tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    home.runs.rmdir()
    home.runs.write_text("")
    (found,) = (check for check in home_files.check_folders(home) if check.name == "runs")
    assert (found.level, "found a file" in found.detail) == (Level.ERROR, True)


def test_a_link_where_a_private_folder_belongs_is_an_error(tmp_path: Path) -> None:
    home = sound_home(tmp_path / "home")
    home.runs.rmdir()
    home.runs.symlink_to(tmp_path)
    assert levels(home_files.check_folders(home))["runs"] is Level.ERROR


def test_folders_and_files_of_another_user_are_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = sound_home(tmp_path)
    monkeypatch.setattr(os, "geteuid", lambda: os.getuid() + 1)
    found = levels([*home_files.check_folders(home), *home_files.check_files(home)])
    assert found["home"] is found["state"] is found["sweep.db"] is Level.ERROR


@pytest.mark.parametrize("name", ["ray_token", "notify", "page.json"])
def test_secrets_that_others_may_read_are_named_with_the_command_that_hides_them(name: str, tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    secret = home.state / name
    secret.write_text("ntfy://abc\n")
    secret.chmod(0o644)
    (found,) = home_files.check_files(home)
    assert (found.level, found.remedy) == (Level.WARNING, f"make it private: `chmod 600 {secret}`")
    secret.chmod(0o600)
    assert home_files.check_files(home) == []


def test_addresses_that_cannot_be_read_are_named_without_the_address(tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    home.notify.write_text("my-secret-topic\n")
    home.notify.chmod(0o600)
    (found,) = home_files.check_files(home)
    assert (found.name, found.level) == ("messages", Level.WARNING)
    assert "supervisorctl notify test" in (found.remedy or "")
    assert "my-secret-topic" not in f"{found.detail}{found.remedy}"
    home.notify.write_text("ntfy://my-secret-topic\n")
    assert home_files.check_files(home) == []


def test_a_state_folder_that_others_may_use_is_named(tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    home.state.chmod(0o755)
    assert levels(home_files.check_folders(home))["state"] is Level.WARNING


@pytest.mark.parametrize("content", [b"not a database", b"SQLite format 3\x00" + bytes(4096)])
def test_a_store_that_is_no_database_is_an_error_with_its_repair(content: bytes, tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    home.store.write_bytes(content)
    (found,) = home_files.check_store(home)
    assert found.level is Level.ERROR
    assert "supervisorctl repair" in (found.remedy or "")


def test_a_damaged_page_of_the_store_is_found(tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    for beside in ("-wal", "-shm"):
        home.store.with_name(home.store.name + beside).unlink(missing_ok=True)
    with sqlite3.connect(home.store) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    connection.close()
    content = bytearray(home.store.read_bytes())
    content[4096:] = b"\xff" * (len(content) - 4096)
    home.store.write_bytes(bytes(content))
    (found,) = home_files.check_store(home)
    assert found.level is Level.ERROR


def test_the_check_of_a_large_store_has_an_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = sound_home(tmp_path)
    monkeypatch.setattr("supervisor.audit.maintenance.STEPS", 1)
    times = iter([0.0, *[1e9] * 1_000])
    (found,) = home_files.check_store(home, lambda: next(times))
    assert found.level is Level.OK
    assert "as far as" in found.detail


def test_the_store_of_a_live_daemon_is_left_alone(tmp_path: Path) -> None:
    home = sound_home(tmp_path)
    home.store.write_bytes(b"whatever a daemon writes now")
    lock = take_lock(home)
    try:
        (found,) = home_files.check_store(home)
    finally:
        os.close(lock)
    assert (found.level, "running daemon" in found.detail) == (Level.OK, True)


def test_a_full_disk_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    home = sound_home(tmp_path)
    assert levels(home_files.check_space(home))["Ray's disk"] is Level.OK
    monkeypatch.setattr(home_files, "free_bytes", lambda _: 1000)
    assert levels(home_files.check_space(home))["Ray's disk"] is Level.ERROR
