"""`supervisorctl log` prints the file of an attempt, without a daemon, and names what is not there."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import supervisorctl
from supervisor.cli.show import trial_log
from supervisor.cli.show.trial_log import experiment_named, last_lines
from supervisor.errors import NotFound
from supervisor.home import Home
from supervisor.processes.print_file import PrintFile, PrintReader, print_path

EXPERIMENTS: list[dict[str, Any]] = [
    {"name": "2M-h1", "state": "EXITED", "started_wall": 10.0},
    {"name": "2M-h3", "state": "RUNNING", "started_wall": 20.0},
    {"name": "20M-h1", "state": "STOPPED", "started_wall": None},
]


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Home:
    """A home whose last run has three experiments; the second is at work."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    monkeypatch.setattr(trial_log, "view_of", lambda home: {"run": {"id": "p-1"}, "experiments": EXPERIMENTS})
    return Home(tmp_path.resolve())


def write(home: Home, trial: str, attempt: int, text: bytes) -> Path:
    path = print_path(home.run_folder("p-1") / trial, attempt)
    file = PrintFile(path)
    file.add(text)
    file.close()
    return path


def test_the_last_attempt_is_printed_or_the_one_that_is_asked_for(
    home: Home, capfdbinary: pytest.CaptureFixture[bytes]
) -> None:
    write(home, "2M-h3/17", 1, b"first\n")
    write(home, "2M-h3/17", 10, b"tenth \xff\n")
    for arguments, printed in (
        (["17"], b"tenth \xff\n"), (["2M-h3/17"], b"tenth \xff\n"), (["17", "--attempt", "1"], b"first\n"),
        (["17", "-n", "0"], b""),
    ):  # fmt: skip
        assert supervisorctl.main(["log", *arguments]) == 0
        said = capfdbinary.readouterr()
        assert said.out == printed
        assert b"of 1, 10 <==" in said.err


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["18"], ["trial 2M-h3/18 has printed nothing", "supervisorctl tail --trial 2M-h3/18"]),
        (["17", "--attempt", "2"], ["attempt 2 of trial 2M-h3/17 has printed nothing", "there are 1"]),
        (["2M-h2/17"], ["no experiment '2M-h2' in this run", "did you mean 2M-h"]),
    ],
)
def test_what_is_not_there_is_named_with_what_is(
    home: Home, capsys: pytest.CaptureFixture[str], arguments: list[str], words: list[str]
) -> None:
    write(home, "2M-h3/17", 1, b"first\n")
    assert supervisorctl.main(["log", *arguments]) == 2
    said = capsys.readouterr().err
    assert all(word in said for word in words), said


def test_a_number_alone_is_of_the_experiment_at_work_or_of_the_last_that_was() -> None:
    assert experiment_named(EXPERIMENTS, None, 17) == "2M-h3"
    assert experiment_named(EXPERIMENTS, "2M-h1", 17) == "2M-h1"
    over = [{**one, "state": "EXITED"} for one in EXPERIMENTS]
    assert experiment_named(over, None, 17) == "2M-h3"
    reopened = [{**EXPERIMENTS[0], "state": "RUNNING"}, over[1]]
    assert experiment_named(reopened, None, 17) == "2M-h1"
    with pytest.raises(NotFound, match="no experiment has begun"):
        experiment_named(EXPERIMENTS[2:], None, 17)


def test_the_last_lines_are_counted_with_an_incomplete_one() -> None:
    assert last_lines(b"a\nb\nc", 2) == b"b\nc"
    assert last_lines(b"a\nb\n", 9) == b"a\nb\n"
    assert last_lines(b"a\n", 0) == b""


def followed(folder: Path, attempt: int, *scenes: Callable[[], object], stays: bool = False) -> bytes:
    """Return what is shown when one of `scenes` happens in each wait; it ends after the last."""
    left, shown = [*scenes, lambda: None], []

    def sleep(seconds: float) -> None:
        assert seconds > 0
        left.pop(0)()

    reader = PrintReader(print_path(folder, attempt))
    trial_log.follow(folder, attempt, reader, shown.append, stays=stays, sleep=sleep, until=lambda: not left)
    return b"".join(shown)


def test_what_is_added_is_shown_and_then_the_next_attempt(home: Home) -> None:
    write(home, "2M-h3/17", 1, b"one\n")
    folder = home.run_folder("p-1") / "2M-h3/17"

    def next_attempt() -> None:
        write(home, "2M-h3/17", 1, b"last of one\n")
        write(home, "2M-h3/17", 3, b"three\n")

    scenes = (lambda: write(home, "2M-h3/17", 1, b"more\n"), lambda: None, next_attempt)
    assert followed(folder, 1, *scenes) == b"one\nmore\nlast of one\nthree\n"
    shown = followed(folder, 1, lambda: write(home, "2M-h3/17", 4, b"four\n"), stays=True)
    assert shown == b"one\nmore\nlast of one\n"


def test_files_that_are_deleted_end_it_with_a_sentence(home: Home) -> None:
    path = write(home, "2M-h3/17", 1, b"one\n")
    with pytest.raises(NotFound, match=r"attempt-1\.log was deleted"):
        followed(path.parent, 1, path.unlink)
