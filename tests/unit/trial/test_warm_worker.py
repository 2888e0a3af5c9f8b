"""Each ticket warms one worker, in the environment that it names; no other process imports anything."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from actors.trial.warm_worker import TICKET, leave_tickets, warm, what_to_import, withdraw_tickets
from supervisor.processes.environment import WARM_WORKERS, thread_environment
from tests.waits import NET_S

WORKER = """
import os, sys
import actors.trial.preload
print(["colorsys"] if "colorsys" in sys.modules else [], os.environ.get("MADE_UP"))
"""


def worker(folder: Path | None) -> str:
    """Return what a process that imports the preload prints: the modules of the ticket, and its variable."""
    where = {} if folder is None else {WARM_WORKERS: str(folder)}
    kept = {name: value for name, value in os.environ.items() if name != WARM_WORKERS}
    command = [sys.executable, "-c", WORKER]
    return subprocess.run(
        command, env=kept | where, capture_output=True, text=True, timeout=NET_S, check=True
    ).stdout.strip()


def test_as_many_workers_import_as_there_are_tickets(tmp_path: Path) -> None:
    leave_tickets(tmp_path / "warm", 2, ["colorsys", "there_is_no_such_module"], {"MADE_UP": "1"})
    found = [worker(tmp_path / "warm") for _ in range(3)]
    assert found == ["['colorsys'] 1", "['colorsys'] 1", "[] None"]
    assert list((tmp_path / "warm").iterdir()) == []


@pytest.mark.parametrize("named", [True, False])
def test_a_worker_without_a_ticket_imports_nothing(tmp_path: Path, *, named: bool) -> None:
    assert worker(tmp_path / "none" if named else None) == "[] None"


def test_new_tickets_replace_those_that_no_worker_took(tmp_path: Path) -> None:
    leave_tickets(tmp_path, 3, ["colorsys"], {})
    leave_tickets(tmp_path, 1, ["json"], {})
    (left,) = tmp_path.iterdir()
    assert json.loads(left.read_text()) == {"modules": ["json"], "environment": {}}
    withdraw_tickets(tmp_path)
    assert not warm(tmp_path)


def test_the_tickets_of_a_driver_that_has_ended_are_worthless(tmp_path: Path) -> None:
    with subprocess.Popen([sys.executable, "-c", ""]) as ended:
        ended.wait()
    (tmp_path / f"{ended.pid}-0{TICKET}").write_text(json.dumps({"modules": ["colorsys"], "environment": {}}))
    assert not warm(tmp_path)
    assert list(tmp_path.iterdir()) == []


def test_only_a_trial_of_ours_is_imported_before_it_begins() -> None:
    ours, environment = what_to_import(3)
    theirs, nothing = what_to_import(None)
    assert set(theirs) < set(ours)
    assert "training.session" in set(ours) - set(theirs)
    assert environment == thread_environment(3)
    assert nothing == {}
