"""`status --watch`: what a screen shows, what its keys do, and how it leaves the terminal."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
import termios
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.cli import supervisorctl
from supervisor.cli.show import live
from supervisor.cli.show.live import KEYS, Screen
from supervisor.cli.status_block import LEVELS, sparkline
from supervisor.errors import Refused, SlowAnswer
from supervisor.home import Home
from tests.unit.cli.show_stage import two_runs
from tests.unit.cli.status_view import experiment, trial, untouched, view
from tests.waits import NET_S


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    return Home(tmp_path)


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Let a run be at work; return the verbs that are asked of its daemon."""
    verbs: list[str] = []

    def ask(_: Home, verb: str, __: dict[str, Any]) -> dict[str, Any]:
        verbs.append(verb)
        return {"lifted": True}

    running = [trial(17, 3, last_value=0.25, recent=[0.75, 0.5, 0.25]), trial(18, 1, last_value=0.5, recent=[0.5])]
    monkeypatch.setattr(live, "view_of", lambda _: view(experiment(running=running), untouched("2M-h3")))
    monkeypatch.setattr(live, "ask", ask)
    return verbs


def test_the_last_values_of_running_trials_are_drawn(home: Home, asked: list[str]) -> None:
    text = Screen(home).text(80)
    assert "trial 17: █▅▁ 0.25 at epoch 3 of 20; trial 18: 0.5 at epoch 1 of 20" in text


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=16))
def test_a_sparkline_has_a_character_for_each_value_and_keeps_their_order(values: list[float]) -> None:
    levels = [LEVELS.index(character) for character in sparkline(values)]
    assert len(levels) == len(values)
    pairs = sorted(zip(values, levels, strict=True))
    assert [level for _, level in pairs] == sorted(levels)


@given(st.integers(1, 40), st.integers(20, 100))
def test_a_screen_never_has_more_lines_than_its_terminal(rows: int, columns: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(live, "view_of", lambda _: view(experiment(), untouched("2M-h3")))
        lines = Screen(Home(Path("h"))).lines(columns, rows)
    assert len(lines) <= max(2, rows)


def test_p_pauses_r_resumes_and_the_last_line_says_so(home: Home, asked: list[str]) -> None:
    screen = Screen(home)
    assert screen.lines(80, 24)[-1].endswith(KEYS)
    screen.press("p")
    assert "paused: no new trials" in screen.lines(80, 24)[-1]
    screen.press("r")
    assert screen.lines(80, 24)[-1].endswith("resumed")
    screen.press("x")
    screen.press(None)
    assert asked == ["pause", "resume"]


def test_a_refusal_and_a_late_answer_are_shown_and_the_last_view_stays(
    home: Home, asked: list[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any) -> Any:
        raise Refused("the run has ended")

    def late(_: Home) -> Any:
        raise SlowAnswer("the daemon did not answer")

    screen = Screen(home)
    with monkeypatch.context() as patch:
        patch.setattr(live, "ask", refuse)
        screen.press("p")
    assert screen.lines(120, 24)[-1].endswith("the run has ended")
    with monkeypatch.context() as patch:
        patch.setattr(live, "view_of", late)
        screen.read()
    assert screen.lines(120, 24)[-1].endswith("the daemon did not answer")
    assert "trial 17" in screen.text(80)
    screen.read()
    assert "did not answer" not in screen.lines(120, 24)[-1]


def test_without_a_terminal_a_watch_is_refused_with_the_way_to_follow(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    assert supervisorctl.main(["status", "--watch"]) == 2
    assert "expected a terminal, found a pipe" in capsys.readouterr().err


def test_q_ends_a_watch_with_the_last_status_and_the_terminal_as_it_was(home: Home) -> None:
    two_runs(home)
    controller, terminal = pty.openpty()
    before = termios.tcgetattr(terminal)
    process = subprocess.Popen(
        [sys.executable, "-m", "supervisor.cli.supervisorctl", "status", "--watch"],
        stdin=terminal, stdout=terminal, stderr=terminal,
        env={**os.environ, "SWEEP_HOME": str(home.root), "NO_COLOR": "1"}, cwd=Path(__file__).parents[3],
    )  # fmt: skip
    shown = b""
    try:
        while KEYS.encode() not in shown:
            shown += os.read(controller, 65536)
        os.write(controller, b"q")
        assert process.wait(NET_S) == 0
        assert termios.tcgetattr(terminal) == before
        # What it wrote last waits in the terminal; a line of our own marks its end.
        os.write(terminal, b"<end>")
        while b"<end>" not in shown:
            shown += os.read(controller, 65536)
    finally:
        process.kill()
        process.wait()
        os.close(controller)
        os.close(terminal)
    last = shown.rpartition(b"\x1b[?1049l")[2].decode()
    assert last.splitlines()[0].startswith("mini-2  ")
    assert b"\x1b[1;31m" not in shown, "NO_COLOR is obeyed"
