"""Test faults of time: a clock that is set, sleep, stopped processes, a reboot."""

from __future__ import annotations

import dataclasses
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.control.client import ask
from supervisor.daemon import __main__ as daemon_main
from supervisor.daemon import recovery
from supervisor.daemon.upkeep import background
from supervisor.home import Home
from tests.acceptance.faults.evidence import names, recorded, stored
from tests.acceptance.faults.stories import ONCE, control, finishes, is_gone, live_to_the_end, patience, status, story
from tests.acceptance.lives import (
    REQUEST,
    Setting,
    check_everything,
    living,
    until,
    until_recorded,
)

HOUR, DAY = 3600.0, 86400.0


# Clocks


class SetClock(Clock):
    """The machine's clock; the file `back` in `folder` sets its wall time back an hour, the file `on` on a day."""

    def __init__(self, folder: Path) -> None:
        self._back, self._on = folder / "back", folder / "on"

    def wall_s(self) -> float:
        return time.time() + (DAY if self._on.exists() else -HOUR if self._back.exists() else 0.0)


def with_clock(clock: Callable[[], Clock]) -> None:
    daemon_main.Clock = clock  # type: ignore[misc, assignment]
    background.CLOCK_PERIOD_S = 0.2


DIES_LATE = (
    ONCE
    + """
def at(number, attempt, step):
    time.sleep(0.6)
    if (number, step) == (1, 3) and once("died"):
        os.kill(os.getpid(), 9)
"""
)


@pytest.mark.fault(
    "43",
    "the clock is set back an hour, then on a day",
    "recorded; no limit is reached, no time is negative, `seq` orders events",
)
def test_a_clock_that_is_set_ends_nothing_and_does_not_change_the_order_of_events(home: Home) -> None:
    """The experiment may take an hour; a day that passes on the wall clock only must not use it up."""
    hours = [{**REQUEST.specs[0], "max_hours": 1.0}]
    setting = Setting(
        driver=story(DIES_LATE),
        request=dataclasses.replace(REQUEST, specs=hours),
        change=functools.partial(with_clock, functools.partial(SetClock, home.root)),
    )
    with living(home, setting) as it:
        until_recorded(home, "trial.reported")
        (home.root / "back").touch()
        until_recorded(home, "clock.set")
        view = status(home)
        assert view is not None
        assert view["daemon"]["now_wall"] < view["daemon"]["started_wall"], "the clock is an hour back"
        said = control(home, "status")
        assert said.returncode == 0, said.stderr
        assert "up 0 s" in said.stdout, "no time is negative"
        (home.root / "on").touch()
        until_recorded(home, "clock.set", times=2)
        finishes(home, it)
    events = check_everything(home)
    set_by = [event["seconds"] for event in events if event["event"] == "clock.set"]
    assert [round(seconds / HOUR) for seconds in set_by] == [-1, 25]
    assert "driver.hung" not in names(events)
    assert names(events).count("driver.started") == 2
    assert all(event["seconds"] >= 0.0 for event in events if event["event"] in ("trial.finished", "run.finished"))
    lines = recorded(home)
    assert [line["seq"] for line in lines] == sorted(line["seq"] for line in lines)
    assert [line["ts"] for line in lines] != sorted(line["ts"] for line in lines), "the wall clock did go back"


class SleepyClock(Clock):
    """The clocks of a laptop that slept for eight hours: the monotonic clock did not advance."""

    def __init__(self) -> None:
        self._begun_s = time.monotonic()

    def _slept_s(self) -> float:
        return 8 * HOUR if time.monotonic() - self._begun_s > 1.0 else 0.0

    def wall_s(self) -> float:
        return time.time() + self._slept_s()

    def boot_s(self) -> float | None:
        return time.monotonic() + self._slept_s()


@pytest.mark.fault(
    "44", "a laptop sleeps for eight hours", "the gap is recorded and counts for no limit; no driver counts as hung",
    faked="clocks as they are after a sleep",
)  # fmt: skip
def test_the_hours_in_which_the_machine_slept_are_recorded_and_not_counted(home: Home) -> None:
    hours = [{**REQUEST.specs[0], "max_hours": 1.0}]
    live_to_the_end(
        home,
        Setting(
            driver=story(DIES_LATE),
            request=dataclasses.replace(REQUEST, specs=hours),
            change=functools.partial(with_clock, SleepyClock),
        ),
    )
    events = check_everything(home)
    assert [event["seconds"] for event in events if event["event"] == "machine.slept"] == [pytest.approx(8 * HOUR)]
    assert not {"clock.set", "driver.hung"} & set(names(events))
    assert names(events).count("driver.started") == 2


