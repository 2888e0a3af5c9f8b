"""A user's own plan through failure, stop, kill and a new start."""

from __future__ import annotations

import contextlib
import os
import signal
import socket
from pathlib import Path

import pytest

from tests.acceptance.conftest import Sweep, driver_pid

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "quadratic.yaml"


def test_one_failed_experiment_is_recorded_and_the_next_goes_on(sweep: Sweep) -> None:
    """The user's function raises in one experiment; the other passes; the exit code says that one failed."""
    with contextlib.ExitStack() as stack:
        # The dashboard's usual port is taken, by us or by another program: another is found and printed.
        with contextlib.suppress(OSError):
            stack.enter_context(socket.create_server(("127.0.0.1", 8265)))
        started = sweep.d("start", sweep.plan("mixed", "[13, 0]"))
    assert started.returncode == 0, started.stderr
    assert "dashboard  http://127.0.0.1:8265 " not in started.stdout

    waited = sweep.ctl("wait", "--timeout", "90")
    assert waited.returncode == 1
    assert "passed 1, failed 1, skipped 0" in waited.stdout
    assert "thirteen is unlucky" in waited.stdout
    states = {e["name"]: e["state"] for e in sweep.status()["experiments"]}
    assert sorted(states.values()) == ["EXITED", "FATAL"]


def test_stop_kill_and_start_again_lose_nothing(sweep: Sweep) -> None:
    """Pause, resume, stop, start, kill -9 of the daemon, start: the same run, each trial once."""
    plan = sweep.plan("long", "[0]", max_trials=8, pause_s=0.4)
    assert sweep.d("start", plan).returncode == 0
    view = sweep.until("two results", lambda v: sum(len(t["results"]) for t in v["experiments"][0]["trials"]) >= 2)
    run = view["run"]["id"]

    assert sweep.ctl("pause", "--now", "--reason", "the fan is loud").returncode == 0
    paused = sweep.until("paused", lambda v: v["experiments"][0]["state"] == "PAUSED")
    assert paused["commands"][0]["reason"] == "the fan is loud"
    assert "the fan is loud" in sweep.ctl("status").stdout

    os.kill(view["daemon"]["pid"], signal.SIGKILL)
    assert sweep.ctl("pause").returncode == 7
    assert sweep.ctl("status").returncode == 4
    again = sweep.d("start")
    assert again.returncode == 0, again.stderr
    assert run in again.stdout
    # What the operator wanted outlives the daemon.
    held = sweep.until("still paused", lambda v: v["experiments"][0]["state"] == "PAUSED")
    assert held["commands"][0]["action"] == "PAUSE"
    assert sweep.ctl("resume").returncode == 0

    sweep.until("a new result", lambda v: sum(len(t["results"]) for t in v["experiments"][0]["trials"]) >= 6)
    assert sweep.ctl("stop").returncode == 0
    assert sweep.status()["run"]["state"] == "STOPPED"
    # A stopped run is not taken up by accident, only by its name.
    assert sweep.d("start").returncode == 2
    assert run in sweep.d("start", plan).stdout
    assert sweep.ctl("wait", "--timeout", "90").returncode == 0
    trials = sweep.status()["experiments"][0]["trials"]
    assert [trial["number"] for trial in trials] == list(range(8))
    assert all(trial["end_reason"] == "finished" for trial in trials)
    ended = [e["trial"] for e in sweep.events("long") if e["event"] == "trial.finished"]
    assert sorted(ended) == list(range(8))


@pytest.mark.slow
def test_max_hours_end_an_experiment_with_what_it_has(sweep: Sweep) -> None:
    """The example of the docs, with more trials than its hours allow: the best so far stands, the rest is over."""
    limit = ("--set", f"max_hours={8 / 3600}", "--set", "max_trials=5000", "--experiments", "m4")
    started = sweep.d("start", str(EXAMPLE), *limit)
    assert started.returncode == 0, started.stderr
    assert sweep.ctl("wait", "--timeout", "90").returncode == 0
    experiment = sweep.status()["experiments"][0]
    assert experiment["state"] == "EXITED"
    assert 0 < experiment["ended"] < 5000
    assert experiment["best"] is not None
    assert all(trial["end_reason"] in ("finished", "pruned", "operator") for trial in experiment["trials"])


@pytest.mark.slow
def test_a_driver_stopped_in_a_pause_is_replaced_and_the_pause_holds(sweep: Sweep) -> None:
    """SIGSTOP of the driver while paused: no batch runs, it counts as hung, another takes over, the wish survives."""
    plan = sweep.plan("stopped", "[0]", max_trials=3, pause_s=0.3)
    assert sweep.d("start", plan).returncode == 0
    sweep.until("a result", lambda v: any(t["results"] for t in v["experiments"][0]["trials"]))
    assert sweep.ctl("pause", "--now", "--reason", "quiet please").returncode == 0
    sweep.until("paused", lambda v: v["experiments"][0]["state"] == "PAUSED")
    os.kill(driver_pid(sweep.events("stopped")), signal.SIGSTOP)

    held = sweep.until("another driver", lambda v: v["experiments"][0]["driver_starts"] == 2, timeout_s=90.0)
    assert held["commands"][0]["reason"] == "quiet please"
    again = sweep.until("paused again", lambda v: v["experiments"][0]["state"] == "PAUSED")
    names = [event["event"] for event in sweep.events("stopped")]
    assert "driver.hung" in names
    after_pause = names[names.index("experiment.paused") + 1 :]
    # The epoch at work may still report while its trial comes to rest; nothing does after that.
    assert after_pause.count("trial.reported") <= 2
    assert again["commands"][0]["action"] == "PAUSE"

    assert sweep.ctl("resume").returncode == 0
    assert sweep.ctl("wait", "--timeout", "90").returncode == 0
    trials = sweep.status()["experiments"][0]["trials"]
    assert [trial["end_reason"] for trial in trials] == ["finished"] * 3
