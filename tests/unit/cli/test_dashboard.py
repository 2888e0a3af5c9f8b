"""The verb dashboard: Ray's address and how to log in, and Optuna's dashboard over a copy of the studies."""

from __future__ import annotations

import importlib.util
import json
import signal
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import dashboard, supervisorctl
from supervisor.errors import NotFound, NotRunning
from supervisor.home import Home
from supervisor.processes.ray_head import free_port
from tests.unit.cli.finished_run import finished_run
from tests.waits import NET_S

STUDY = """
import sys, optuna
from pathlib import Path
from actors.driver.study import build_study, open_storage
folder = Path(sys.argv[1])
folder.mkdir(parents=True)
study = build_study(open_storage(folder), folder.name, "min", {}, [], [])
study.optimize(lambda trial: trial.suggest_float("lr", 0.1, 1.0), n_trials=3)
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    return Home(tmp_path)


def make_study(folder: Path) -> None:
    """Write a study as a driver does; in another process, for these tests stay without Optuna."""
    subprocess.run([sys.executable, "-c", STUDY, str(folder)], check=True, timeout=NET_S, capture_output=True)


def test_the_address_and_the_way_to_log_in_are_said() -> None:
    said = "\n".join(dashboard.text({"dashboard": "http://127.0.0.1:8265", "dashboard_port_taken": None}))
    assert "http://127.0.0.1:8265" in said
    assert "supervisorctl dashboard --token" in said
    assert "taken" not in said


def test_a_port_that_is_taken_is_said() -> None:
    said = dashboard.text({"dashboard": "http://127.0.0.1:8266", "dashboard_port_taken": 8265})[0]
    assert said == "Ray     http://127.0.0.1:8266 (its usual port 8265 is taken by another program)"


def test_while_ray_is_down_no_address_is_said() -> None:
    assert "not up now" in dashboard.text({"dashboard": None})[0]


def test_the_token_alone_is_printed_for_a_pipe(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    home.state.mkdir()
    home.ray_token.write_text("abc123\n")
    assert supervisorctl.main(["dashboard", "--token"]) == 0
    assert capsys.readouterr().out == "abc123\n"


def test_the_answer_of_the_daemon_is_printed(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(dashboard, "ask", lambda *_: {"daemon": {"dashboard": "http://127.0.0.1:1"}})
    assert supervisorctl.main(["dashboard"]) == 0
    assert "http://127.0.0.1:1" in capsys.readouterr().out


def test_without_a_daemon_the_way_to_one_and_the_verb_that_needs_none_are_named(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supervisorctl.main(["dashboard"]) == NotRunning.exit_code
    said = capsys.readouterr().err
    assert "`supervisord start`" in said
    assert "`supervisorctl dashboard --optuna`" in said


def test_without_optunas_dashboard_the_command_that_installs_it_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(NotFound) as missing:
        dashboard.optuna_program(tmp_path)
    assert missing.value.remedy == f"`{sys.executable} -m pip install 'optuna-dashboard>=0.18'`"


def test_studies_are_copied_and_a_damaged_one_is_left_out(tmp_path: Path) -> None:
    for name in ("a", "b", "c"):
        make_study(tmp_path / name)
    journals = sorted(tmp_path.glob("*/study.journal"))
    with journals[0].open("ab") as file:
        file.write(b'{"op_code": 4, "wor')  # a driver is writing the next line
    journals[1].write_bytes(b"\xff not JSON\n")
    before = journals[2].read_bytes()
    made = dashboard.copied(tmp_path / "copy.journal", journals)
    assert (made["studies"], made["trials"]) == (2, 6)
    assert list(made["problems"]) == [str(journals[1])]
    assert journals[2].read_bytes() == before, "the study itself is untouched"


@pytest.mark.skipif(importlib.util.find_spec("optuna_dashboard") is None, reason="the extra [dashboard] is missing")
def test_optunas_own_dashboard_shows_the_copied_studies(tmp_path: Path) -> None:
    make_study(tmp_path / "2M-h1")
    copy = tmp_path / "copy.journal"
    dashboard.copied(copy, [tmp_path / "2M-h1" / "study.journal"])
    port = free_port()
    command = dashboard.optuna_command(dashboard.optuna_program(), copy, port)
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        studies = studies_at(port, process)
    finally:
        process.send_signal(signal.SIGTERM)
        process.wait(NET_S)
    assert [study["study_name"] for study in studies] == ["2M-h1"]


def studies_at(port: int, process: subprocess.Popen[bytes]) -> list[dict[str, Any]]:
    """Return the studies as the page asks for them, once the program answers."""
    import time

    end = time.monotonic() + NET_S
    while process.poll() is None and time.monotonic() < end:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/api/studies", timeout=NET_S) as answer:
                found: list[dict[str, Any]] = json.load(answer)["study_summaries"]
                return found
        except OSError:
            time.sleep(0.2)
    raise AssertionError("optuna-dashboard did not answer")


def test_the_verb_copies_the_newest_runs_studies_and_runs_the_program_on_them(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(home).close()
    make_study(home.run_folder("smoke-1") / "2M-h1")
    monkeypatch.setattr(dashboard, "optuna_program", lambda: "optuna-dashboard")
    run: list[list[str]] = []

    def fake(command: list[str]) -> int:
        assert Path(command[-1]).stat().st_size > 0
        run.append(command)
        return 0

    monkeypatch.setattr(dashboard, "run_until_interrupted", fake)
    assert supervisorctl.main(["dashboard", "--optuna"]) == 0
    assert "1 studies, 3 trials at http://127.0.0.1:" in capsys.readouterr().out
    assert not Path(run[0][-1]).exists(), "the copy is gone afterwards"
    assert supervisorctl.main(["dashboard", "--optuna", "smoke-1"]) == 0
    assert supervisorctl.main(["dashboard", "--optuna", "other"]) == 2


def test_without_a_study_the_way_on_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    finished_run(home).close()
    monkeypatch.setattr(dashboard, "optuna_program", lambda: "optuna-dashboard")
    assert supervisorctl.main(["dashboard", "--optuna"]) == 2
    assert "no study yet" in capsys.readouterr().err


@pytest.fixture
def ctrl_c() -> Iterator[None]:
    """Hear SIGINT as the command does, also where a shell runs the tests in the background and ignores it."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.usefixtures("ctrl_c")
def test_a_dashboard_that_does_not_end_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without that the command would wait for ever."""
    monkeypatch.setattr(dashboard, "END_WITHIN_S", 0.1)
    deaf = "signal.signal(signal.SIGTERM, signal.SIG_IGN)"
    code = f"import os, signal; {deaf}; os.kill(os.getppid(), signal.SIGINT); signal.pause(); signal.pause()"
    assert dashboard.run_until_interrupted([sys.executable, "-c", code]) == 0


@pytest.mark.usefixtures("ctrl_c")
def test_ctrl_c_is_the_usual_end_of_optunas_dashboard() -> None:
    code = "import os, signal; os.kill(os.getppid(), signal.SIGINT); signal.pause()"
    assert dashboard.run_until_interrupted([sys.executable, "-c", code]) == 0
    assert dashboard.run_until_interrupted([sys.executable, "-c", "raise SystemExit(3)"]) == 3
