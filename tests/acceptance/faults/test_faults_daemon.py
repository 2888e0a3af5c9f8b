"""Test faults of the daemon itself: kills, stops, its lock, its socket, its main loop."""

from __future__ import annotations

import contextlib
import functools
import os
import resource
import signal
import socket
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.control import server
from supervisor.control.client import ask
from supervisor.control.handshake import StartRequest
from supervisor.daemon import daemon
from supervisor.daemon.upkeep import crash_loop
from supervisor.daemon.upkeep.loop_watchdog import LoopWatchdog
from supervisor.errors import CrashLoop, NotPermitted, NotRunning, SweepError
from supervisor.home import SOCKET_PATH_MAX_BYTES, Home
from supervisor.home_lock import is_held, take_lock
from supervisor.processes import driver_process
from supervisor.store import queries
from tests import waits
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import audited, names, nothing_begun, recorded, stored
from tests.acceptance.faults.stories import is_gone
from tests.acceptance.lives import (
    KILLED,
    REQUEST,
    Setting,
    check_everything,
    life,
    living,
    state,
    until,
    until_recorded,
)
from tests.waits import NET_S

SLOW = Setting(pause_s=0.4)
CUT_SHORT = Setting(pause_s=1.0)
"""A life slow enough that a busy machine can end it in the middle of its story."""


def driver_of(home: Home) -> int:
    return int([event["pid"] for event in recorded(home) if event["event"] == "driver.started"][-1])


def each_lost_trial_goes_on_once_from_its_last_checkpoint(events: list[dict[str, Any]], cause: str) -> None:
    """Compare each `trial.requeued` and the next `trial.started` with the epochs reported before."""
    lost = [event for event in events if event["event"] == "trial.requeued"]
    assert [event["cause"] for event in lost] == [cause], "one trial was at work, and it was lost once"
    for event in lost:
        mine = [each for each in events if each.get("trial") == event["trial"]]
        reported = [e["step"] for e in mine if e["event"] == "trial.reported" and e["seq"] < event["seq"]]
        started = [e for e in mine if e["event"] == "trial.started" and e["seq"] > event["seq"]]
        assert [e["attempt"] for e in started] == [event["attempt"] + 1]
        assert started[0].get("resumed_step") == max(reported, default=None)


@pytest.mark.fault(
    "1",
    "kill -9 of the daemon while trials run",
    "the driver ends by itself; the running trial is requeued once and resumes from its last checkpoint",
)
def test_a_killed_daemon_ends_its_driver_and_the_next_resumes_from_the_checkpoint(home: Home, sweep: Sweep) -> None:
    with living(home, CUT_SHORT) as first:
        until_recorded(home, "trial.reported", times=2)
        driver = driver_of(home)
        first.kill()
    until(home, "the driver has ended", lambda: is_gone(driver))
    assert state(home) == "RUNNING", "nobody was there to write anything else"
    told, view = sweep.ctl("status"), sweep.status()
    assert (told.returncode, "ITS DAEMON DIED" in told.stdout, "RUNNING" in told.stdout) == (4, True, False)
    assert (view["daemon"], view["daemon_died"], view["run"]["state"]) == (None, True, "STOPPED")
    assert life(home) == (0, False)
    check_everything(home)
    each_lost_trial_goes_on_once_from_its_last_checkpoint(recorded(home), "daemon_died")
    assert names(recorded(home)).count("daemon.recovered") == 1


@pytest.mark.fault(
    "3",
    "kill -9 of the daemon just after it took an operator's pause",
    "the pause was written first: the next daemon keeps it until it is lifted, and no trial begins meanwhile",
)
def test_a_pause_outlives_a_daemon_that_was_killed_over_it(home: Home) -> None:
    with living(home, CUT_SHORT) as first:
        until_recorded(home, "trial.reported")
        ask(home, "pause", {"now": True, "reason": "the fan is loud"})
        first.kill()
    before = stored(home, "SELECT count(*) AS n FROM result")
    with living(home, SLOW) as second:
        until_recorded(home, "experiment.paused", times=2)
        time.sleep(1.0)  # several epochs' time, in which none may be
        assert stored(home, "SELECT state FROM experiment") == [{"state": "PAUSED"}]
        assert stored(home, "SELECT count(*) AS n FROM result") == before
        ask(home, "resume", {})
        assert second.ended() == (0, False)
    check_everything(home)
    paused = [event for event in recorded(home) if event["event"] == "run.paused"]
    assert [event["reason"] for event in paused] == ["the fan is loud"]


