"""Verbs that steer a run: what they print of a daemon's answers, and the durations that they read."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.cli import steer, supervisorctl
from supervisor.cli.steer import parse_duration
from supervisor.errors import UsageError
from supervisor.home import Home
from tests.unit.cli.fake_daemon import FakeDaemon


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    return Home(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "body", "words"),
    [
        (["pause"], {}, "paused: no new trials; running ones finish"),
        (["pause", "--now", "--reason", "x"], {"now": True, "reason": "x"}, "paused: trials stop at their next batch"),
        (["pause", "2M-h1"], {"target": "2M-h1"}, "paused: no new trials"),
        (["pause", "17"], {"target": "17"}, "paused trial 17 of 2M-h1: it stops at its next report"),
        (
            ["pause", "17", "--now"],
            {"target": "17", "now": True},
            "paused trial 17 of 2M-h1: it stops at its next batch",
        ),
        (["pause", "--node", "3f"], {"node": "3f"}, "paused on node 3fabcdabcdab: no new trials"),
    ],
)
def test_pause_prints_its_kind(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    arguments: list[str], body: dict[str, Any], words: str,
) -> None:  # fmt: skip
    scope = "2M-h1/17" if body.get("target") == "17" else "3f" + 10 * "abcd" if body.get("node") else "all"
    daemon = FakeDaemon(monkeypatch, steer, pause={"command": {"scope": scope}})
    assert supervisorctl.main(arguments) == 0
    assert daemon.asked == [("pause", {"target": None, "now": False, "reason": "", "node": None} | body)]
    assert words in capsys.readouterr().out


@pytest.mark.parametrize(
    ("lifted", "action", "lines"),
    [
        (True, "RUN", ["resumed"]),
        (False, "RUN", ["nothing to resume: no operator's pause was in force there"]),
        (True, "PAUSE", ["resumed", "still PAUSE by the governor: 92 C"]),
    ],
)
def test_resume_prints_what_is_still_in_force(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str],
    lifted: bool, action: str, lines: list[str],
) -> None:  # fmt: skip
    force = {"action": action, "origin": "governor", "reason": "92 C"}
    FakeDaemon(monkeypatch, steer, resume={"lifted": lifted, "in_force": force})
    assert supervisorctl.main(["resume"]) == 0
    assert capsys.readouterr().out.splitlines() == lines


def test_resume_names_each_trial_that_is_still_paused_by_itself(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    force = {"action": "RUN", "origin": "governor", "reason": ""}
    commands = [{"scope": "2M-h1/17"}, {"scope": "3f" * 28}]
    FakeDaemon(monkeypatch, steer, resume={"lifted": True, "in_force": force, "commands": commands})
    assert supervisorctl.main(["resume"]) == 0
    assert capsys.readouterr().out.splitlines() == [
        "resumed", "still paused: trial 17 of 2M-h1; `supervisorctl resume 2M-h1/17` lifts that"
    ]  # fmt: skip


def test_resume_with_force_prints_its_effect_in_capitals(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    force = {"action": "PAUSE", "origin": "governor", "reason": "92 C"}
    daemon = FakeDaemon(monkeypatch, steer, resume={"lifted": True, "in_force": force})
    assert supervisorctl.main(["resume", "--force"]) == 0
    assert daemon.asked == [("resume", {"target": None, "node": None, "force": True})]
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("FORCED: the governor is overruled for 10 minutes; only a critical reading pauses")
    assert lines[-1] == "resumed"


def test_resume_for_a_time_overrules_the_schedule_and_says_so(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    free = {"action": "RUN", "origin": "schedule", "reason": "by schedule, overruled by pat until Mon 14:00 CET"}
    daemon = FakeDaemon(monkeypatch, steer, resume={"lifted": False, "in_force": free})
    assert supervisorctl.main(["resume", "--for", "2h"]) == 0
    assert daemon.asked == [("resume", {"target": None, "node": None, "force": False, "for_s": 7200.0})]
    assert capsys.readouterr().out.startswith("the schedule is overruled for 2 h 00 min; the governor is not")
    for wrong in ("3w", "59s", "15d"):
        assert supervisorctl.main(["resume", "--for", wrong]) == UsageError.exit_code
    assert len(daemon.asked) == 1


def test_resume_names_the_way_to_overrule_a_schedule_that_still_pauses(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    force = {"action": "PAUSE", "origin": "schedule", "reason": "by schedule until Mon 18:00 CET"}
    FakeDaemon(monkeypatch, steer, resume={"lifted": True, "in_force": force})
    assert supervisorctl.main(["resume"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[1] == "still PAUSE by schedule until Mon 18:00 CET"
    assert "`supervisorctl resume --for 2h`" in lines[2]


def test_stop_waits_until_the_daemon_has_freed_the_home(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    held = [True, True, False]
    monkeypatch.setattr(steer, "is_held", lambda _: held.pop(0))
    FakeDaemon(monkeypatch, steer, stop={"run": "smoke-1", "way_on": "`supervisord start smoke` resumes it"})
    assert supervisorctl.main(["stop"]) == 0
    assert held == []
    assert "smoke-1: stopping; `supervisord start smoke` resumes it" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "seconds"), [("45s", 45.0), ("2m", 120.0), ("1h", 3600.0), ("45", 45.0), ("1.5m", 90.0), ("1", 1.0)]
)
def test_a_duration_is_read(text: str, seconds: float) -> None:
    assert parse_duration(text) == seconds


@pytest.mark.parametrize("text", ["", "s", "m", "-5s", "0", "0.5", "2h", "3601", "nan", "inf", "five", "5 s x", "1d"])
def test_a_text_that_is_no_duration_is_refused(text: str) -> None:
    with pytest.raises(UsageError):
        parse_duration(text)


@settings(max_examples=100, deadline=None)
@given(text=st.text(alphabet="0123456789.smhe+- ", max_size=8))
def test_a_duration_is_between_a_second_and_an_hour_or_refused(text: str) -> None:
    try:
        seconds = parse_duration(text)
    except UsageError:
        return
    assert 1.0 <= seconds <= 3600.0
