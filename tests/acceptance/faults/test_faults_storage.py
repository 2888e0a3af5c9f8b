"""Test faults of disks and files: full, broken, read-only, torn, damaged, locked, of another version."""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import re
import shutil
import sqlite3
import struct
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest

from supervisor.cli import supervisord
from supervisor.daemon.__main__ import main
from supervisor.home import Home
from supervisor.store.schema import VERSION
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import names, nothing_begun, recorded, stored
from tests.acceptance.lives import (
    KILLED,
    REQUEST,
    Setting,
    check_everything,
    life,
    living,
    until,
    until_recorded,
)
from tests.acceptance.mounts import fill, memory_of, mounted

SLOW = Setting(pause_s=0.3)
_EXT4_SHUTDOWN, _WITHOUT_THE_JOURNAL = 0x8004587D, 2
"""ioctl EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h): from now on each access fails."""


def words(home: Home) -> str:
    return (home.root / "life.log").read_text()


@pytest.mark.fault(
    "34",
    "the logs' disk is full",
    "the run continues, the store has the events (`audit.lagged`); with space again the log catches up, chain whole",
)
def test_a_full_disk_under_the_logs_stops_no_trial_and_the_log_catches_up(home: Home) -> None:
    # Slow enough for the look at the log, which is every second.
    with (
        mounted(home.logs, *memory_of("64k")),
        living(home, Setting(pause_s=1.2)) as it,
    ):
        until_recorded(home, "trial.reported")
        fill(home.logs / "filler")
        # The last page of a file may still take a line or two.
        lagged = "SELECT seq FROM event WHERE name = 'audit.lagged'"
        until(home, "the store tells that the log lags", lambda: stored(home, lagged))
        (seq,) = stored(home, lagged)[0].values()
        later = f"SELECT seq FROM event WHERE name = 'trial.reported' AND seq > {seq}"
        until(home, "another result is kept", lambda: stored(home, later))
        assert max(event["seq"] for event in recorded(home)) < seq
        (home.logs / "filler").unlink()
        assert it.ended() == (0, False)
        assert names(check_everything(home)).count("daemon.started") == 1
        (event,) = [event for event in recorded(home) if event["event"] == "audit.lagged"]
        assert event["error"].endswith("No space left on device")
        assert names(recorded(home)).count("audit.recovered") == 1


@pytest.fixture
def state_on_a_disk(home: Home, tmp_path: Path) -> Iterator[Home]:
    """Put the home's state folder on an ext4 that becomes read-only at its first error."""
    if shutil.which("mkfs.ext4") is None:
        pytest.skip("there is no mkfs.ext4 here to make a disk with")
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    home.prepare()
    with mounted(home.state, "-o", "loop,errors=remount-ro", str(image)):
        home.state.chmod(0o700)
        yield home


def make_read_only(folder: Path) -> None:
    """Make a file system read-only, as the kernel does when it finds an ext4 inconsistent."""
    device = subprocess.run(["findmnt", "-no", "SOURCE", folder], capture_output=True, text=True, check=True)
    Path("/sys/fs/ext4", Path(device.stdout.strip()).name, "trigger_fs_error").write_text("1")


def take_away(folder: Path) -> None:
    """As a disk that falls off its bus: every access fails with EIO."""
    fd = os.open(folder, os.O_RDONLY)
    try:
        fcntl.ioctl(fd, _EXT4_SHUTDOWN, struct.pack("I", _WITHOUT_THE_JOURNAL))
    finally:
        os.close(fd)


@pytest.mark.fault(
    "35",
    "the kernel makes the state's disk read-only, or the disk falls off its bus (EIO)",
    "the daemon ends with exit code 1 and acknowledges nothing more; each acknowledged result is kept",
)
@pytest.mark.parametrize("fault", [make_read_only, take_away])
def test_a_disk_that_accepts_no_write_ends_the_daemon(
    state_on_a_disk: Home, fault: Callable[[Path], None], tmp_path: Path
) -> None:
    home = state_on_a_disk
    with living(home, Setting(pause_s=1.0)) as it:
        until_recorded(home, "trial.reported")
        fault(home.state)
        assert it.ended() == (1, False), words(home)
    assert "ended by" in words(home)
    assert life(home)[0] in (1, 4), "another start says what is wrong, too"
    ends = words(home).split("ended by")[1:]
    assert all(re.search("error|[Rr]ead-?only", end) for end in ends), "each has the disk's own words"
    assert all("dmesg" in end for end in ends), "and where to look"
    assert "Traceback" not in ends[-1]
    acknowledged = len((next(home.runs.glob("*")) / "x" / "diary").read_text().splitlines())
    # The disk is mended and comes back, as a copy: mount(8) would take the broken file system again while that lives on
    # in another mount namespace, of a test beside this one for example.
    subprocess.run(["umount", home.state], check=True)
    mended = shutil.copy(tmp_path / "disk", tmp_path / "mended")
    subprocess.run(["e2fsck", "-fy", mended], capture_output=True, check=False)
    subprocess.run(["mount", "-o", "loop", mended, home.state], check=True)
    assert stored(home, "SELECT count(*) AS n FROM result")[0]["n"] >= acknowledged
    assert life(home) == (0, False)
    check_everything(home)