@pytest.mark.fault(
    "3",
    "kill -9 of the daemon while it stops at an operator's command",
    "it stays stopped: a start without a plan refuses with exit code 2; a start by its name continues it to its end",
)
@pytest.mark.parametrize("moment", ["while the driver ends", "at the last step"])
def test_a_stop_outlives_a_daemon_that_was_killed_over_it(home: Home, sweep: Sweep, moment: str) -> None:
    at_once = moment == "while the driver ends"
    with living(home, Setting("" if at_once else "daemon.close:1:kill", pause_s=1.0, stubborn=at_once)) as first:
        until_recorded(home, "trial.reported")
        ask(home, "stop", {})
        if at_once:
            first.signal(signal.SIGKILL)
        assert first.ended()[0] == KILLED
    assert stored(home, "SELECT desired FROM run") == [{"desired": "stop"}]
    assert "`supervisord start p` resumes it" in sweep.ctl("status").stderr
    begun = names(recorded(home)).count("daemon.started")
    assert life(home, request=StartRequest(plan=None))[0] == 2
    assert "is stopped: a start without its plan does not resume it" in (home.root / "life.log").read_text()
    assert names(recorded(home)).count("daemon.started") == begun
    assert life(home) == (0, False)
    check_everything(home)
    assert names(recorded(home)).count("run.wanted") == 1


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


@pytest.mark.fault(
    "11",
    "SIGHUP after the plan's file was edited",
    "the file is read again, its changes recorded (`plan.compared`); the run keeps its copy, no trial is touched",
)
def test_sighup_reads_the_plan_again_and_touches_no_trial(home: Home, sweep: Sweep) -> None:
    path = Path(sweep.plan("p"))
    text = path.read_text()
    with living(home, replace(SLOW, request=replace(REQUEST, source=str(path), plan_text=text))) as it:
        until_recorded(home, "trial.reported")
        path.write_text(text.replace("max_trials: 4", "max_trials: 400"))
        it.signal(signal.SIGHUP)
        until_recorded(home, "plan.compared")
        assert it.ended() == (0, False)
    check_everything(home)
    (compared,) = [event for event in recorded(home) if event["event"] == "plan.compared"]
    assert any("max_trials" in change and "400" in change for change in compared["changes"])
    assert stored(home, "SELECT plan_text FROM run") == [{"plan_text": text}]
    assert not {"trial.requeued", "driver.exited"} & set(names(recorded(home)))


@pytest.mark.fault(
    "12",
    "SIGTERM",
    "STOPPING, the running trial goes back to the queue, exit code 0; the next start resumes it from its checkpoint",
)
def test_sigterm_requeues_the_running_trial_and_ends_the_daemon(home: Home) -> None:
    with living(home, CUT_SHORT) as it:
        until_recorded(home, "trial.reported")
        it.signal(signal.SIGTERM)
        assert it.ended() == (0, False)
    moves = [event["state"] for event in recorded(home) if event["event"] == "run.moved"]
    assert moves[-2:] == ["STOPPING", "STOPPED"]
    assert [event["reason"] for event in recorded(home) if event["event"] == "daemon.stopped"] == ["SIGTERM"]
    assert stored(home, "SELECT desired FROM run") == [{"desired": "run"}], "nobody said that it shall not go on"
    audited(home)
    assert life(home, request=StartRequest(plan=None)) == (0, False)
    check_everything(home)
    each_lost_trial_goes_on_once_from_its_last_checkpoint(recorded(home), "stopped")


