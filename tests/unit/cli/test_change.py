"""Verbs that change the work of a run: what they print of a daemon's answers."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import change, supervisorctl
from supervisor.errors import UsageError
from supervisor.home import Home
from tests.unit.cli.fake_daemon import FakeDaemon


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    return Home(tmp_path)


def test_end_prints_when_each_trial_ends(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    states = ("RUNNING", "PAUSED", "PENDING")
    trials = [{"experiment": "2M-h1", "trial": number, "state": state} for number, state in enumerate(states)]
    daemon = FakeDaemon(monkeypatch, change, end={"trials": trials})
    assert supervisorctl.main(["end", "2M-h1/0", "1", "2"]) == 0
    assert daemon.asked == [("end", {"targets": ["2M-h1/0", "1", "2"]})]
    assert capsys.readouterr().out.splitlines() == [
        "trial 0 of 2M-h1 ends at its next report, with its best value",
        "trial 1 of 2M-h1 ends at its next report, once nothing pauses it, with its best value",
        "trial 2 of 2M-h1 ends at its next report, once it is at work again, with its best value",
    ]


def test_set_prints_the_effect_and_what_does_not_change(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer: dict[str, Any] = {"effects": {"2M-h1": "4 at once instead of 2"}, "refused": ["2B-h1: no"], "policy": True}
    daemon = FakeDaemon(monkeypatch, change, set={**answer, "schedule": None})
    assert supervisorctl.main(["set", "2*", "concurrency=4", "hardware.release_after_s=9"]) == 0
    assert daemon.asked == [("set", {"targets": ["2*"], "sets": ["concurrency=4", "hardware.release_after_s=9"]})]
    assert capsys.readouterr().out.splitlines() == [
        "2M-h1: 4 at once instead of 2", "not changed: 2B-h1: no", "hardware: every node is governed so from now on"
    ]  # fmt: skip
    assert supervisorctl.main(["set", "concurrency"]) == UsageError.exit_code


def test_set_prints_what_a_schedule_says_now_and_that_there_is_none_any_more(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answer: dict[str, Any] = {"effects": {}, "refused": [], "policy": False}
    for schedule, words in (({"on_battery": "hold"}, "hold while on battery"), ({}, "the schedule is taken away")):
        FakeDaemon(monkeypatch, change, set={**answer, "schedule": schedule})
        assert supervisorctl.main(["set", "hardware.schedule=..."]) == 0
        assert words in capsys.readouterr().out


def test_reread_prints_the_coming_week_of_a_schedule_that_it_takes_over_and_of_no_other(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    nights = {"hours": ["mon-sun 09:00-18:00: pause"], "zone": "UTC"}
    answer: dict[str, Any] = {"changes": ["hardware.schedule: x -> y"], "refused": [], "effects": {}}
    for schedule, words in ((nights, "when to work: now"), ({}, "the schedule is taken away")):
        FakeDaemon(monkeypatch, change, reread={**answer, "applied": True, "schedule": schedule})
        assert supervisorctl.main(["reread", "--apply"]) == 0
        assert words in capsys.readouterr().out
    for command, rest in (
        ([], {"applied": False, "schedule": nights}),
        (["--apply"], {"applied": True, "schedule": None}),
        (["--apply"], {"applied": True}),
    ):
        FakeDaemon(monkeypatch, change, reread={**answer, **rest})
        assert supervisorctl.main(["reread", *command]) == 0
        assert "when to work" not in capsys.readouterr().out


def test_enqueue_and_extend_print_what_follows(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    answers = {"enqueue": {"points": {"a": {"x": 0.5, "y": 2}}}, "extend": {"max_trials": {"a": 70}}}
    daemon = FakeDaemon(monkeypatch, change, **answers)
    assert supervisorctl.main(["enqueue", "a", "{x: 0.5, y: 2}"]) == 0
    assert supervisorctl.main(["extend", "a", "--trials", "20", "--hours", "1.5"]) == 0
    assert daemon.asked == [
        ("enqueue", {"targets": ["a"], "point": "{x: 0.5, y: 2}"}),
        ("extend", {"targets": ["a"], "trials": 20, "hours": 1.5}),
    ]
    assert capsys.readouterr().out.splitlines() == [
        "a: x 0.5, y 2 is tried next", "a: 20 more trials and 1.5 h, 70 in all"
    ]  # fmt: skip


def test_a_finalisation_that_is_set_aside_is_said(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    aside = {"set_aside": ["a"]}
    FakeDaemon(monkeypatch, change, extend={"max_trials": {"a": 70}, **aside}, discard={"trials": ["a/3"], **aside})
    for words in (["extend", "a", "--trials", "20"], ["discard", "a/3"], ["restore", "a/3"]):
        assert supervisorctl.main(words) == 0
    assert capsys.readouterr().out.splitlines() == [
        "a: 20 more trials, 70 in all", "a: its finalisation is set aside, it chooses anew",
        "a/3 is discarded: not in search, best and report; `supervisorctl restore a/3`",
        "a: its finalisation is set aside, it chooses anew",
        "a/3 counts again", "a: its finalisation is set aside, it chooses anew",
    ]  # fmt: skip


def test_an_extended_trial_is_printed_with_its_begin_and_its_end(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    trials = [
        {"experiment": "a", "trial": 17, "from_step": 8, "last_step": 20},
        {"experiment": "a", "trial": 3, "from_step": None, "last_step": 14},
    ]
    daemon = FakeDaemon(monkeypatch, change, extend={"trials": trials, "set_aside": ["a"]})
    assert supervisorctl.main(["extend", "a/17", "3", "--epochs", "10", "--anew"]) == 0
    assert daemon.asked == [("extend", {"targets": ["a/17", "3"], "epochs": 10, "anew": True})]
    assert capsys.readouterr().out.splitlines() == [
        "a/17: trains on from its checkpoint of epoch 8 to epoch 20", "a/3: trains anew from epoch 0 to epoch 14",
        "a: its finalisation is set aside, it chooses anew",
    ]  # fmt: skip


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["a/17", "--epochs", "10", "--trials", "5"], "found both"),
        (["a/17", "--epochs", "10", "--hours", "5"], "found both"),
        (["a", "--trials", "5", "--anew"], "--anew needs --epochs"),
    ],
)
def test_epochs_of_trials_and_trials_of_experiments_are_not_asked_for_at_once(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str], said: str
) -> None:
    daemon = FakeDaemon(monkeypatch, change)
    assert supervisorctl.main(["extend", *words]) == 2
    assert daemon.asked == []
    assert said in capsys.readouterr().err


def test_skip_prints_what_is_left_out_and_how_to_take_it_in_again(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    FakeDaemon(monkeypatch, change, skip={"experiments": [f"e{number}" for number in range(change.MAX_LINES + 3)]})
    assert supervisorctl.main(["skip", "e*"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0] == "e0 is left out; `supervisorctl retry e0` takes it in again"
    assert lines[-1] == "and 3 more"