@pytest.mark.fault(
    "36",
    "the log's last line is torn, as by a power cut",
    "it is cut off and recorded (`audit.repaired`); the event is written again from the store",
)
def test_a_torn_last_line_is_cut_off_and_written_again(home: Home) -> None:
    assert life(home, "ack.send:5:kill")[0] == KILLED
    log = home.audit_log("p")
    whole = log.read_bytes()
    log.write_bytes(whole[:-20])
    lost = len(whole.splitlines()[-1]) + 1 - 20
    assert life(home) == (0, False)
    check_everything(home)
    assert [event["bytes"] for event in recorded(home) if event["event"] == "audit.repaired"] == [lost]


@pytest.mark.fault(
    "36",
    "a line in the log's middle is damaged",
    "the start is refused; `repair` shows the choice, `repair --apply` writes the log anew and keeps the damaged one",
)
def test_a_log_damaged_in_its_middle_is_refused_until_it_is_repaired(home: Home, sweep: Sweep) -> None:
    assert life(home, "ack.send:5:kill")[0] == KILLED
    log = home.audit_log("p")
    lines = log.read_bytes().splitlines(keepends=True)
    damaged = b"".join([*lines[:-2], lines[-2].replace(b'"seq":', b'"seq"::'), lines[-1]])
    log.write_bytes(damaged)
    before = stored(home, "SELECT * FROM event")

    assert life(home)[0] == 1
    assert f"line {len(lines) - 1}: expected an event of the chain" in words(home)
    assert "supervisorctl repair" in words(home)
    shown = sweep.ctl("repair")
    assert "write it anew from the store; the damaged one is kept beside it" in shown.stdout
    assert log.read_bytes() == damaged, "looking changes nothing"
    assert stored(home, "SELECT * FROM event") == before

    applied = sweep.ctl("repair", "--apply")
    assert applied.returncode == 0, applied.stderr
    (kept,) = home.logs.glob("p.damaged-*.jsonl")
    assert kept.read_bytes() == damaged
    assert life(home) == (0, False)
    check_everything(home)


@pytest.mark.fault(
    "37",
    "the store's file is damaged (PRAGMA quick_check)",
    "it is moved aside and rebuilt from the log, which is recorded; the run continues and ends whole",
)
def test_a_damaged_store_is_moved_aside_and_rebuilt_from_the_log(home: Home) -> None:
    assert life(home, "ack.send:6:kill")[0] == KILLED
    with contextlib.closing(sqlite3.connect(home.store)) as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        results = connection.execute("SELECT trial, step, value FROM result").fetchall()
    with home.store.open("r+b") as file:
        file.seek(4096)
        file.write(b"\xff" * 3 * 4096)
    assert life(home) == (0, False)
    check_everything(home)
    (rebuilt,) = [event for event in recorded(home) if event["event"] == "store.rebuilt"]
    assert "damaged" in rebuilt["cause"] or "not a sound store" in rebuilt["cause"]
    assert Path(rebuilt["aside"]).read_bytes()[4096:4100] == b"\xff" * 4
    kept = [tuple(row.values()) for row in stored(home, "SELECT trial, step, value FROM result")]
    assert set(results) <= set(kept), "what was acknowledged came back"
    assert len(results) > 0


@pytest.mark.fault(
    "37",
    "the store is gone",
    "it is rebuilt from the log, which is recorded: never silently empty",
)
def test_a_missing_store_is_rebuilt_from_the_log(home: Home) -> None:
    assert life(home, "ack.send:6:kill")[0] == KILLED
    for path in home.state.glob("sweep.db*"):
        path.unlink()
    assert life(home) == (0, False)
    check_everything(home)
    (rebuilt,) = [event for event in recorded(home) if event["event"] == "store.rebuilt"]
    assert rebuilt["cause"] == "it was missing"
    assert names(recorded(home)).count("run.created") == 1


