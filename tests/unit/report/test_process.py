"""The report's process: its page is private, and its failure reaches the caller.

Its deadline, its killing and its bounds are those of every worker process (tests/unit/processes/test_json_worker.py).
"""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest

from supervisor.errors import ReportFailed
from supervisor.report import process
from supervisor.report.process import write_report, write_report_now

EMPTY: dict[str, Any] = {
    "run": {
        "id": "mine-1", "plan": "mine", "fingerprint": "ab", "source": "built-in", "data": {}, "state": "EXITED",
        "reason": None, "created_wall": 1.79e9, "ended_wall": 1.79e9,
    },
    "commands": [], "experiments": [], "lost": [],
}  # fmt: skip


def test_a_report_is_written_by_a_child_and_private_to_its_owner(tmp_path: Path) -> None:
    path = asyncio.run(write_report(EMPTY, tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o077 == 0


def test_the_last_words_of_a_child_that_fails_are_in_the_error(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed, match=r"(?s)process ended with .*1.*KeyError: 'run'$") as caught:
        write_report_now({}, tmp_path)
    assert caught.value.remedy is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportFailed, match=f"cannot write into {tmp_path}/file"):
        write_report_now(EMPTY, tmp_path / "file")


def test_a_report_that_takes_too_long_fails(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "python_module", lambda *_: ("sleep", "600"))
    with pytest.raises(ReportFailed, match=r"took longer than 0\.1 s"):
        write_report_now(EMPTY, tmp_path, 0.1)


def test_a_process_that_cannot_start_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "python_module", lambda *_: (str(tmp_path / "no-python"),))
    with pytest.raises(ReportFailed, match="cannot start"):
        write_report_now(EMPTY, tmp_path)
