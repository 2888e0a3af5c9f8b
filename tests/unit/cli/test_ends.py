"""The end of a command by Ctrl-C, by a reader that has gone, by a full disk: no traceback, the code of shells."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from supervisor.cli import supervisorctl, watch
from supervisor.cli.show import tail, trial_log
from supervisor.errors import DiskFull
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.processes.print_file import print_path
from tests.unit.cli.test_commands import finished_run

ROOT = Path(__file__).resolve().parents[3]
COMMAND = "import sys; from supervisor.cli import supervisorctl; sys.exit(supervisorctl.main(sys.argv[1:]))"
INTERRUPTED = f"""
import os, time
def sleep(seconds):
    os.close(int(os.environ["READER"]))
    raise KeyboardInterrupt
time.sleep = sleep
{COMMAND}
"""
"""Ctrl-C in the first wait; it ends the reader of the messages, too."""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home with an ended run, its log, and a trial's prints."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    made = Home(tmp_path)
    finished_run(made).close()
    line = {"ts": "2026-11-30T08:00:00Z", "seq": 1, "event": "run.started", "msg": "run started"}
    made.audit_log("smoke").write_text(f"{json.dumps(line)}\n")
    prints = print_path(made.run_folder("smoke-1") / "2M-h1" / "0", 1)
    prints.parent.mkdir(parents=True)
    prints.write_text("hello\n")
    return made


def started(code: str, *words: str, reader: int = -1, **streams: object) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "READER": str(reader)}
    return subprocess.Popen([sys.executable, "-P", "-c", code, *words], env=environment, **streams)  # type: ignore[call-overload, no-any-return]


def unread() -> int:
    """Return the end to write to of a pipe whose reader has gone."""
    reads, writes = os.pipe()
    os.close(reads)
    return writes


FOLLOWED = [["tail", "-f"], ["log", "0", "-f"]]
PRINTED = [["status"], ["status", "--json"], ["tail"], ["log", "0"], ["names", "runs"], ["wait"]]


@contextlib.contextmanager
def waited_for(home: Home, words: list[str]) -> Iterator[None]:
    """Hold the home as a daemon does where the command waits for its end."""
    lock = take_lock(home, "") if words == ["wait"] else None
    try:
        yield
    finally:
        if lock is not None:
            os.close(lock)


@pytest.mark.parametrize("words", [*PRINTED, *FOLLOWED], ids=" ".join)
def test_an_output_that_is_not_read_ends_the_command_without_a_word(home: Home, words: list[str]) -> None:
    writes = unread()
    process = started(COMMAND, *words, stdout=writes, stderr=subprocess.PIPE)
    os.close(writes)
    _, said = process.communicate()
    assert process.returncode in (0, 4), "4 is that of `status` without a daemon"
    assert b"Traceback" not in said
    assert b"Exception ignored" not in said
    assert b"Errno" not in said


@pytest.mark.parametrize("words", FOLLOWED, ids=" ".join)
def test_a_reader_that_goes_ends_what_follows_although_nothing_more_comes(home: Home, words: list[str]) -> None:
    process = started(COMMAND, *words, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)
    assert process.stdout is not None
    assert process.stdout.readline()
    process.stdout.close()
    assert process.wait() == 0


def test_messages_that_are_not_read_end_wait(home: Home) -> None:
    writes = unread()
    with waited_for(home, ["wait"]):
        process = started(COMMAND, "wait", stdout=subprocess.PIPE, stderr=writes)
        os.close(writes)
        assert process.communicate()[0] == b""
    assert process.returncode == 1, "the run has not ended"


@pytest.mark.parametrize("words", [["wait"], *FOLLOWED], ids=" ".join)
def test_ctrl_c_has_its_code_also_where_it_ends_the_reader_of_the_messages(home: Home, words: list[str]) -> None:
    """Send it to both, as a terminal does in `wait 2>&1 | tee`."""
    reads, writes = os.pipe()
    with waited_for(home, words):
        process = started(
            INTERRUPTED, *words, reader=reads, stdout=subprocess.DEVNULL, stderr=writes, pass_fds=(reads,)
        )
        os.close(writes)
        os.close(reads)
        assert process.wait() == 130


@pytest.mark.parametrize("words", [["wait"], *FOLLOWED], ids=" ".join)
def test_ctrl_c_ends_what_waits_without_a_traceback(
    home: Home, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], words: list[str]
) -> None:
    def interrupt(_: float) -> None:
        raise KeyboardInterrupt

    for module in (watch, tail, trial_log):
        monkeypatch.setattr(module.time, "sleep", interrupt)
    with waited_for(home, words):
        assert supervisorctl.main(words) == 130
    said = capsys.readouterr().err
    assert said.endswith("supervisorctl: interrupted; the run goes on\n")
    assert "Traceback" not in said


def test_a_full_disk_is_said_in_words(home: Home) -> None:
    with Path("/dev/full").open("wb") as full:
        process = started(COMMAND, "status", stdout=full, stderr=subprocess.PIPE)
        _, said = process.communicate()
    assert process.returncode == DiskFull.exit_code
    assert b"no space left on the disk" in said
    assert b"Exception ignored" not in said
    assert b"Traceback" not in said
