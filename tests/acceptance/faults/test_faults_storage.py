"""Faults of disks and files: full, broken, read-only, torn, damaged, locked, of another version, not ours to write."""

from __future__ import annotations

import contextlib
import fcntl
import os
import sqlite3
import struct
import subprocess
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.single_instance import is_held
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import audited, names, nothing_begun, stored, told
from tests.acceptance.lives import (
    KILLED,
    REQUEST,
    Setting,
    check_everything,
    life,
    living,
    state,
    until,
    until_told,
)

SLOW = Setting(pause_s=0.3)
_EXT4_SHUTDOWN, _WITHOUT_THE_JOURNAL = 0x8004587D, 2
"""ioctl EXT4_IOC_SHUTDOWN and EXT4_GOING_FLAGS_NOLOGFLUSH (fs/ext4/ext4.h): from now on each access fails."""


def words(home: Home) -> str:
    return (home.root / "life.log").read_text()


@contextlib.contextmanager
def mounted(folder: Path, *how: str) -> Iterator[None]:
    folder.mkdir(exist_ok=True)
    made = subprocess.run(["mount", *how, folder], capture_output=True, check=False)
    if made.returncode:
        pytest.skip(f"{' '.join(how)} cannot be mounted here: {made.stderr.decode().strip()}")
    try:
        yield
    finally:
        subprocess.run(["umount", "--lazy", folder], check=True)


def fill(path: Path) -> None:
    """Until the disk takes no more."""
    with contextlib.suppress(OSError), path.open("wb", buffering=0) as filler:
        while True:
            filler.write(b"x" * 4096)


@pytest.mark.fault(
    "34",
    "the logs' disk is full",
    "the run goes on, the store has the events; when space is back the log catches up, and its chain is whole",
)
def test_a_full_disk_under_the_logs_stops_no_trial_and_the_log_catches_up(home: Home) -> None:
    with mounted(home.logs, "-t", "tmpfs", "-o", "size=64k,mode=700", "tmpfs"), living(home, SLOW) as it:
        until_told(home, "trial.reported")
        fill(home.logs / "filler")
        before = len(told(home))
        until(home, "two more results", lambda: stored(home, "SELECT count(*) AS n FROM result")[0]["n"] >= 4)
        assert len(told(home)) <= before + 2, "a few lines may still have fitted in"
        (home.logs / "filler").unlink()
        assert it.ended() == (0, False)
        assert "lags" in words(home)
        events = check_everything(home)
        assert names(events).count("daemon.started") == 1


@pytest.fixture
def state_on_a_disk(home: Home, tmp_path: Path) -> Iterator[Home]:
    """The home's state folder on an ext4 of 32 MiB, which becomes read-only at its first error."""
    image = tmp_path / "disk"
    with image.open("wb") as file:
        file.truncate(32 << 20)
    subprocess.run(["mkfs.ext4", "-q", "-F", image], check=True)
    home.prepare()
    with mounted(home.state, "-o", "loop,errors=remount-ro", str(image)):
        home.state.chmod(0o700)
        yield home


def make_read_only(folder: Path) -> None:
    """What the kernel does when it finds an ext4 inconsistent."""
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
    "the daemon ends with exit code 1 and acknowledges nothing more; what was acknowledged is there when the disk is",
)
@pytest.mark.parametrize("fault", [make_read_only, take_away])
def test_a_disk_that_takes_nothing_more_ends_the_daemon(
    state_on_a_disk: Home, fault: Callable[[Path], None], tmp_path: Path
) -> None:
    home = state_on_a_disk
    with living(home, SLOW) as it:
        until_told(home, "trial.reported")
        fault(home.state)
        assert it.ended() == (1, False), words(home)
    assert "ended by" in words(home)
    acknowledged = len((next(home.runs.glob("*")) / "x" / "diary").read_text().splitlines())
    # The disk is mended and comes back.
    subprocess.run(["umount", home.state], check=True)
    subprocess.run(["e2fsck", "-fy", tmp_path / "disk"], capture_output=True, check=False)
    subprocess.run(["mount", "-o", "loop", tmp_path / "disk", home.state], check=True)
    assert stored(home, "SELECT count(*) AS n FROM result")[0]["n"] >= acknowledged
    assert life(home) == (0, False)
    check_everything(home)