@pytest.mark.fault(
    "12",
    "a second SIGTERM while the driver does not come to an end",
    "the daemon ends at once; the next start recovers",
)
def test_a_second_sigterm_ends_it_at_once(home: Home) -> None:
    with living(home, Setting(pause_s=1.0, stubborn=True)) as it:
        until_recorded(home, "trial.reported")
        driver = driver_of(home)
        it.signal(signal.SIGTERM)
        time.sleep(0.3)  # two that are pending at once are one (signal(7))
        it.signal(signal.SIGTERM)
        assert it.ended() == (1, False)
    until(home, "the driver has ended", lambda: is_gone(driver))
    assert life(home) == (0, False)
    check_everything(home)
    each_lost_trial_goes_on_once_from_its_last_checkpoint(recorded(home), "daemon_died")


@pytest.mark.fault(
    "12",
    "SIGTERM, and the driver does not come to an end within its grace",
    "it is killed with its group, which is recorded (`stop.forced`); exit code 0, the next start continues",
)
def test_a_driver_that_does_not_finish_in_time_is_killed_and_this_is_recorded(home: Home) -> None:
    quick = lambda: setattr(driver_process, "FINISH_GRACE_S", 0.5)  # noqa: E731
    with living(home, Setting(pause_s=1.0, stubborn=True, change=quick)) as it:
        until_recorded(home, "trial.reported")
        driver = driver_of(home)
        it.signal(signal.SIGTERM)
        assert it.ended() == (0, False)
    assert is_gone(driver)
    (forced,) = [event for event in recorded(home) if event["event"] == "stop.forced"]
    assert forced["after_s"] == 0.5
    assert stored(home, "SELECT state FROM run") == [{"state": "STOPPED"}]
    audited(home)
    assert life(home) == (0, False)
    check_everything(home)
    each_lost_trial_goes_on_once_from_its_last_checkpoint(recorded(home), "stopped")


def hang(*_: Any, **__: Any) -> dict[str, Any]:
    time.sleep(120)
    return {}


def with_a_loop_that_hangs() -> None:
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    daemon.LoopWatchdog = functools.partial(LoopWatchdog, limit_s=1.0)  # type: ignore[misc, assignment]
    queries.run_snapshot = hang


@pytest.mark.fault(
    "13",
    "the main loop blocks",
    "a thread writes every stack and aborts the daemon; the next start recovers",
)
def test_the_stacks_of_a_main_loop_that_blocks_are_written_and_the_daemon_aborts(home: Home) -> None:
    with living(home, Setting(pause_s=0.3, change=with_a_loop_that_hangs)) as it:
        until_recorded(home, "trial.reported")
        with pytest.raises(SweepError):
            ask(home, "status", query="?trials=1", deadline_s=NET_S)
        assert it.ended()[0] == -signal.SIGABRT
    words = (home.root / "life.log").read_text()
    assert "the main loop blocks" in words
    assert "in hang" in words, "the stack names what it hung in"
    assert life(home) == (0, False)
    assert names(check_everything(home)).count("daemon.recovered") == 1


BY_SERVICE = StartRequest(plan=None, by_service=True)


def without_long_delays() -> None:
    crash_loop.DELAY_BASE_S = 0.01


@pytest.mark.fault(
    "14",
    "a service manager starts the daemon again and again, and each dies before it did any work",
    "from the sixth on each waits longer (`daemon.delayed`), the tenth disables restarts (`daemon.crash_looped`, "
    "exit code 6); a person's start continues",
)
def test_a_crash_loop_is_slowed_down_and_ended_until_a_person_starts_the_daemon(home: Home) -> None:
    dies = "ready.tell:1:kill"
    assert life(home, dies)[0] == KILLED
    for _ in range(crash_loop.MAX_STARTS - 1):
        assert life(home, dies, request=BY_SERVICE, change=without_long_delays)[0] == KILLED
    for _ in range(2):
        assert life(home, request=BY_SERVICE, change=without_long_delays)[0] == CrashLoop.exit_code
    events = recorded(home)
    waits = [event["wait_s"] for event in events if event["event"] == "daemon.delayed"]
    assert waits == [0.01 * 2.0**turn for turn in range(len(waits))]
    assert len(waits) == crash_loop.MAX_STARTS - crash_loop.FREE_STARTS
    assert "daemon.crash_looped" in names(events)
    assert names(events).count("driver.started") == 0
    assert state(home) == "FATAL"
    assert life(home, request=StartRequest(plan=None)) == (0, False)
    check_everything(home)
