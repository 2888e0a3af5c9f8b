"""Test faults of the daemon itself: kills, stops, its main loop."""

from __future__ import annotations

import functools
import resource
import signal
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.client import ask
from supervisor.control.handshake import StartRequest
from supervisor.daemon import daemon
from supervisor.daemon.upkeep import crash_loop
from supervisor.daemon.upkeep.loop_watchdog import LoopWatchdog
from supervisor.errors import CrashLoop, SweepError
from supervisor.home import Home
from supervisor.processes import driver_process
from supervisor.store import queries
from tests.acceptance.conftest import Sweep
from tests.acceptance.faults.evidence import audited, names, recorded, stored
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
