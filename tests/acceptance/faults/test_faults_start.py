"""Test faults of starting and stopping: two starts, a start while stopping, a terminal that closes."""

from __future__ import annotations

import fcntl
import os
import select
import shlex
import signal
import subprocess
import termios
from dataclasses import replace
from typing import Any

import pytest

from supervisor.control.client import ask
from supervisor.home import Home
from supervisor.plan.expansion import expand, fingerprint
from supervisor.plan.loader import load_plan
from supervisor.processes import driver_process, orphans
from tests.acceptance.conftest import BIN, Sweep, driver_pid
from tests.acceptance.faults.evidence import audited, names, recorded, stored
from tests.acceptance.lives import REQUEST, Setting, check_everything, living, until_recorded
from tests.waits import NET_S


def as_if_begun_with(plan: str, pause_s: float = 0.3, **more: Any) -> Setting:
    """Make a life whose run has the fingerprint of the file `plan`."""
    loaded = load_plan(plan, [])
    known = fingerprint(loaded.plan, expand(loaded.plan, num_features=None, dataset=None), None)
    return Setting(request=replace(REQUEST, fingerprint=known), pause_s=pause_s, **more)


@pytest.mark.fault(
    "4",
    "a second `start` in the same home",
    "`already running`, exit code 0 for the same plan and 1 for another; the first keeps its lock, socket and trials",
)
def test_a_second_start_leaves_the_first_alone(home: Home, sweep: Sweep) -> None:
    plan = sweep.plan("p")
    with living(home, as_if_begun_with(plan)) as it:
        until_recorded(home, "trial.reported")
        # It stands still meanwhile, however long a command takes on a busy machine.
        ask(home, "pause", {"now": True})
        before = home.lock.read_text(), home.lock.stat().st_ino, home.socket.stat().st_ino
        same = sweep.d("start", plan)
        assert (same.returncode, same.stdout.splitlines()[0]) == (0, "already running:"), same.stderr
        assert f"pid {it.pid}," in same.stdout
        other = sweep.d("start", sweep.plan("another"))
        assert other.returncode == 1
        assert f"daemon {it.pid} works on p-" in other.stderr
        assert (home.lock.read_text(), home.lock.stat().st_ino, home.socket.stat().st_ino) == before
        ask(home, "resume", {})
        assert it.ended() == (0, False)
    check_everything(home)
    assert names(recorded(home)).count("daemon.started") == 1
    assert stored(home, "SELECT count(*) AS runs FROM run") == [{"runs": 1}]


@pytest.mark.fault(
    "5",
    "`start` while the daemon is stopping, for longer than `--timeout`",
    "a clear refusal, exit code 1; the run can be continued",
)
def test_a_daemon_that_is_stopping_does_not_count_as_running(home: Home, sweep: Sweep) -> None:
    plan = sweep.plan("p")
    # The daemon waits for its driver as long as the other `start` needs, on a busy machine too.
    slow = as_if_begun_with(plan, 5.0, stubborn=True, change=lambda: setattr(driver_process, "FINISH_GRACE_S", NET_S))
    with living(home, slow) as it:
        until_recorded(home, "trial.reported")
        ask(home, "shutdown", {})
        refused = sweep.d("start", plan, "--timeout", "1")
        assert refused.returncode == 1
        assert f"a daemon (pid {it.pid}" in refused.stderr
        assert "has been starting or ending" in refused.stderr
        os.kill(driver_pid(recorded(home)), signal.SIGKILL)
        assert it.ended()[0] == 0
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "run"}]
    with living(home, replace(slow, stubborn=False, pause_s=0.0)) as again:
        assert again.ended() == (0, False)
    check_everything(home)
    assert names(recorded(home)).count("daemon.started") == 2


@pytest.mark.fault(
    "2",
    "kill -9 of the daemon while `start` waits for it",
    "`start` says that it died before it was ready, with exit code 1; the run is whole, and no process is left",
)
def test_start_reports_a_daemon_that_is_killed_before_it_is_ready(home: Home, sweep: Sweep) -> None:
    plan = sweep.plan("p")
    begun = subprocess.run(
        [BIN / "supervisord", "start", plan], env={**sweep.environment, "SWEEP_FAILPOINT": "run.plan:1:kill"},
        cwd=sweep.folder, capture_output=True, text=True, check=False, timeout=NET_S,
    )  # fmt: skip
    assert begun.returncode == 1
    assert "the daemon died before it was ready" in begun.stderr
    assert stored(home, "SELECT state FROM run") == [{"state": "STOPPED"}]
    assert orphans.find(home.key) == []
    with living(home, as_if_begun_with(plan)) as it:
        # What the user's own plan asks for cannot be played by a story; that the run is taken up can be seen.
        until_recorded(home, "daemon.started")
        it.kill()
    assert stored(home, "SELECT count(*) AS runs FROM run") == [{"runs": 1}]


