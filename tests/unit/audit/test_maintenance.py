"""Test backup, and repair, which lists its steps first and keeps the originals."""

from __future__ import annotations

import sqlite3
import stat
from pathlib import Path

import pytest

from supervisor.audit.log import AuditLog
from supervisor.audit.maintenance import back_up
from supervisor.cli import supervisorctl
from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.errors import StoreError, UsageError
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.audit.rebuild_home import end_in_order, make_home

SPEC = {"name": "x", "mode": "min", "max_trials": 1}


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    home = make_home((tmp_path / "home").resolve())
    store = Store(home.store, Clock())
    create_run(
        store, "p-1", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[SPEC]
    )
    writer = RunWriter(store, "p-1")
    for state in (ProcessState.STARTING, ProcessState.STOPPING, ProcessState.STOPPED):
        writer.move_run(state)
    end_in_order(home, store)
    return home


def rows(path: Path) -> list[tuple[object, ...]]:
    connection = sqlite3.connect(path)
    try:
        return [*connection.execute("SELECT * FROM run"), *connection.execute("SELECT * FROM event")]
    finally:
        connection.close()


def test_a_backup_is_one_complete_file_for_its_owner_only(home: Home, tmp_path: Path) -> None:
    target = tmp_path / "copy.db"
    assert supervisorctl.main(["backup", str(target)]) == 0
    assert rows(target) == rows(home.store)
    assert stat.S_IMODE(target.stat().st_mode) == 0o600
    assert [found.name for found in tmp_path.iterdir() if found.name != "home"] == ["copy.db"]


def test_a_backup_of_a_store_at_work_has_all_commits_and_the_work_goes_on(home: Home, tmp_path: Path) -> None:
    store = Store(home.store, Clock())
    with store.change("p-1") as change:
        change.record("daemon.stopped", reason="in the write-ahead log only")
    size = back_up(store, tmp_path / "copy.db")
    with store.change("p-1") as change:
        change.record("daemon.stopped", reason="after")
    assert size == (tmp_path / "copy.db").stat().st_size
    assert len(rows(home.store)) == len(rows(tmp_path / "copy.db")) + 1


def test_a_backup_overwrites_no_file(home: Home, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    target = tmp_path / "precious"
    target.write_text("precious")
    assert supervisorctl.main(["backup", str(target)]) == UsageError.exit_code
    assert "exists already" in capsys.readouterr().err
    assert target.read_text() == "precious"


def test_a_backup_that_cannot_be_made_leaves_nothing(home: Home, tmp_path: Path) -> None:
    store = Store(home.store, Clock())
    with pytest.raises(StoreError, match="cannot be made"):
        back_up(store, tmp_path / "no such folder" / "copy.db")
    store.connection.close()
    with pytest.raises(StoreError):
        back_up(store, tmp_path / "copy.db")
    assert [found.name for found in tmp_path.iterdir()] == ["home"]


def test_repair_of_a_sound_home_finds_no_fault(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisorctl.main(["repair"]) == 0
    assert "sound" in capsys.readouterr().out


def test_repair_is_refused_while_a_daemon_holds_the_home(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    lock = take_lock(home)
    assert supervisorctl.main(["repair", "--apply"]) == 1
    assert "held by pid" in capsys.readouterr().err
    assert lock >= 0


@pytest.mark.parametrize("damage", ["line", "recorded head", "store", "store and line"])
def test_repair_lists_faults_and_with_apply_repairs_them_and_keeps_the_originals(
    home: Home, damage: str, capsys: pytest.CaptureFixture[str]
) -> None:
    log = home.audit_log("p")
    before = rows(home.store)
    if "line" in damage:
        log.write_bytes(log.read_bytes().replace(b'"run.moved"', b'"run_moved', 1))
    if "head" in damage:
        log.write_bytes(log.read_bytes().replace(b"run is STOPPED", b"run is stopped", 1))
    if "store" in damage:
        home.store.write_bytes(b"not a database" * 1000)
    damaged = {path.name: path.read_bytes() for path in (log, home.store)}

    assert supervisorctl.main(["repair"]) == 1
    printed = capsys.readouterr().out
    assert "cure:" in printed
    assert "nothing was changed" in printed
    assert {path.name: path.read_bytes() for path in (log, home.store)} == damaged

    assert supervisorctl.main(["repair", "--apply"]) == 0
    assert "done:" in capsys.readouterr().out
    assert supervisorctl.main(["repair"]) == 0
    kept = [path.read_bytes() for folder in (home.state, home.logs) for path in folder.iterdir() if path.is_file()]
    assert damage == "store" or damaged[log.name] in kept
    assert "store" not in damage or damaged[home.store.name] in kept
    if damage != "store and line":
        assert rows(home.store) == before, "the undamaged one of store and log gave back every row"
    AuditLog(log).close()
