"""Test the end of a daemon that hangs, and of one that dies at each start."""

from __future__ import annotations

import asyncio
import dataclasses
import os
import signal
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.handshake import StartRequest
from supervisor.daemon import assembly, early_end
from supervisor.daemon.upkeep import crash_loop
from supervisor.home import Home
from supervisor.plan.drift import sha256_of
from supervisor.plan.loader import load_plan
from supervisor.processes import driver_process
from supervisor.processes.driver_process import DriverProcess
from tests.acceptance.faults.evidence import recorded
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

SLOW = Setting(pause_s=0.3)


def impatient() -> None:
    driver_process.FINISH_GRACE_S = 0.5


def fields(home: Home, name: str) -> list[dict[str, Any]]:
    return [event for event in recorded(home) if event["event"] == name]


def test_a_driver_that_hears_no_stop_is_killed_after_its_grace_which_is_told_and_the_daemon_ends_well(
    home: Home,
) -> None:
    with living(home, dataclasses.replace(SLOW, stubborn=True, change=impatient)) as it:
        until_recorded(home, "trial.reported")
        it.signal(signal.SIGTERM)
        assert it.ended() == (0, False)
    (forced,) = fields(home, "stop.forced")
    assert (forced["what"], forced["after_s"], forced["experiment"]) == ("the driver of x", 0.5, "x")
    assert life(home) == (0, False)
    check_everything(home)


def hanging() -> None:
    """Let neither the driver end nor the wait for it."""

    async def finish(_: DriverProcess, __: str) -> None:
        await asyncio.Event().wait()

    DriverProcess.finish = finish  # type: ignore[method-assign]
    early_end.STOP_WITHIN_S = 0.5


def test_a_stop_that_does_not_come_to_its_end_is_forced_with_exit_code_0_and_loses_nothing(home: Home) -> None:
    with living(home, dataclasses.replace(SLOW, stubborn=True, change=hanging)) as it:
        until_recorded(home, "trial.reported")
        it.signal(signal.SIGTERM)
        assert it.ended() == (0, False)
    (forced,) = fields(home, "stop.forced")
    assert (forced["what"], forced["after_s"]) == ("the daemon", 0.5)
    assert fields(home, "daemon.stopped")[-1]["reason"] == "SIGTERM"
    assert life(home) == (0, False)
    check_everything(home)


def with_a_head_that_never_comes_up() -> None:
    class Slow(assembly.RayHead):  # type: ignore[misc, valid-type]
        async def start(self) -> None:
            (Path(os.environ["SWEEP_TEST_HOME"]) / "starting").touch()
            await asyncio.Event().wait()

    assembly.RayHead = Slow  # type: ignore[misc]


def test_a_stop_while_ray_starts_waits_for_no_ray(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SWEEP_TEST_HOME", str(home.root))
    with living(home, Setting(change=with_a_head_that_never_comes_up)) as it:
        until(home, "Ray is being started", lambda: (home.root / "starting").exists())
        it.signal(signal.SIGTERM)
        assert it.ended() == (0, False)
    assert state(home) == "STOPPED"
    assert fields(home, "stop.forced") == []
    assert life(home) == (0, False)
    check_everything(home)


@pytest.fixture
def planned(home: Home) -> tuple[Path, StartRequest]:
    """A plan's file, and the request of a run of it."""
    path = home.root / "mine.yaml"
    path.write_text(load_plan("smoke").text.replace("name: smoke", "name: p"))
    hardware = REQUEST.hardware | {"source_sha256": sha256_of(path)}
    request = dataclasses.replace(REQUEST, source=str(path), plan_text=path.read_text(), hardware=hardware)
    return path, request


@pytest.mark.parametrize("valid", [True, False])
def test_sighup_reads_an_edited_plan_tells_what_changed_and_touches_no_trial(
    home: Home, planned: tuple[Path, StartRequest], valid: bool
) -> None:
    path, request = planned
    with living(home, dataclasses.replace(SLOW, request=request)) as it:
        until_recorded(home, "trial.reported")
        path.write_text(path.read_text().replace("name: p", "name: q") if valid else "name: [")
        it.signal(signal.SIGHUP)
        until_recorded(home, "plan.compared" if valid else "plan.refused")
        assert it.ended() == (0, False)
    events = check_everything(home)
    if valid:
        assert fields(home, "plan.compared")[0]["changes"] == ["name: p -> q"]
    else:
        assert "not YAML" in fields(home, "plan.refused")[0]["error"]
    assert {event["event"] for event in events} & {"trial.requeued", "driver.exited", "trial.paused"} == set()
    copy = next(home.runs.glob("*/plan.yaml"))
    assert copy.read_text() == request.plan_text, "the run's own copy is what it was"


def hurried() -> None:
    crash_loop.DELAY_BASE_S = crash_loop.DELAY_CAP_S = 0.05


def test_a_daemon_that_dies_at_each_start_is_delayed_then_given_up_until_a_person_starts_it(home: Home) -> None:
    """Start it again and again without a plan's name, as a service manager does."""
    by_service = StartRequest(plan=None, by_service=True)
    first = dataclasses.replace(REQUEST, by_service=True)
    for number in range(crash_loop.MAX_STARTS):
        request = by_service if number else first
        assert life(home, "ready.tell:1:kill", request=request, change=hurried)[0] == KILLED
    assert life(home, request=by_service, change=hurried)[0] == 6
    assert life(home, request=by_service, change=hurried)[0] == 6, "nor later"
    assert [event["starts"] for event in fields(home, "daemon.delayed")] == [5, 6, 7, 8]
    assert len(fields(home, "daemon.crash_looped")) == 1, "once, however often a service manager asks"
    assert len(fields(home, "daemon.started")) == crash_loop.MAX_STARTS + 1
    assert fields(home, "driver.started") == []
    assert life(home, request=StartRequest(plan=None)) == (0, False)
    check_everything(home)
