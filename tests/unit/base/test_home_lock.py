"""Test the lock that gives a home one daemon, and the home's folders."""

from __future__ import annotations

import contextlib
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.errors import AlreadyRunning, UnsafeFolder
from supervisor.home import Home, find_home, make_private
from supervisor.home_lock import is_held, take_lock

HOLDER = """
import subprocess, sys, time
from pathlib import Path
from supervisor.home import Home
from supervisor.home_lock import take_lock
lock = take_lock(Home(Path(sys.argv[1])))
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
print(child.pid, flush=True)
time.sleep(60)
"""


@pytest.fixture
def home(tmp_path: Path) -> Home:
    made = Home(tmp_path)
    made.state.mkdir()
    made.logs.mkdir()
    return made


@pytest.fixture
def holder(home: Home) -> Iterator[tuple[subprocess.Popen[bytes], int]]:
    """A process that holds the home's lock, and a child of its that lives on."""
    process = subprocess.Popen([sys.executable, "-c", HOLDER, str(home.root)], stdout=subprocess.PIPE)
    assert process.stdout is not None
    child = int(process.stdout.readline())
    yield process, child
    for pid in (process.pid, child):
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    process.wait()
    process.stdout.close()


def test_a_second_daemon_is_refused_with_the_pid_of_the_first(
    home: Home, holder: tuple[subprocess.Popen[bytes], int]
) -> None:
    assert is_held(home)
    with pytest.raises(AlreadyRunning, match=f"held by pid {holder[0].pid}"):
        take_lock(home)
    assert is_held(home), "the first daemon keeps its lock"


def test_a_killed_daemon_leaves_the_home_free_though_a_child_of_its_lives_on(
    home: Home, holder: tuple[subprocess.Popen[bytes], int]
) -> None:
    process, child = holder
    process.kill()
    process.wait()
    os.kill(child, 0)
    assert not is_held(home)
    os.close(take_lock(home))


def test_a_stale_lock_file_with_the_pid_of_another_program_is_no_obstacle(home: Home) -> None:
    home.lock.write_text(f"pid {os.getppid()}\n" + "x" * 100)
    assert not is_held(home)
    lock = take_lock(home)
    assert home.lock.read_text() == f"pid {os.getpid()}\n"
    os.close(lock)


def test_closing_the_lock_frees_the_home_and_keeps_the_file(home: Home) -> None:
    lock = take_lock(home)
    assert is_held(home)
    os.close(lock)
    assert not is_held(home)
    assert home.lock.exists()


def test_asking_whether_a_new_home_is_held_makes_nothing(tmp_path: Path) -> None:
    assert not is_held(Home(tmp_path / "nowhere"))
    assert list(tmp_path.iterdir()) == []


def test_a_link_in_place_of_the_lock_is_refused_with_the_cure(home: Home) -> None:
    (home.root / "target").write_text("precious")
    home.lock.symlink_to(home.root / "target")
    with pytest.raises(UnsafeFolder, match="cannot be opened") as refusal:
        take_lock(home)
    assert f"remove {home.lock}" in refusal.value.render()
    assert (home.root / "target").read_text() == "precious"


def test_a_disk_without_locks_is_not_mistaken_for_a_running_daemon(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_locks(fd: int, operation: int) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("supervisor.home_lock.fcntl.flock", no_locks)
    with pytest.raises(UnsafeFolder, match="No locks available"):
        take_lock(home)


def test_a_folder_is_made_for_its_owner_only_and_an_open_one_is_closed(tmp_path: Path) -> None:
    (tmp_path / "open").mkdir(mode=0o755)
    for name in ("new", "open"):
        make_private(tmp_path / name)
        assert (tmp_path / name).stat().st_mode & 0o777 == 0o700


def test_a_link_or_a_file_in_place_of_a_private_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "target")
    with pytest.raises(UnsafeFolder, match="expected a folder"):
        make_private(tmp_path / "link")


def test_a_folder_of_another_user_or_of_all_users_is_refused_and_left_as_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A wrong SWEEP_HOME must not close /tmp to other users."""
    shared = tmp_path / "shared"
    shared.mkdir()
    shared.chmod(0o1777)
    with pytest.raises(UnsafeFolder, match="shared by all users"):
        make_private(shared)
    assert shared.stat().st_mode & 0o7777 == 0o1777
    monkeypatch.setattr(os, "geteuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(UnsafeFolder, match="belongs to user id"):
        make_private(tmp_path)


def test_a_lock_of_another_user_is_refused(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    home.lock.touch()
    monkeypatch.setattr(os, "geteuid", lambda: home.lock.stat().st_uid + 1)
    with pytest.raises(UnsafeFolder, match="belongs to user id"):
        take_lock(home)


def test_a_home_that_cannot_be_made_is_a_clear_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "umask", lambda mask: 0)
    (tmp_path / "file").write_text("")
    with pytest.raises(UnsafeFolder, match="cannot be made") as refusal:
        Home(tmp_path / "file" / "home").prepare()
    assert "SWEEP_HOME" in refusal.value.render()


def test_sweep_home_names_the_home_and_two_homes_never_share_a_socket(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "one"))
    one = find_home()
    assert one.root == tmp_path / "one"
    assert one.socket != Home(tmp_path / "two").socket
    assert len(os.fsencode(Home(tmp_path / ("x" * 200)).socket)) < 80, "the path of a home does not make it longer"
