"""Real processes: their stacks on a signal, and their end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from actors.trial import worker_process
from actors.trial.worker_process import OOM_SCORE_ADJ, end_process, prefer_for_oom, stacks_of
from supervisor.processes.identity import started_at
from tests.waits import NET_S

ROOT = Path(__file__).resolve().parents[3]
HANGING = """
import signal, subprocess, sys, threading, time
from pathlib import Path
{before}
def wait_in_a_thread():
    time.sleep(600)
def wait_for_godot():
    print("up", flush=True)
    while True:
        time.sleep(600)
threading.Thread(target=wait_in_a_thread, daemon=True).start()
wait_for_godot()
"""
DUMPS = "from actors.trial.worker_process import dump_on_signal; dump_on_signal(Path({folder!r}))"


@pytest.fixture
def start():
    """A process that says "up" and then hangs; `before` is what it does first."""
    started = []

    def run(before: str) -> subprocess.Popen[bytes]:
        environment = {**os.environ, "PYTHONPATH": str(ROOT)}
        code = HANGING.format(before=before)
        process = subprocess.Popen([sys.executable, "-c", code], env=environment, stdout=subprocess.PIPE)
        started.append(process)
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        return process

    yield run
    for process in started:
        process.kill()
        process.wait()
        process.stdout.close()


def test_the_stacks_of_every_thread_are_read_and_the_process_lives(start, tmp_path):
    """Twice: the second dump takes the first one's place."""
    process = start(DUMPS.format(folder=str(tmp_path)))
    for _ in range(2):
        stacks = stacks_of(tmp_path, process.pid)
        assert stacks is not None
        assert stacks.count("in wait_for_godot") == 1
        assert stacks.count("in wait_in_a_thread") == 1
    assert process.poll() is None


def test_a_process_without_a_handler_is_not_sent_the_signal(start, tmp_path):
    """The signal would end it."""
    process = start("")
    assert stacks_of(tmp_path, process.pid) is None
    assert process.poll() is None


def test_a_stopped_process_has_no_stacks_but_can_be_ended(start, tmp_path):
    process = start(DUMPS.format(folder=str(tmp_path)))
    process.send_signal(signal.SIGSTOP)
    os.waitid(os.P_PID, process.pid, os.WSTOPPED)
    naps = []
    assert stacks_of(tmp_path, process.pid, naps.append) is None
    assert sum(naps) >= 5.0, "it is given its time"
    assert end_process(process.pid, started_at(process.pid))
    assert process.wait() == -signal.SIGKILL


@pytest.mark.parametrize(
    ("before", "status"),
    [("", -signal.SIGTERM), ("signal.signal(signal.SIGTERM, signal.SIG_IGN)", -signal.SIGKILL)],
    ids=["goes at TERM", "ignores it"],
)
def test_a_process_is_ended_with_its_children(start, tmp_path, monkeypatch, before, status):
    monkeypatch.setattr(worker_process, "TERM_GRACE_S", 1.0)
    file = tmp_path / "child"
    process = start(f"{before}\nPath({str(file)!r}).write_text(str(subprocess.Popen(['sleep', '600']).pid))")
    child = psutil.Process(int(file.read_text()))
    assert end_process(process.pid, started_at(process.pid))
    assert process.wait() == status
    child.wait(NET_S)
    assert not child.is_running()


def test_a_process_that_only_has_the_same_pid_is_not_touched(start):
    process = start("")
    assert end_process(process.pid, "another start")
    assert process.poll() is None


def test_a_process_that_cannot_be_killed_is_reported_after_a_bounded_wait(start, monkeypatch):
    """A process in an uninterruptible wait gets no signal."""
    process = start("")
    monkeypatch.setattr(os, "kill", lambda pid, number: None)
    naps = []
    assert not end_process(process.pid, started_at(process.pid), naps.append)
    assert 15.0 <= sum(naps) < 20.0


def test_the_score_is_raised_and_never_lowered(tmp_path):
    (tmp_path / "self").mkdir()
    file = tmp_path / "self/oom_score_adj"
    for before, after in ((0, OOM_SCORE_ADJ), (1000, 1000), (-500, OOM_SCORE_ADJ)):
        file.write_text(f"{before}\n")
        prefer_for_oom(tmp_path)
        assert int(file.read_text()) == after
    prefer_for_oom(tmp_path / "elsewhere")


def test_a_process_may_have_any_bytes_for_a_name(tmp_path):
    """A process sets its own name (prctl PR_SET_NAME); the watch over the others must go on."""
    (tmp_path / "11").mkdir()
    fields = b" ".join(str(number).encode() for number in range(4, 53))
    (tmp_path / "11/stat").write_bytes(b"11 (ray::\xff) Z 1 \xc3) S " + fields + b"\n")
    assert started_at(11, tmp_path) == "22"
