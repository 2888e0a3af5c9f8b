"""Test faults of a home's lock and socket: stale, held by another process, removed, a long path."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from pathlib import Path
from typing import Any

import pytest

from supervisor.control import server
from supervisor.control.client import ask
from supervisor.errors import NotPermitted, NotRunning
from supervisor.home import SOCKET_PATH_MAX_BYTES, Home
from supervisor.home_lock import is_held, take_lock
from tests import waits
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import names, nothing_begun, recorded
from tests.acceptance.lives import (
    Setting,
    check_everything,
    life,
    living,
    until,
    until_recorded,
)

SLOW = Setting(pause_s=0.4)


@pytest.mark.fault(
    "6",
    "a stale lock file whose pid belongs to another program by now",
    "the lock itself is free, so the daemon starts; the other program gets no signal",
)
def test_a_stale_lock_with_another_programs_pid_stops_no_start_and_that_program_goes_on(home: Home) -> None:
    home.prepare()
    with subprocess.Popen(["sleep", "120"]) as stranger:
        try:
            home.lock.write_text(f"pid {stranger.pid}\n")
            assert life(home) == (0, False)
            # Any signal that a daemon sends would have ended it.
            assert stranger.poll() is None
        finally:
            stranger.kill()
    assert names(check_everything(home)).count("daemon.started") == 1


def leave_a_holder_behind(home: Home) -> int:
    """Return the pid of a child that a daemon forked and that holds the lock after the daemon's death."""
    reads, writes = os.pipe()
    daemons = os.fork()
    if daemons == 0:
        take_lock(home)
        child = os.fork()
        if child == 0:
            os.close(writes)
            signal.pause()
            os._exit(0)
        os.write(writes, str(child).encode())
        os._exit(0)
    os.close(writes)
    os.waitpid(daemons, 0)
    with os.fdopen(reads) as told_pid:
        return int(told_pid.read())


@pytest.mark.fault(
    "7",
    "a process that a dead daemon forked still holds the lock",
    "the start is refused with that process's pid and the cure, not with `already running`; once it is gone, it starts",
)
def test_an_orphan_that_holds_the_lock_is_named(home: Home, sweep: Sweep) -> None:
    home.prepare()
    left = leave_a_holder_behind(home)
    try:
        begun = sweep.d("start", sweep.plan("p"))
        assert begun.returncode == 1
        assert f"process {left} (" in begun.stderr
        assert f"kill {left}" in begun.stderr
        assert "already running" not in begun.stdout + begun.stderr
        assert f"process {left} (" in sweep.ctl("pause").stderr
        assert life(home)[0] == 1
        nothing_begun(home)
    finally:
        os.kill(left, signal.SIGKILL)
    until(home, "the lock is free", lambda: not is_held(home))
    assert life(home) == (0, False)
    check_everything(home)


def refusal_without_a_socket(home: Home, replaced: bool) -> str | None:
    """Take the socket away and ask; return the error's text, or None if the daemon was quicker."""
    if replaced:
        (home.root / "not-a-socket").touch()
        (home.root / "not-a-socket").replace(home.socket)
    else:
        home.socket.unlink(missing_ok=True)
    try:
        ask(home, "status")
    except (NotPermitted, NotRunning) as error:
        return error.message
    return None


def answer(home: Home) -> dict[str, Any] | None:
    with contextlib.suppress(NotPermitted, NotRunning):
        return ask(home, "status")
    return None


@pytest.mark.fault(
    "8",
    "the control socket is deleted, or another file put in its place, as by a sweeper of /tmp",
    "it is bound again and recorded (`socket.restored`); meanwhile a client's error says who holds the home",
)
@pytest.mark.parametrize("replaced", [False, True])
def test_a_socket_that_is_removed_is_bound_again(home: Home, replaced: bool) -> None:
    often = lambda: setattr(server, "SOCKET_CHECK_PERIOD_S", 0.5)  # noqa: E731
    with living(home, Setting(pause_s=0.2, change=often)) as it:
        until_recorded(home, "trial.reported")
        ask(home, "pause", {"now": True})
        said = waits.until("a client meets it", lambda: refusal_without_a_socket(home, replaced))
        if replaced:
            assert f"expected a socket of this user at {home.socket}" in said
        else:
            assert f"a daemon (pid {it.pid}" in said
            assert "its socket was removed and will be bound again" in said
        until_recorded(home, "socket.restored")
        assert waits.until("it answers again", lambda: answer(home))["daemon"]["pid"] == it.pid
        ask(home, "resume", {})
        assert it.ended() == (0, False)
    check_everything(home)
    assert "socket.restored" in names(recorded(home))
    assert not home.socket.exists()


@pytest.mark.fault(
    "9",
    "the socket file of a daemon that died lies in the way",
    "it is replaced; the new daemon answers at it",
)
def test_a_stale_socket_is_replaced(home: Home) -> None:
    home.prepare()
    with socket.socket(socket.AF_UNIX) as dead:
        dead.bind(str(home.socket))
    stale = home.socket.lstat().st_ino
    with living(home, SLOW) as it:
        until_recorded(home, "trial.reported")
        assert ask(home, "status")["run"]["plan"] == "p"
        assert home.socket.lstat().st_ino != stale
        assert it.ended() == (0, False)
    check_everything(home)
    assert not home.socket.exists(), "and it goes with its daemon"


@pytest.mark.fault(
    "10",
    "the home's path is longer than a unix socket's may be",
    "the socket has a short path of its own, which the first event holds",
)
def test_a_long_path_of_the_home_does_not_reach_the_socket(tmp_path: Path) -> None:
    home = Home(tmp_path / ("d" * 120) / ("e" * 120))
    home.root.mkdir(parents=True)
    with living(home, SLOW) as it:
        until_recorded(home, "trial.reported")
        assert ask(home, "status")["daemon"]["socket"] == str(home.socket)
        assert it.ended() == (0, False)
    check_everything(home)
    (path,) = [event["socket"] for event in recorded(home) if event["event"] == "daemon.started"]
    assert path == str(home.socket)
    assert len(os.fsencode(path)) <= SOCKET_PATH_MAX_BYTES
    assert len(os.fsencode(home.state / "ctl.sock")) > 108, "in the home it could not have been"
    home.runtime().rmdir()
