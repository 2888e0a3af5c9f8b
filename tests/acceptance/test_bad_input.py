"""Test a user's mistakes: each gives a clear error and exit code, and leaves no trace."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

import pytest

from supervisor.cli import supervisord
from supervisor.home_lock import is_held
from supervisor.processes import orphans
from tests import waits
from tests.acceptance.conftest import BIN, Sweep
from tests.waits import NET_S


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["start", "phase7"], 6, ["phase7", "phase6a"]),
        (["start", "nowhere.yaml"], 6, ["nowhere.yaml"]),
        (["start", "smoke", "--set", "max_trails=3"], 6, ["max_trails", "max_trials"]),
        (["start", "smoke", "--set", "max_trials=many"], 6, ["max_trials", "many"]),
        (["start", "smoke", "--set", "max_trials=-1"], 6, ["max_trials"]),
        (["start", "smoke", "--only", "3M"], 6, ["3M", "20k"]),
        (["start", "smoke", "--experiments", "x*"], 6, ["x*", "20k-h1"]),
        (["start"], 2, ["no unfinished run"]),
        (["data", "import", "nowhere.csv", "--ticker", "SPY"], 1, ["nowhere.csv"]),
        (["start", "smoke", "--set", "data.ticker=GLD", "--set", "data.fallback=null"], 6, ["GLD", "data import"]),
        (["frobnicate"], 2, ["frobnicate"]),
    ],
)
def test_bad_start_says_what_where_and_the_cure(
    sweep: Sweep, arguments: list[str], code: int, words: list[str],
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.setenv("SWEEP_HOME", str(sweep.home.root))
    monkeypatch.chdir(sweep.folder)
    try:
        ended = supervisord.main(arguments)
    except SystemExit as usage:
        ended = usage.code
    said = capsys.readouterr().err
    assert ended == code, said
    for word in words:
        assert word in said
    assert not is_held(sweep.home)
    assert not any(sweep.home.runs.glob("*"))


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["status"], 4),
        (["pause"], 7),
        (["resume"], 7),
        (["stop"], 7),
        (["shutdown"], 7),
        (["drill", "heat"], 7),
        (["report"], 2),
        (["tail"], 2),
        (["wait"], 2),
        ([], 2),
    ],
)
def test_control_without_a_daemon_exits_as_lsb_has_it(sweep: Sweep, arguments: list[str], code: int) -> None:
    answer = sweep.ctl(*arguments)
    assert answer.returncode == code, answer.stderr
    assert "Traceback" not in answer.stderr


def test_a_home_that_cannot_be_written_is_refused(sweep: Sweep) -> None:
    """A file lies where the home should be."""
    sweep.home.root.parent.mkdir(exist_ok=True)
    sweep.home.root.write_text("not a folder")
    answer = sweep.d("start", "smoke")
    assert answer.returncode != 0
    assert str(sweep.home.root) in answer.stderr
    assert "Traceback" not in answer.stderr


def test_too_little_disk_is_refused_before_anything_starts(sweep: Sweep) -> None:
    """A floor above any disk stands for a full one: the check compares the same two figures."""
    plan = Path(sweep.plan("full"))
    plan.write_text(plan.read_text() + "hardware: {disk_pause_bytes: 9e14, disk_hold_bytes: 1e15}\n")
    answer = sweep.d("start", str(plan))
    assert answer.returncode == 1
    assert "disk" in answer.stderr
    assert "SWEEP_HOME" in answer.stderr
    assert not any(sweep.home.runs.glob("*"))


MOMENTS = {
    "python starts": lambda home: True,
    "the daemon starts": is_held,
    "ray starts": lambda home: home.ray_temp.exists(),
}


@pytest.mark.parametrize("moment", [*list(MOMENTS)[:2], pytest.param("ray starts", marks=pytest.mark.slow)])
def test_ctrl_c_at_any_moment_of_start_leaves_nothing_running(sweep: Sweep, moment: str) -> None:
    """SIGINT to `start`, from Python's own start to Ray's."""
    process = subprocess.Popen(
        [BIN / "supervisord", "start", sweep.plan("cut")], env=sweep.environment, cwd=sweep.folder,
        stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
        # A shell that runs the tests in the background lets them ignore SIGINT, and their children with them.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
    )  # fmt: skip
    waits.until(moment, lambda: MOMENTS[moment](sweep.home) or process.poll() is not None)
    process.send_signal(signal.SIGINT)
    _, stderr = process.communicate(timeout=NET_S)
    if process.returncode == 0:
        # A quick machine was ready before the signal came: then the run is up, and is ended as a user would.
        assert sweep.ctl("shutdown").returncode == 0
    else:
        assert process.returncode in (130, -signal.SIGINT)
    assert "Traceback" not in stderr or ("<frozen site>" in stderr and moment == "python starts")
    assert not is_held(sweep.home)
    assert orphans.find(sweep.home.key) == []


def test_a_daemon_that_dies_before_it_is_ready_shows_its_last_words(sweep: Sweep) -> None:
    """The state folder holds a store of a newer version: start fails with the reason, not with a time-out."""
    import sqlite3

    sweep.home.prepare()
    with sqlite3.connect(sweep.home.store) as connection:
        connection.execute("PRAGMA user_version = 99")
    answer = sweep.d("start", sweep.plan("newer"))
    assert answer.returncode == 1
    assert "schema 99" in answer.stderr
    assert os.path.exists(sweep.home.store)  # noqa: PTH110 - nothing was moved or emptied
