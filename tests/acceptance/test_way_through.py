"""Take a user's own plan through failure, pause, kill and a new start, on a real Ray."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import psutil
import pytest

from supervisor.processes import orphans
from tests.acceptance.conftest import Sweep, driver_pid
from tests.acceptance.faults.evidence import audited, names, open_to_others

EXAMPLE = Path(__file__).resolve().parents[2] / "docs" / "examples" / "quadratic.yaml"
LOOPBACK = ("127.0.0.1", "::1", "::ffff:127.0.0.1")
SECRET = "s3cr3t-of-the-operator"


def results(view: dict) -> int:
    return sum(len(trial["results"]) for experiment in view["experiments"] for trial in experiment["trials"])


@pytest.mark.slow
def test_a_tour_through_failure_pause_kill_and_a_new_start_loses_nothing(
    sweep: Sweep, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One experiment fails and the next goes on; the pause outlives the daemon; each trial ends once."""
    monkeypatch.setenv("OPERATORS_API_KEY", SECRET)
    started = sweep.d("start", sweep.plan("mixed", "[13, 0]", max_trials=6, pause_s=0.3))
    assert started.returncode == 0, started.stderr
    assert "running as root" in started.stderr or os.geteuid() != 0
    view = sweep.until("the second experiment has results", lambda view: results(view) >= 2)
    run, daemon = view["run"]["id"], view["daemon"]["pid"]
    assert_only_loopback_listens(sweep, daemon)
    assert_no_secret_is_passed_on(sweep)

    assert sweep.ctl("pause", "--now", "--reason", "the fan is loud").returncode == 0
    paused = sweep.until("paused", lambda view: view["experiments"][1]["state"] == "PAUSED")
    assert paused["commands"][0]["reason"] == "the fan is loud"
    assert "the fan is loud" in sweep.ctl("status").stdout
    os.kill(daemon, signal.SIGKILL)
    assert sweep.ctl("pause").returncode == 7
    assert sweep.ctl("status").returncode == 4

    again = sweep.d("start")
    assert again.returncode == 0, again.stderr
    assert run in again.stdout
    held = sweep.until("still paused", lambda view: view["experiments"][1]["state"] == "PAUSED")
    assert held["commands"][0]["action"] == "PAUSE"
    assert sweep.ctl("resume").returncode == 0
    waited = sweep.ctl("wait")
    assert (waited.returncode, "passed 1, failed 1, skipped 0" in waited.stdout) == (1, True)
    assert "thirteen is unlucky" in waited.stdout
    assert_each_trial_ended_once(sweep)
    assert list(open_to_others(sweep.home.root)) == []


def assert_only_loopback_listens(sweep: Sweep, daemon: int) -> None:
    """Assert that each process with the run's mark listens on loopback only."""
    family = [psutil.Process(daemon), *orphans.find(sweep.home.key)]
    assert {"gcs_server", "raylet"} <= {process.name() for process in family}
    listening = {
        (process.name(), connection.laddr.ip)
        for process in family
        for connection in process.net_connections(kind="inet")
        if connection.status == psutil.CONN_LISTEN
    }
    assert listening, "there is something to look at"
    assert {found for found in listening if found[1] not in LOOPBACK} == set()
    assert not [c for c in family[0].net_connections(kind="inet") if c.status == psutil.CONN_LISTEN], "the daemon: none"


def assert_no_secret_is_passed_on(sweep: Sweep) -> None:
    """Assert that each child needs the token, and that no child or file has the secret."""
    for process in orphans.find(sweep.home.key):
        environment = process.environ()
        assert SECRET not in environment.values()
        assert environment["RAY_AUTH_MODE"] == "token"
    assert sweep.home.ray_token.stat().st_mode & 0o077 == 0
    written = [path for folder in (sweep.home.logs, sweep.home.runs) for path in folder.rglob("*") if path.is_file()]
    assert not [path for path in written if SECRET.encode() in path.read_bytes()]


def assert_each_trial_ended_once(sweep: Sweep) -> None:
    failed, passed = sweep.status()["experiments"]
    assert (failed["state"], passed["state"]) == ("FATAL", "EXITED")
    assert [(trial["number"], trial["end_reason"]) for trial in passed["trials"]] == [(n, "finished") for n in range(6)]
    events = audited(sweep.home, "mixed")
    ended = [event["trial"] for event in events if event["event"] == "trial.finished"]
    assert sorted(ended) == list(range(6))
    assert names(events).count("daemon.recovered") == 1


@pytest.mark.slow
def test_max_hours_end_an_experiment_with_what_it_has(sweep: Sweep) -> None:
    """The example of the docs, with more trials than its hours allow: the best so far stands, the rest is over."""
    limit = ("--set", f"max_hours={60 / 3600}", "--set", "max_trials=50000", "--experiments", "m4")
    started = sweep.d("start", str(EXAMPLE), *limit)
    assert started.returncode == 0, started.stderr
    assert sweep.ctl("wait").returncode == 0
    experiment = sweep.status()["experiments"][0]
    assert experiment["state"] == "EXITED"
    assert 0 < experiment["ended"] < 50000
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

    held = sweep.until("another driver", lambda v: v["experiments"][0]["driver_starts"] == 2)
    assert held["commands"][0]["reason"] == "quiet please"
    again = sweep.until("paused again", lambda v: v["experiments"][0]["state"] == "PAUSED")
    names = [event["event"] for event in sweep.events("stopped")]
    assert "driver.hung" in names
    after_pause = names[names.index("experiment.paused") + 1 :]
    # The epoch at work may still report while its trial comes to rest; nothing does after that.
    assert after_pause.count("trial.reported") <= 2
    assert again["commands"][0]["action"] == "PAUSE"

    assert sweep.ctl("resume").returncode == 0
    assert sweep.ctl("wait").returncode == 0
    trials = sweep.status()["experiments"][0]["trials"]
    assert [trial["end_reason"] for trial in trials] == ["finished"] * 3
