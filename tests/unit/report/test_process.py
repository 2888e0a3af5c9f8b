"""The report's process: it is bounded, it is ended, and its last words reach whoever asked."""

from __future__ import annotations

import asyncio
import os
import sys
import time
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


def child(monkeypatch: pytest.MonkeyPatch, code: str) -> None:
    """Puts a process that runs `code` in the place of the report's."""
    monkeypatch.setattr(process, "_command", lambda folder: [sys.executable, "-c", code, str(folder)])


def alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


def test_a_report_is_written_by_a_child_private_to_its_owner(tmp_path: Path) -> None:
    path = asyncio.run(write_report(EMPTY, tmp_path / "run"))
    assert path == tmp_path / "run" / "report.html"
    assert path.read_text().startswith("<!DOCTYPE html>")
    assert path.stat().st_mode & 0o077 == 0


def test_the_same_without_an_event_loop(tmp_path: Path) -> None:
    assert write_report_now(EMPTY, tmp_path).exists()


def test_the_last_words_of_a_child_that_fails_are_told(tmp_path: Path) -> None:
    with pytest.raises(ReportFailed, match=r"(?s)ended with 1: .*KeyError: 'run'$") as caught:
        write_report_now({}, tmp_path)
    assert caught.value.remedy is not None
    assert list(tmp_path.iterdir()) == []


def test_a_folder_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ReportFailed, match="cannot write into"):
        asyncio.run(write_report(EMPTY, tmp_path / "file"))


def test_long_last_words_are_cut_to_their_end(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    child(monkeypatch, "import sys; sys.stderr.write('x' * 100_000 + ' the end'); sys.exit(3)")
    with pytest.raises(ReportFailed) as caught:
        write_report_now(EMPTY, tmp_path)
    assert caught.value.message.endswith("the end")
    assert len(caught.value.message) < 2_200


@pytest.mark.parametrize("way", ["loop", "no loop"])
def test_a_child_that_hangs_is_killed_at_the_deadline_with_its_own_children(
    way: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    code = (
        "import os, pathlib, subprocess, sys, time\n"
        "below = subprocess.Popen(['sleep', '60'])\n"
        "pathlib.Path(sys.argv[1], 'pids').write_text(f'{os.getpid()} {below.pid}')\n"
        "time.sleep(60)"
    )
    child(monkeypatch, code)
    write = write_report_now if way == "no loop" else lambda *args: asyncio.run(write_report(*args))
    with pytest.raises(ReportFailed, match="within 3 s"):
        write(EMPTY, tmp_path, 3.0)
    own, below = map(int, (tmp_path / "pids").read_text().split())
    assert not alive(own)
    # The grandchild's parent is gone, so init reaps it in its own time.
    until = time.monotonic() + 10
    while alive(below) and _state(below) != "Z" and time.monotonic() < until:
        time.sleep(0.05)
    assert not alive(below) or _state(below) == "Z"


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return "Z"


def test_a_cancelled_wait_leaves_no_child(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    code = (
        "import os, pathlib, sys, time; pathlib.Path(sys.argv[1], 'pid').write_text(str(os.getpid())); time.sleep(60)"
    )
    child(monkeypatch, code)

    async def cancelled() -> None:
        task = asyncio.create_task(write_report(EMPTY, tmp_path))
        async with asyncio.timeout(20):
            while not (tmp_path / "pid").exists() or not (tmp_path / "pid").read_text():
                await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancelled())
    assert not alive(int((tmp_path / "pid").read_text()))


def test_a_python_that_is_not_there_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(process, "_command", lambda folder: [str(tmp_path / "no-python"), str(folder)])
    with pytest.raises(ReportFailed, match="cannot start"):
        asyncio.run(write_report(EMPTY, tmp_path))
    with pytest.raises(ReportFailed, match="cannot start"):
        write_report_now(EMPTY, tmp_path)
