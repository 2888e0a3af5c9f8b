"""Compare the output of the verbs in a terminal of 80 columns, word for word, with the files of `golden/`.

An escape sequence is written as ␛ there. A change of an output is a change of its file, which a review can read.
"""

from __future__ import annotations

import io
import json
import os
import re
import sys
import time
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit.log import AuditLog
from supervisor.cli import supervisorctl, watch
from supervisor.cli.doctor import examine
from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import PlanQueue
from supervisor.home import Home
from supervisor.preflight.machine import Check, Level, ok
from supervisor.processes.print_file import print_path
from supervisor.sensors import default_limits, survey
from supervisor.sensors.reading import Kind, Quality, Reading
from supervisor.store.run_writer import RunWriter
from tests.unit.cli.show_stage import NAME, open_store, two_runs
from tests.unit.cli.test_status_golden import a_long_run

GOLDEN = Path(__file__).with_name("golden")
COLUMNS = 80
NOW = 1_700_003_600.0
"""An hour after each event of the home."""
VERBS: dict[str, list[str]] = {
    "status-last-run": ["status"],
    "trials": ["trials", NAME, "--run", "mini-1"],
    "trials-of-all": ["trials", "--run", "mini-1", "--sort", "value"],
    "best": ["best", NAME, "60k-h1", "--run", "mini-1"],
    "history": ["history"],
    "compare": ["compare", "mini-1", "mini-2"],
    "queue": ["queue"],
    "doctor": ["doctor"],
    "sensors": ["sensors"],
    "tail": ["tail", "--utc", "-n", "8"],
    "tail-json": ["tail", "--json", "-n", "1"],
    "log": ["log", f"{NAME}/0"],
    "export": ["export", "--csv", "--run", "mini-1"],
    "export-results": ["export", "--csv", "--results"],
}
EXIT_CODES = {"status-last-run": 4, "doctor": 1}
"""The codes other than 0."""
MAY_BE_LONG = ("doctor", "sensors", "tail", "tail-json", "queue", "export", "export-results")
"""The outputs whose lines hold what a person or a program must read whole."""
HASH = re.compile(r'"prev":"[0-9a-f]{64}"')
"""The link to the line before, which holds all of the plan."""
PRINTS = b"epoch 1: loss 0.7\nepoch 2: loss 0.6 " + b"." * 100 + b"\n"


class Terminal(io.TextIOWrapper):
    """A terminal of 80 columns, which keeps what is written."""

    def __init__(self) -> None:
        super().__init__(io.BytesIO(), encoding="utf-8", write_through=True)

    def isatty(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def text(self) -> str:
        return self.buffer.getvalue().decode().replace("\x1b", "␛")  # type: ignore[attr-defined]


@pytest.fixture
def terminal(monkeypatch: pytest.MonkeyPatch) -> Iterator[Terminal]:
    monkeypatch.setattr(os, "get_terminal_size", lambda _: os.terminal_size((COLUMNS, 24)))
    for name, value in (("TZ", "UTC"), ("TERM", "xterm")):
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("NO_COLOR", raising=False)
    time.tzset()
    yield Terminal()
    monkeypatch.undo()
    time.tzset()


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """Provide a home with two runs, prints of a trial, results, a log and a queue."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    made = Home(tmp_path)
    two_runs(made)
    with closing(open_store(made)) as store, closing(AuditLog(made.audit_log("mini"))) as log:
        with store.change() as change:
            change.execute(
                "INSERT INTO result (run, experiment, trial, step, attempt, value, metrics, wall)"
                " VALUES ('mini-2', ?, 3, 1, 1, 0.5, ?, 0)",
                NAME, json.dumps({"time_this_iter_s": 2.5}),
            )  # fmt: skip
        RunWriter(store, "mini-2").record("report.failed", error="no font")
        log.catch_up(store, "mini")
    prints = print_path(made.run_folder("mini-2") / NAME / "0", 1)
    prints.parent.mkdir(parents=True)
    prints.write_bytes(PRINTS)
    queue = PlanQueue(made)
    for plan, count in (("phase6a", 12), ("mine", 1)):
        queue.add(StartRequest(plan, specs=[{"name": str(number)} for number in range(count)]), "ann", NOW - 5400.0)
    queue.fail(queue.entries()[1].id, "no data of SPY; cure: import them")
    return made


@pytest.fixture(autouse=True)
def _same_everywhere(monkeypatch: pytest.MonkeyPatch) -> None:
    """Replace what differs by machine and moment."""
    monkeypatch.setattr(time, "time", lambda: NOW)
    monkeypatch.setattr(examine, "steps", lambda _: (("checks", _checks),))
    monkeypatch.setattr(survey, "collect", lambda _: _survey())


def _checks() -> list[Check]:
    return [
        ok("versions", "Python 3.12.7, Ray 2.60.0"),
        Check("temperature", Level.WARNING, "no temperature can be read here", "see docs/sensors.md"),
        Check("store", Level.ERROR, "it is damaged at page 7", "`supervisorctl repair` shows the steps"),
    ]


def _survey() -> dict[str, Any]:
    def reading(sensor_id: str, kind: Kind, value: float | None, unit: str, **more: Any) -> dict[str, Any]:
        quality = Quality.OK if value is not None else Quality.PARKED
        return {**Reading(sensor_id, kind, "cpu", value, unit, 1.0, 2.0, "apple", quality, **more).to_json(),
                "age_s": 0.25}  # fmt: skip

    return {
        "protected": True,
        "providers": [
            {"name": "apple", "ok": True, "reason": "", "remedy": None},
            {"name": "nvidia", "ok": False, "reason": "no driver", "remedy": "install one"},
        ],
        "readings": [
            reading("smc:TCMb", Kind.TEMPERATURE, 91.25, "celsius", limits=default_limits.APPLE_DIE_AVERAGE),
            reading("smc:TCMz", Kind.TEMPERATURE, None, "celsius", detail="power-gated: 40"),
            reading("disk:/x", Kind.DISK, 3.5 * 2**30, "bytes"),
        ],
    }


def shown(terminal: Terminal, words: list[str], code: int) -> str:
    """Type a verb of supervisorctl in a terminal; return what it prints."""
    # Only while it is typed: between the phases of a test pytest sets its own.
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "stdout", terminal)
        assert supervisorctl.main(words) == code
    return HASH.sub('"prev":"HASH"', terminal.text())


def golden(name: str) -> str:
    return (GOLDEN / f"{name}.txt").read_text()


@pytest.mark.parametrize("name", VERBS)
def test_a_verb_prints_its_golden_output(name: str, home: Home, terminal: Terminal) -> None:
    text = shown(terminal, VERBS[name], EXIT_CODES.get(name, 0))
    assert text.replace(str(home.root), "HOME") == golden(name)


@pytest.mark.parametrize("colour", [True, False])
def test_status_of_a_run_at_work_prints_its_golden_output(
    colour: bool, home: Home, terminal: Terminal, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not colour:
        monkeypatch.setenv("NO_COLOR", "1")
    monkeypatch.setattr(watch, "ask", lambda *_, **__: a_long_run())
    assert shown(terminal, ["status"], 0) == golden("status-in-colour" if colour else "status")


def test_a_golden_output_fits_the_terminal_and_has_a_test() -> None:
    names = {path.stem for path in GOLDEN.glob("*.txt")}
    assert names == {*VERBS, "status", "status-in-colour"}
    for name in names - {*MAY_BE_LONG, "status-in-colour", "log"}:
        assert [line for line in golden(name).splitlines() if len(line) > COLUMNS] == [], name
