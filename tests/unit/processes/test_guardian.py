"""The guardian ends its command's whole process group when its parent ends."""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from supervisor.processes import guardian
from tests.waits import NET_S, until_ended

STUBBORN_FAMILY = """
import pathlib, signal, subprocess, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"])
pathlib.Path(sys.argv[1] + ".part").write_text(str(child.pid))
pathlib.Path(sys.argv[1] + ".part").rename(sys.argv[1])
time.sleep(60)
"""
"""A command that ignores TERM, with a child; it writes the child's pid into the file that is its argument."""


Start = Callable[..., subprocess.Popen[bytes]]


@pytest.fixture
def start_guardian() -> Iterator[Start]:
    started: list[subprocess.Popen[bytes]] = []

    def start(*command: str, grace_s: float = 0.2) -> subprocess.Popen[bytes]:
        started.append(
            subprocess.Popen(
                [sys.executable, "-P", "-m", "supervisor.processes.guardian", str(grace_s), *command],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, start_new_session=True,
            )
        )  # fmt: skip
        return started[-1]

    yield start
    for process in started:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        for pipe in (process.stdin, process.stdout):
            if pipe is not None:
                pipe.close()


def family(start_guardian: Start, folder: Path) -> tuple[subprocess.Popen[bytes], int, int]:
    """A guardian, its stubborn command, and that one's child."""
    process = start_guardian(sys.executable, "-c", STUBBORN_FAMILY, str(folder / "child"))
    assert process.stdout is not None
    command = int(process.stdout.readline())
    while not (folder / "child").exists():
        time.sleep(0.01)
    return process, command, int((folder / "child").read_text())


@pytest.mark.parametrize("how", ["the daemon's end of its pipe closes", "it gets TERM"])
def test_the_guardian_ends_its_commands_whole_group_when(how: str, start_guardian: Start, tmp_path: Path) -> None:
    process, command, child = family(start_guardian, tmp_path)
    if "pipe" in how:
        assert process.stdin is not None
        process.stdin.close()
    else:
        process.terminate()
    assert process.wait(NET_S) == -signal.SIGKILL, "the command ignored TERM, so it ended by KILL"
    until_ended(command)
    until_ended(child)


@pytest.mark.parametrize("status", [0, 3])
def test_the_guardian_ends_with_its_commands_exit_code(start_guardian: Start, status: int) -> None:
    assert start_guardian(sys.executable, "-c", f"raise SystemExit({status})").wait(NET_S) == status


def test_the_guardian_ends_by_the_signal_that_ended_its_command(start_guardian: Start) -> None:
    process = start_guardian(sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGTERM)")
    assert process.wait(NET_S) == -signal.SIGTERM


def test_the_end_of_the_command_wakes_a_guardian_that_looks_once_a_day() -> None:
    """It has nothing to look for: its command's end, its parent's end and TERM each wake it."""
    script = "import sys; from supervisor.processes import guardian; guardian._LOOK_S = 86400.0; sys.exit(guardian.main"
    command = [sys.executable, "-c", "import time; time.sleep(0.5); raise SystemExit(7)"]
    process = subprocess.Popen(
        [sys.executable, "-P", "-c", f"{script}({['0.2', *command]!r}))"],
        stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, start_new_session=True,
    )  # fmt: skip
    try:
        assert process.wait(NET_S) == 7
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.communicate()


def test_processes_that_a_command_leaves_in_its_group_are_ended(start_guardian: Start, tmp_path: Path) -> None:
    script = "import subprocess, sys; print(subprocess.Popen(['sleep', '60']).pid, file=open(sys.argv[1], 'w'))"
    process = start_guardian(sys.executable, "-c", script, str(tmp_path / "child"))
    assert process.wait(NET_S) == 0
    until_ended(int((tmp_path / "child").read_text()))


def test_a_guardian_without_a_command_prints_its_usage(capsys: pytest.CaptureFixture[str]) -> None:
    assert guardian.main(["1.0"]) == 2
    assert "usage" in capsys.readouterr().err


@pytest.mark.parametrize("group", [0, 1, -5])
def test_the_own_group_and_all_processes_are_refused_as_a_group(group: int) -> None:
    with pytest.raises(ValueError, match="expected the process group of a child"):
        guardian.end_group(group, 0.0)


def test_ending_a_group_that_has_ended_does_nothing() -> None:
    process = subprocess.Popen(["true"], start_new_session=True)
    process.wait()
    guardian.end_group(process.pid, 0.1)


@pytest.mark.parametrize(
    ("returncode", "text"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "signal SIGKILL"), (-250, "signal 250")]
)
def test_an_exit_status_is_written_in_words(returncode: int, text: str) -> None:
    assert guardian.status_text(returncode) == text
