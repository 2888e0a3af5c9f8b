"""Faults of starting and stopping, by the commands a user types: twice, while stopping, from a terminal that closes."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from typing import Any

import pytest

from supervisor import driver_process
from supervisor.client import ask
from supervisor.expand import expand, fingerprint
from supervisor.home import Home
from supervisor.plan_file import load_plan
from tests.acceptance.conftest import BIN, Sweep
from tests.acceptance.faults.evidence import names, stored, told
from tests.acceptance.lives import REQUEST, Setting, check_everything, living, until_told


def as_if_begun_with(plan: str, pause_s: float = 0.5, **more: Any) -> Setting:
    """A life that counts as a run of that plan's file."""
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
        until_told(home, "trial.reported")
        before = home.lock.read_text(), home.lock.stat().st_ino, home.socket.stat().st_ino
        same = sweep.d("start", plan)
        assert (same.returncode, same.stdout.splitlines()[0]) == (0, "already running:"), same.stderr
        assert f"pid {it.pid}," in same.stdout
        other = sweep.d("start", sweep.plan("another"))
        assert other.returncode == 1
        assert f"daemon {it.pid} works on p-" in other.stderr
        assert (home.lock.read_text(), home.lock.stat().st_ino, home.socket.stat().st_ino) == before
        assert it.ended() == (0, False)
    check_everything(home)
    assert names(told(home)).count("daemon.started") == 1
    assert stored(home, "SELECT count(*) AS runs FROM run") == [{"runs": 1}]


@pytest.mark.fault(
    "5",
    "`start` while the daemon is stopping, for longer than `--timeout`",
    "a clear refusal, exit code 1; the run is there to go on with",
)
def test_a_start_does_not_take_a_daemon_that_is_stopping_for_a_running_one(home: Home, sweep: Sweep) -> None:
    plan = sweep.plan("p")
    slow = as_if_begun_with(plan, 1.5, stubborn=True, change=lambda: setattr(driver_process, "FINISH_GRACE_S", 4.0))
    with living(home, slow) as it:
        until_told(home, "trial.reported")
        ask(home, "shutdown", {})
        refused = sweep.d("start", plan, "--timeout", "1")
        assert refused.returncode == 1
        assert f"a daemon (pid {it.pid}" in refused.stderr
        assert "is starting or ending" in refused.stderr
        assert it.ended()[0] == 0
    assert stored(home, "SELECT state, desired FROM run") == [{"state": "STOPPED", "desired": "run"}]
    with living(home, replace(slow, stubborn=False, pause_s=0.0)) as again:
        assert again.ended() == (0, False)
    check_everything(home)
    assert names(told(home)).count("daemon.started") == 2


@pytest.mark.fault(
    "2",
    "kill -9 of the daemon while `start` waits for it",
    "`start` says that it died before it was ready, with exit code 1; the run is whole, and no process is left",
)
def test_a_daemon_that_is_killed_before_it_is_ready_is_told_by_start(home: Home, sweep: Sweep) -> None:
    plan = sweep.plan("p")
    begun = subprocess.run(
        [BIN / "supervisord", "start", plan], env={**sweep.environment, "SWEEP_FAILPOINT": "run.plan:1:kill"},
        cwd=sweep.folder, capture_output=True, text=True, check=False, timeout=90,
    )  # fmt: skip
    assert begun.returncode == 1
    assert "the daemon died before it was ready" in begun.stderr
    assert stored(home, "SELECT state FROM run") == [{"state": "STOPPED"}]
    with living(home, as_if_begun_with(plan)) as it:
        # What the user's own plan asks for cannot be played by a story; that the run is taken up can be seen.
        until_told(home, "daemon.started")
        it.kill()
    assert stored(home, "SELECT count(*) AS runs FROM run") == [{"runs": 1}]
