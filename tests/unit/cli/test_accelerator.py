"""`supervisord check --accelerator` prints one table, whatever becomes of the process that checks."""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path

import pytest

from supervisor.cli import supervisord
from supervisor.cli.accelerator import COMMAND, check_accelerator

GOOD = """
import json
for check, ok in (("machine", None), ("accelerator", True), ("queue", True), ("resume", True)):
    print(json.dumps({"check": check, "result": "fine", "ok": ok}), flush=True)
"""


@pytest.mark.parametrize(
    ("program", "code", "last"),
    [
        (GOOD, 0, "resume"),
        (GOOD + "print(json.dumps({'check': 'parity', 'result': 'loss 3', 'ok': False}))", 1, "loss 3"),
        (GOOD + "import os; os.abort()", 1, "ended with -6"),
        (GOOD + "raise SystemExit('no driver')", 1, "ended with 1: no driver"),
    ],
)
def test_the_table_has_every_check_that_was_done_and_how_it_ended(
    capsys: pytest.CaptureFixture[str], program: str, code: int, last: str
) -> None:
    """A driver may hang or kill the process."""
    found = check_accelerator(argparse.Namespace(json=False), (sys.executable, "-c", program))
    said = capsys.readouterr().out
    assert found == code
    assert "resume" in said
    assert last in said.partition("\n\n")[0].splitlines()[-1]
    assert "send this table" in said


def test_a_check_that_hangs_is_killed_and_said(capsys: pytest.CaptureFixture[str]) -> None:
    """How many rows it wrote before is the machine's speed."""
    hanging = GOOD + "import time; time.sleep(600)"
    assert check_accelerator(argparse.Namespace(json=True), (sys.executable, "-c", hanging), within_s=1.0) == 1
    last = json.loads(capsys.readouterr().out)[-1]
    assert (last["result"], last["ok"]) == ("did not end within 1 s", False)


def test_a_machine_without_one_says_so(capsys: pytest.CaptureFixture[str]) -> None:
    without = (
        "import sys; from pathlib import Path; from training.devices import check;"
        "check.available_devices = lambda: ['cpu']; sys.exit(check.main(Path(sys.argv[1])))"
    )
    assert check_accelerator(argparse.Namespace(json=True), (sys.executable, "-c", without)) == 0
    found = json.loads(capsys.readouterr().out)
    assert "neither CUDA nor Metal" in found[-1]["result"]
    assert COMMAND[-1] == "training.devices.check"


def test_check_without_a_plan_is_refused_with_both_ways(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    assert supervisord.main(["check"]) == 2
    said = capsys.readouterr().err
    assert "check needs a plan" in said
    assert "--accelerator" in said
