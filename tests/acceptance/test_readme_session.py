"""Every command of README is typed here, in README's order, in a fresh home, from a clean clone."""

from __future__ import annotations

import os
import re
import shlex
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.home import Home
from tests.acceptance.clone import ROOT, Clone, clone_checkout
from tests.acceptance.conftest import Sweep, driver_pid


@pytest.fixture(scope="module")
def clone(tmp_path_factory: pytest.TempPathFactory) -> Clone:
    made = clone_checkout(tmp_path_factory.mktemp("clone"))
    assert made.is_what_runs()
    return made


@pytest.fixture
def sweep(tmp_path: Path, clone: Clone) -> Iterator[Sweep]:
    """Provide a fresh home with the commands of a clone."""
    made = Sweep(Home((tmp_path / "home").resolve()), tmp_path, clone.bin)
    try:
        yield made
    finally:
        made.end()


def _blocks(checkout: Path = ROOT) -> list[list[str]]:
    """README's shell blocks, each a list of commands without their comments."""
    found = re.findall(r"^```sh\n(.*?)^```", (checkout / "README.md").read_text(), re.MULTILINE | re.DOTALL)
    return [[line.split(" #")[0].strip() for line in block.splitlines() if line.strip()] for block in found]


def _type(sweep: Sweep, command: str) -> str:
    program, *arguments = shlex.split(command)
    answer = (sweep.d if program == "supervisord" else sweep.ctl)(*arguments)
    assert program in ("supervisord", "supervisorctl"), command
    assert answer.returncode == 0, f"{command}: {answer.stdout}{answer.stderr}"
    return answer.stdout


def test_there_are_three_blocks_of_commands() -> None:
    """The tests below run the three there are; a fourth would go untested."""
    assert len(_blocks()) == 3


def test_the_make_commands_are_targets(clone: Clone) -> None:
    """They cannot run inside `make test`; CI runs them. Here: make knows them, and what they would do."""
    for command in _blocks(clone.root)[0]:
        shown = subprocess.run(
            [*shlex.split(command), "-n"], cwd=clone.root, capture_output=True, text=True, check=True
        )
        assert "supervisord" in shown.stdout


@pytest.mark.slow
def test_the_smoke_session_survives_a_killed_driver_with_exactly_its_trials(sweep: Sweep, clone: Clone) -> None:
    """README's session; in its middle the driver is killed. Every trial ends once, the report is there."""
    shown = {}
    for command in _blocks(clone.root)[1]:
        if command.startswith("supervisorctl pause"):
            sweep.until("a result", lambda v: any(t["results"] for e in v["experiments"] for t in e["trials"]))
            os.kill(driver_pid(sweep.events("smoke")), signal.SIGKILL)
            sweep.until("a new driver", lambda v: any(e["driver_starts"] == 2 for e in v["experiments"]))
            sweep.until("it runs", lambda v: any(e["state"] == "RUNNING" and e["running"] for e in v["experiments"]))
        if command.startswith("supervisorctl wait"):
            again = sweep.d("start", "smoke")
            assert (again.returncode, "already running" in again.stdout) == (0, True)
            other = sweep.d("start", sweep.plan("other"))
            assert (other.returncode, "SWEEP_HOME" in other.stderr) == (1, True)
        shown[command] = _type(sweep, command)

    started = shown["supervisord start smoke"]
    _assert_private(sweep, shown)
    for word in ("run ", "pid ", "socket ", "log ", "dashboard  http://127.0.0.1:"):
        assert word in started
    assert "passed 2, failed 0, skipped 0" in shown["supervisorctl wait"]
    _assert_each_trial_once(sweep)
    view = sweep.status()
    report = sweep.home.run_folder(view["run"]["id"]) / "report.html"
    assert str(report) in shown["supervisorctl report"]
    assert "20k-h1" in report.read_text()


def _assert_private(sweep: Sweep, shown: dict[str, str]) -> None:
    """Assert that modes, token, Ray's folder and the dashboard are closed to other users."""
    for path, mode in ((sweep.home.state, 0o700), (sweep.home.runs, 0o700), (sweep.home.ray_token, 0o600)):
        assert path.stat().st_mode & 0o777 == mode, path
    assert sweep.home.audit_log("smoke").stat().st_mode & 0o777 == 0o600
    assert sweep.home.runtime().stat().st_mode & 0o777 == 0o700
    assert len(str(sweep.home.ray_temp)) <= 45


def _assert_each_trial_once(sweep: Sweep) -> None:
    view, events = sweep.status(), sweep.events("smoke")
    assert view["run"]["state"] == "EXITED"
    for experiment in view["experiments"]:
        assert [trial["number"] for trial in experiment["trials"]] == list(range(6))
        assert all(trial["state"] in ("TERMINATED", "ERROR") for trial in experiment["trials"])
        for trial in experiment["trials"]:
            steps = [step for step, *_ in trial["results"]]
            assert steps == list(range(1, len(steps) + 1))
    ended = [(e["experiment"], e["trial"]) for e in events if e["event"] in ("trial.finished", "trial.failed")]
    assert len(ended) == len(set(ended)) == 12
    assert [e["seq"] for e in events] == sorted({e["seq"] for e in events})
    assert any(e["event"] == "driver.exited" and "SIGKILL" in e["reason"] for e in events)
    assert any(e["event"] == "run.paused" for e in events)


@pytest.mark.slow
def test_the_phase6a_session_on_a_users_own_data(sweep: Sweep, clone: Clone) -> None:
    """Import, dry run, start, pause, resume, shutdown, start again, stop."""
    _write_spy(sweep.folder / "SPY.csv")
    shown = {command: _type(sweep, command) for command in _blocks(clone.root)[2]}
    assert "SPY" in shown["supervisord data list"]
    dry = shown["supervisord start phase6a --dry-run"]
    for budget in ("2M", "20M", "200M", "2B"):
        assert f"{budget}-h5" in dry
    assert "data: SPY" in shown["supervisord start phase6a --only 2M"]
    view = sweep.status()
    assert view["run"]["state"] == "STOPPED"
    assert [e["name"] for e in view["experiments"]] == ["2M-h1", "2M-h3", "2M-h5"]


@pytest.mark.slow
def test_phase6a_starts_on_a_fresh_machine_and_skips_what_cannot_fit(sweep: Sweep) -> None:
    """No imported data: the sample stands in, loudly. A 2B trial on a small machine is skipped with the figures."""
    started = sweep.d("start", "phase6a")
    assert started.returncode == 0, started.stderr
    assert "THE EMBEDDED SAMPLE, NOT SPY" in started.stdout
    view = sweep.until("it runs", lambda v: v["experiments"][0]["state"] == "RUNNING")
    assert len(view["experiments"]) == 12
    assert sweep.ctl("stop").returncode == 0


def _write_spy(path: Path) -> None:
    """A user's own file: the S&P 500's bars under another name."""
    from arch.data import sp500

    bars = sp500.load()
    bars.reset_index().to_csv(path, index=False)