@pytest.mark.fault(
    "38",
    "another program reads the store in one long transaction (a backup)",
    "the daemon goes on writing; the run ends whole",
)
def test_another_reader_with_a_long_transaction_does_not_delay_the_run(home: Home) -> None:
    with living(home, SLOW) as it:
        until_recorded(home, "trial.reported")
        with contextlib.closing(sqlite3.connect(f"{home.store.as_uri()}?mode=ro", uri=True)) as reader:
            reader.execute("BEGIN")
            seen = reader.execute("SELECT count(*) FROM result").fetchone()
            assert it.ended() == (0, False)
            assert reader.execute("SELECT count(*) FROM result").fetchone() == seen, "it still reads what was"
    check_everything(home)


@pytest.mark.fault(
    "40",
    "the store is of a newer version",
    "the start is refused with what to do; not a byte of the store or the log is changed",
)
def test_a_store_of_a_newer_version_is_refused_and_not_changed(home: Home) -> None:
    assert life(home, "ack.send:5:kill")[0] == KILLED
    with contextlib.closing(sqlite3.connect(home.store)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    before, log = home.store.read_bytes(), home.audit_log("p").read_bytes()
    assert life(home)[0] == 1
    assert "schema 99" in words(home)
    assert "upgrade this installation" in words(home)
    assert (home.store.read_bytes(), home.audit_log("p").read_bytes()) == (before, log)
    with contextlib.closing(sqlite3.connect(home.store)) as connection:
        connection.execute(f"PRAGMA user_version = {VERSION}")
    assert stored(home, "SELECT state FROM run") == [{"state": "RUNNING"}], "its own version still reads it"


@pytest.mark.fault(
    "40",
    "the plan has changed since its unfinished run began",
    "the start is refused and names both ways to go on; the run is unchanged, and continues with the plan as it was",
)
def test_a_changed_plan_does_not_continue_the_run_of_the_old_one(home: Home) -> None:
    assert life(home, "ack.send:5:kill")[0] == KILLED
    before = stored(home, "SELECT id, state, fingerprint FROM run")
    assert life(home, request=replace(REQUEST, fingerprint="another"))[0] == 1
    assert "the plan has changed since it began" in words(home)
    assert "--new gives it up" in words(home)
    assert stored(home, "SELECT id, state, fingerprint FROM run") == before
    assert life(home) == (0, False)
    check_everything(home)


def without_root_rights() -> None:
    """Root that may not write where a mode says no (capabilities(7): CAP_DAC_OVERRIDE and CAP_DAC_READ_SEARCH)."""
    if sys.platform != "linux":
        return  # nor may anybody else there
    libc, header, data = ctypes.CDLL(None, use_errno=True), struct.pack("Ii", 0x20080522, 0), bytearray(24)
    fields = (ctypes.c_char * 24).from_buffer(data)
    if libc.capget(header, fields):
        raise OSError(ctypes.get_errno(), "capget")
    effective, *others = struct.unpack("6I", data)
    struct.pack_into("6I", data, 0, effective & ~0b110, *others)
    if libc.capset(header, fields):
        raise OSError(ctypes.get_errno(), "capset")


@pytest.mark.fault(
    "41",
    "the folder of the logs cannot be written when the daemon starts",
    "the start fails with the path and the user id; no run is RUNNING",
)
def test_logs_that_cannot_be_written_stop_the_start(home: Home, sweep: Sweep) -> None:
    home.prepare()
    home.logs.chmod(0o500)
    assert life(home, change=without_root_rights)[0] == 1
    assert f"{home.audit_log('p')} cannot be written by user id {os.geteuid()}: Permission denied" in words(home)
    assert stored(home, "SELECT state FROM run WHERE state = 'RUNNING'") == []
    home.logs.chmod(0o700)
    assert life(home) == (0, False)
    check_everything(home)


@pytest.mark.fault(
    "42",
    "the home lies on a network disk",
    "the start is refused with the disk's kind and the cure, by the command and by the daemon itself; no run is made",
    faked="the kernel's list of mounts says nfs4",
)
def test_a_home_on_a_network_disk_is_refused(
    home: Home, sweep: Sweep, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    home.prepare()
    mounts = [SimpleNamespace(mountpoint="/", fstype="ext4"), SimpleNamespace(mountpoint=str(home.root), fstype="nfs4")]
    monkeypatch.setattr(psutil, "disk_partitions", lambda **_: mounts)
    monkeypatch.setenv("SWEEP_HOME", str(home.root))
    monkeypatch.chdir(sweep.folder)
    assert supervisord.main(["start", sweep.plan("p")]) != 0
    refusals = [capfd.readouterr().err]
    monkeypatch.setattr(sys, "stdin", io.StringIO(json.dumps(asdict(REQUEST))))
    reads, writes = os.pipe()
    assert main(["--ready-fd", str(writes)]) != 0
    with os.fdopen(reads) as told_start:
        refusals.append(told_start.read())
    for said in refusals:
        assert (str(home.state) in said, "on a network disk (nfs4)" in said) == (True, True)
    nothing_begun(home)
