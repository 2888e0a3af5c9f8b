"""Test the verb `queue`, and where a start puts a plan."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from supervisor.cli import plan_queue, supervisorctl
from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.errors import UsageError
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import create_run


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    home = Home(tmp_path.resolve())
    home.state.mkdir()
    return home


def request(plan: str) -> StartRequest:
    return StartRequest(plan, specs=[{"name": "x"}])


def fill(home: Home, *plans: str) -> None:
    for plan in plans:
        PlanQueue(home).add(request(plan), "ann", 1.0)


def said(capsys: pytest.CaptureFixture[str], *words: str) -> list[str]:
    assert supervisorctl.main(["queue", *words]) == 0
    return [line.split()[1] for line in capsys.readouterr().out.splitlines()]


def test_queue_lists_moves_and_removes_without_a_daemon(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    fill(home, "a", "b", "c")
    assert said(capsys) == ["a", "b", "c"]
    assert said(capsys, "move", "c", "1") == ["c", "a", "b"]
    assert said(capsys, "remove", "a", "3") == ["c"]


def test_the_list_says_who_and_why_one_is_passed_over_and_is_json_when_asked(
    home: Home, capsys: pytest.CaptureFixture[str]
) -> None:
    fill(home, "a")
    PlanQueue(home).fail(PlanQueue(home).entries()[0].id, "no data")
    assert supervisorctl.main(["queue"]) == 0
    line = capsys.readouterr().out
    assert "1 experiments, queued by ann" in line
    assert "PASSED OVER: no data" in line
    assert supervisorctl.main(["queue", "--json"]) == 0
    (entry,) = json.loads(capsys.readouterr().out)
    assert (entry["place"], entry["plan"], entry["error"]) == (1, "a", "no data")


@pytest.mark.parametrize("words", [["move", "a"], ["move", "a", "0"], ["move", "a", "x"], ["remove"]])
def test_a_change_without_its_names_is_refused(home: Home, words: list[str]) -> None:
    fill(home, "a")
    assert supervisorctl.main(["queue", *words]) == UsageError.exit_code


def test_an_empty_queue_says_how_to_fill_it(home: Home, capsys: pytest.CaptureFixture[str]) -> None:
    assert supervisorctl.main(["queue"]) == 0
    assert "supervisord start PLAN --queue" in capsys.readouterr().out


def test_a_plan_waits_only_behind_a_run_or_another_plan(home: Home, monkeypatch: pytest.MonkeyPatch) -> None:
    assert plan_queue.add(home, request("a")) is None, "it can begin at once"
    monkeypatch.setattr(plan_queue, "is_held", lambda _: True)
    assert plan_queue.add(home, request("a")) == 1
    monkeypatch.setattr(plan_queue, "is_held", lambda _: False)
    assert plan_queue.add(home, request("b")) == 2


def test_a_plan_waits_behind_a_run_that_a_reboot_interrupted(home: Home) -> None:
    store = Store(home.store, Clock())
    create_run(
        store, "r", plan="a", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
        specs=[{"name": "x", "mode": "min", "max_trials": 1, "concurrency": 1}],
    )  # fmt: skip
    store.close()
    assert plan_queue.add(home, request("b")) == 1