def watchful(program: str) -> None:
    patience(4.0, program)()
    background.CLOCK_PERIOD_S, background.STOOD_STILL_S = 0.2, 3.0


@pytest.mark.fault(
    "44", "SIGSTOP of daemon and driver for longer than a driver may be silent",
    "the gap is recorded, the driver does not count as hung, no attempt is lost",
)  # fmt: skip
def test_stopped_processes_continue_and_lose_no_attempt(home: Home) -> None:
    slow = story("def at(number, attempt, step):\n    time.sleep(0.3)\n")
    with living(home, Setting(driver=slow, change=functools.partial(watchful, slow))) as it:
        until_recorded(home, "trial.reported")
        (driver,) = [event["pid"] for event in recorded(home) if event["event"] == "driver.started"]
        for pid in (driver, it.pid):
            os.kill(pid, signal.SIGSTOP)
        time.sleep(6.0)
        os.kill(it.pid, signal.SIGCONT)
        # The daemon looks first, and its driver has still not said a word.
        time.sleep(0.7)
        os.kill(driver, signal.SIGCONT)
        finishes(home, it)
    events = check_everything(home)
    stood = [event["seconds"] for event in events if event["event"] == "daemon.stood_still"]
    assert len(stood) == 1
    assert stood[0] > 3.0
    assert not {"driver.hung", "driver.exited", "trial.requeued"} & set(names(events))


# A reboot


def booted_as(boot: str) -> None:
    recovery.boot_id = lambda: boot  # type: ignore[assignment]


@pytest.mark.fault(
    "45", "a reboot while the operator's pause holds", "a paused run stays paused; resumed, it ends with every result",
    faked="another boot id, all processes gone, a stale socket and lock left",
)  # fmt: skip
def test_after_a_reboot_a_paused_run_stays_paused_until_it_is_resumed(home: Home) -> None:
    slow = Setting(pause_s=0.3, change=functools.partial(booted_as, "boot-1"))
    with living(home, slow) as it:
        until_recorded(home, "trial.reported")
        ask(home, "pause", {"now": True, "reason": "away"})
        it.kill()
    (driver,) = [event["pid"] for event in recorded(home) if event["event"] == "driver.started"]
    until(home, "the driver is gone, too", lambda: is_gone(driver))
    assert home.socket.exists(), "nobody took it away"
    assert status(home) is None
    home.lock.write_text("boot-1 1 1\n")  # as it may be read: of another boot, a pid that is somebody else's now
    reported = names(recorded(home)).count("trial.reported")
    anew = dataclasses.replace(REQUEST, plan=None)  # what the service file starts: whatever is unfinished
    with living(home, Setting(request=anew, change=functools.partial(booted_as, "boot-2"))) as it:
        until_recorded(home, "experiment.paused", 2)
        time.sleep(1.0)
        assert names(recorded(home)).count("trial.reported") == reported, "paused is paused"
        view = status(home)
        assert view is not None
        assert [command["reason"] for command in view["commands"]] == ["away"]
        ask(home, "resume", {})
        finishes(home, it)
    events = check_everything(home)
    assert [e["boot_id"] for e in events if e["event"] == "daemon.started"] == ["boot-1", "boot-2"]
    assert [e["requeued"] for e in events if e["event"] == "daemon.recovered"] == [1]


@pytest.mark.fault(
    "45", "a reboot of a run that was stopped", "nothing starts by itself; a start by its name continues it to its end",
    faked="another boot id, all processes gone",
)  # fmt: skip
def test_after_a_reboot_a_stopped_run_stays_stopped(home: Home) -> None:
    with living(home, Setting(pause_s=0.3, change=functools.partial(booted_as, "boot-1"))) as it:
        until_recorded(home, "trial.reported")
        ask(home, "stop", {})
        assert it.ended()[0] == 0
    anew = dataclasses.replace(REQUEST, plan=None)
    before = len(recorded(home))
    with living(home, Setting(request=anew, change=functools.partial(booted_as, "boot-2"))) as it:
        assert it.ended()[0] == 2, "there is nothing to go on with"
    assert len(recorded(home)) == before
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "stop"}]
    live_to_the_end(home, Setting(change=functools.partial(booted_as, "boot-2")))
    assert "run.wanted" in names(check_everything(home))
