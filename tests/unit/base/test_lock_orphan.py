"""Find the process that holds a home's lock without being its daemon."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from supervisor.home import Home
from supervisor.home_lock import Orphan, orphan, take_lock

FLOCK = "pos:\t0\nflags:\t02500002\nlock:\t1: FLOCK  ADVISORY  WRITE 100 00:13:5 0 EOF\n"


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path / "home")
    made.state.mkdir(parents=True)
    made.lock.write_text("pid 100\n")
    return made


def process(proc: Path, pid: int, opened: Path, fdinfo: str, command: str = "python") -> None:
    (proc / str(pid) / "fd").mkdir(parents=True)
    (proc / str(pid) / "fdinfo").mkdir()
    (proc / str(pid) / "fd" / "4").symlink_to(opened)
    (proc / str(pid) / "fdinfo" / "4").write_text(fdinfo)
    (proc / str(pid) / "cmdline").write_bytes(command.replace(" ", "\0").encode() + b"\0")


def look(home: Home, proc: Path) -> Orphan | None:
    return orphan(home, proc, lambda seconds: None)


def test_a_child_that_kept_the_lock_is_named_with_its_command_and_the_dead_daemon(home: Home, tmp_path: Path) -> None:
    process(tmp_path / "proc", 200, home.lock, FLOCK, "python -m loader")
    found = look(home, tmp_path / "proc")
    assert found == Orphan(200, "python -m loader", 100)
    assert "process 200 (python -m loader) holds the lock" in found.sentence()
    assert "daemon 100, which took it, is dead" in found.sentence()
    assert "kill 200" in found.cure()


def test_a_daemon_that_holds_its_own_lock_is_no_orphan(home: Home, tmp_path: Path) -> None:
    process(tmp_path / "proc", 100, home.lock, FLOCK)
    process(tmp_path / "proc", 200, home.lock, FLOCK)
    assert look(home, tmp_path / "proc") is None


@pytest.mark.parametrize("fdinfo", ["pos:\t0\n", FLOCK.replace("WRITE", "READ"), FLOCK.replace("FLOCK", "POSIX")])
def test_a_process_without_an_exclusive_flock_is_no_holder(home: Home, tmp_path: Path, fdinfo: str) -> None:
    process(tmp_path / "proc", 200, home.lock, fdinfo)
    assert look(home, tmp_path / "proc") is None


def test_a_lock_on_another_file_is_ignored(home: Home, tmp_path: Path) -> None:
    (tmp_path / "other").write_text("")
    process(tmp_path / "proc", 200, tmp_path / "other", FLOCK)
    assert look(home, tmp_path / "proc") is None


def test_without_a_proc_no_orphan_is_named(home: Home, tmp_path: Path) -> None:
    assert look(home, tmp_path / "nowhere") is None
    assert look(Home(tmp_path / "never"), tmp_path / "nowhere") is None


def test_a_daemon_that_has_not_written_its_pid_yet_gets_the_time_to(home: Home, tmp_path: Path) -> None:
    process(tmp_path / "proc", 200, home.lock, FLOCK)

    def writes(seconds: float) -> None:
        home.lock.write_text("pid 200\n")

    assert orphan(home, tmp_path / "proc", writes) is None


@pytest.mark.skipif(not Path("/proc/self/fdinfo").is_dir(), reason="no /proc here")
def test_the_parser_reads_the_real_proc(home: Home) -> None:
    """This process holds the lock, and the file names another pid."""
    lock = take_lock(home)
    try:
        assert orphan(home) is None
        home.lock.write_text("pid 1\n")
        found = orphan(home)
        assert found is not None
        assert (found.pid, found.taken_by) == (os.getpid(), 1)
    finally:
        os.close(lock)