def shell_in_a_terminal(command: list[str], sweep: Sweep) -> tuple[subprocess.Popen[bytes], int]:
    """Run `command` in a shell with a terminal of its own; return the shell and the terminal's other end."""
    master, slave = os.openpty()

    def take_the_terminal() -> None:
        # Tests that run under nohup hand on that SIGHUP is ignored.
        signal.signal(signal.SIGHUP, signal.SIG_DFL)
        fcntl.ioctl(0, termios.TIOCSCTTY, 0)

    line = " ".join(shlex.quote(str(part)) for part in command)
    shell = subprocess.Popen(
        ["/bin/sh", "-c", f"{line}; echo code=$? ended; read nothing"], stdin=slave, stdout=slave, stderr=slave,
        start_new_session=True, preexec_fn=take_the_terminal, env=sweep.environment, cwd=sweep.folder,
    )  # fmt: skip
    os.close(slave)
    return shell, master


def read_until(master: int, ending: bytes) -> bytes:
    said = b""
    while ending not in said:
        ready, _, _ = select.select([master], [], [], NET_S)
        assert ready, f"it only said {said!r}"
        said += os.read(master, 4096)
    return said


@pytest.mark.slow
@pytest.mark.fault(
    "4",
    "two `start`s of one plan at the same moment, with a real Ray",
    "one daemon and one run; both end with exit code 0, one of them says `already running`",
)
@pytest.mark.fault(
    "11",
    "the terminal of `start` is closed; later the daemon gets a SIGHUP",
    "neither ends it, and no trial is touched",
)
@pytest.mark.fault(
    "5",
    "`start` while the daemon is stopping, with a real Ray",
    "it waits for the old daemon's end, then starts; the trials continue, each once",
)
def test_two_starts_give_one_daemon_that_outlives_its_terminal_and_a_start_follows_a_stop(sweep: Sweep) -> None:
    plan = sweep.plan("p", max_trials=4, pause_s=1.0)
    shell, master = shell_in_a_terminal([BIN / "supervisord", "start", plan], sweep)
    try:
        second = sweep.d("start", plan)
        first = read_until(master, b" ended").decode()
        assert second.returncode == 0, second.stderr
        assert "code=0 ended" in first
        assert (first + second.stdout).count("already running:") == 1
        pid = sweep.until("a result", lambda _: stored(sweep.home, "SELECT * FROM result"))["daemon"]["pid"]
    finally:
        os.close(master)  # the terminal is closed: the shell and all in its session hear SIGHUP
        shell.wait(NET_S)
    assert shell.returncode == -signal.SIGHUP
    os.kill(pid, signal.SIGHUP)
    before = len(stored(sweep.home, "SELECT * FROM result"))
    view = sweep.until("it goes on", lambda _: len(stored(sweep.home, "SELECT * FROM result")) > before)
    assert view["daemon"]["pid"] == pid
    assert not {"trial.requeued", "driver.exited"} & set(names(recorded(sweep.home)))

    # It stands still meanwhile, however long a command takes on a busy machine.
    assert sweep.ctl("pause", "--now").returncode == 0
    with subprocess.Popen(
        [BIN / "supervisorctl", "shutdown"], env=sweep.environment, stdout=subprocess.PIPE, text=True
    ) as stopping:
        assert stopping.stdout is not None
        assert "the daemon ends" in stopping.stdout.readline()
        again = sweep.d("start", plan)
        assert again.returncode == 0, again.stderr
        assert "already running" not in again.stdout
        stopping.wait(NET_S)
    assert sweep.ctl("resume").returncode == 0
    assert sweep.ctl("wait").returncode == 0
    audited(sweep.home)
    assert names(recorded(sweep.home)).count("daemon.started") == 2
    assert stored(sweep.home, "SELECT count(*) AS runs FROM run") == [{"runs": 1}]
    assert stored(sweep.home, "SELECT DISTINCT end_reason FROM trial") == [{"end_reason": "finished"}]
