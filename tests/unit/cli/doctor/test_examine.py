"""The verb doctor: it shows every check, ends with a verdict, and its exit code says whether something is wrong."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor.cli import supervisorctl
from supervisor.cli.doctor import examine
from supervisor.cli.guide import progress
from supervisor.home import Home
from supervisor.preflight.machine import Check, Level, ok
from tests.unit.cli.doctor.broken_home import sound_home

WRONG = Check("store", Level.ERROR, "it is damaged", "`supervisorctl repair`")
LOOK = Check("user", Level.WARNING, "running as root", "use another")


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path / "home"))
    return Home(tmp_path / "home")


@pytest.mark.parametrize(
    ("checks", "code", "words"),
    [
        ([ok("clock", "plausible")], 0, "nothing is wrong"),
        ([LOOK], 0, "nothing is wrong; worth a look: user"),
        ([LOOK, WRONG, WRONG], 1, "WRONG: store; worth a look: user"),
    ],
)
def test_the_verdict_and_the_exit_code_follow_the_worst_check(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], checks: list[Check], code: int,
    words: str,
) -> None:  # fmt: skip
    monkeypatch.setattr(examine, "steps", lambda _: [("all", lambda: checks)])
    assert supervisorctl.main(["doctor"]) == code
    said = capsys.readouterr().out
    assert said.splitlines()[-1] == words
    assert all(f"cure: {check.remedy}" in said for check in checks if check.remedy)
    assert supervisorctl.main(["doctor", "--json"]) == code
    answer = json.loads(capsys.readouterr().out)
    assert (answer["verdict"], [one["name"] for one in answer["checks"]]) == (words, [one.name for one in checks])


def test_a_check_that_fails_itself_is_a_finding_and_the_others_follow() -> None:
    def broken() -> Check:
        raise RuntimeError("a driver of 1998")

    found = list(examine.examined([("sensors", broken), ("clock", lambda: ok("clock", "plausible"))]))
    assert [(check.name, check.level) for check in found] == [("sensors", Level.ERROR), ("clock", Level.OK)]
    assert "a driver of 1998" in found[0].detail


def test_elsewhere_than_on_a_terminal_a_slow_check_says_what_it_looks_at(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Without the words the step would wait for ever."""
    monkeypatch.setattr(progress, "SILENT_S", 0.0)
    said: list[str] = []

    def slow() -> Check:
        while not said or not said[-1]:
            said.append(capsys.readouterr().err)
        return ok("store", "sound")

    assert [check.name for check in examine.examined([("store", slow)])] == ["store"]
    assert said[-1] == "looking at store ...\n"


def test_a_home_with_every_fault_is_examined_to_the_end(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """No sensor and no wake lock here: they are the machine's, not the home's."""
    sound_home(home.root)
    home.store.write_bytes(b"no database")
    home.logs.rmdir()
    home.logs.write_text("")
    home.ray_token.write_text("abc")
    home.ray_token.chmod(0o644)
    home.lock.unlink(missing_ok=True)
    home.lock.mkdir()
    planned = [step for step in examine.steps(home) if step[0] not in ("sensors", "wake lock")]
    monkeypatch.setattr(examine, "steps", lambda _: planned)
    assert supervisorctl.main(["doctor", "--json"]) == 1
    found = json.loads(capsys.readouterr().out)["checks"]
    wrong = {one["name"] for one in found if one["level"] == "error"}
    assert {"store", "logs"} <= wrong
    assert all(one["remedy"] for one in found if one["level"] != "ok")
    assert not any("this check failed" in one["detail"] for one in found)


def test_an_empty_home_is_examined_and_not_made(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    planned = [step for step in examine.steps(home) if step[0] not in ("sensors", "wake lock")]
    monkeypatch.setattr(examine, "steps", lambda _: planned)
    supervisorctl.main(["doctor"])
    assert "this check failed" not in capsys.readouterr().out
    assert not home.root.exists()
