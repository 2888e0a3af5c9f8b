"""`tail` prints the last lines, then every new line once, across rotation and half-written lines."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import tail


@pytest.fixture
def path(tmp_path: Path) -> Path:
    made = tmp_path / "smoke.jsonl"
    made.write_bytes(b"")
    return made


def add(path: Path, text: str) -> None:
    with path.open("ab") as file:
        file.write(text.encode())


def follow(path: Path, *scenes: Callable[[], None], first: int = 0) -> list[str]:
    """Return the lines that are seen when one of `scenes` happens in each wait; it ends two waits after the last."""
    left = [*scenes, lambda: None, lambda: None]

    def sleep(seconds: float) -> None:
        assert seconds > 0
        if left:
            left.pop(0)()

    file = path.open("rb")
    lines = tail.last_lines(file, first)
    lines += tail.follow(path, file, sleep, until=lambda: not left)
    assert file.closed
    return [line.decode().rstrip("\n") for line in lines]


def test_the_last_lines_are_whole_and_at_most_so_many(path: Path) -> None:
    add(path, "one\ntwo\nthree\nhalf")
    with path.open("rb") as file:
        assert tail.last_lines(file, 2) == [b"two\n", b"three\n"]
        assert file.tell() == len("one\ntwo\nthree\n"), "its position is after the last whole line"
    for count, seen in ((0, 0), (99, 3)):
        with path.open("rb") as file:
            assert len(tail.last_lines(file, count)) == seen


def test_added_lines_are_seen_and_old_ones_are_not(path: Path) -> None:
    add(path, "old\n")
    assert follow(path, lambda: add(path, "one\ntwo\n"), lambda: None, lambda: add(path, "three\n")) == [
        "one", "two", "three",
    ]  # fmt: skip


def test_lines_added_between_the_last_lines_and_following_are_not_lost(path: Path) -> None:
    add(path, "old\n")
    file = path.open("rb")
    assert tail.last_lines(file, 10) == [b"old\n"]
    add(path, "between\n")
    over = iter([False, True])
    assert list(tail.follow(path, file, lambda s: None, until=lambda: next(over))) == [b"between\n"]


def test_half_a_line_waits_for_its_other_half(path: Path) -> None:
    add(path, "old\nha")
    assert follow(path, lambda: add(path, "lf"), lambda: add(path, "\nnext\n"), first=1) == ["old", "half", "next"]


def test_a_renamed_file_is_read_to_its_end_before_the_new_one(path: Path) -> None:
    def rotate() -> None:
        add(path, "last of the old\n")
        path.rename(path.with_suffix(".1"))
        add(path, "first of the new\n")

    assert follow(path, lambda: add(path, "one\n"), rotate, lambda: add(path, "two\n")) == [
        "one", "last of the old", "first of the new", "two",
    ]  # fmt: skip


def test_a_line_written_just_before_the_renaming_is_not_lost(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The writer may write and rotate between the reader's last read and its look at the name."""
    real = tail._same
    rotated: list[bool] = []

    def rotate_then_look(file: Any, where: Path) -> bool:
        if not rotated:
            rotated.append(True)
            add(path, "in between\n")
            path.rename(path.with_suffix(".1"))
            add(path, "new\n")
        return real(file, where)

    monkeypatch.setattr(tail, "_same", rotate_then_look)
    assert follow(path) == ["in between", "new"]


def test_a_file_that_comes_back_late_is_waited_for(path: Path) -> None:
    assert follow(path, path.unlink, lambda: None, lambda: None, lambda: add(path, "back\n")) == ["back"]


def test_a_file_that_does_not_come_back_is_given_up_after_a_minute_of_waits(path: Path) -> None:
    slept: list[float] = []
    file = path.open("rb")
    path.unlink()
    with pytest.raises(FileNotFoundError):
        list(tail.follow(path, file, slept.append))
    assert sum(slept) == pytest.approx(60.0, abs=1.0)


RECORD = {"ts": "2026-11-23T10:20:30.000000Z", "event": "trial.finished", "experiment": "2M-h1", "trial": 7}


@pytest.mark.parametrize(
    ("filters", "passes"),
    [
        ((None, None, None), True),
        (("trial.*", None, None), True),
        (("run.*", None, None), False),
        ((None, "2M-*", None), True),
        ((None, "20M-*", None), False),
        ((None, None, 7), True),
        ((None, None, 8), False),
        (("trial.*", "2M-h1", 8), False),
    ],
)
def test_filters_by_event_experiment_and_trial(
    filters: tuple[str | None, str | None, int | None], passes: bool
) -> None:
    assert tail.wanted(RECORD, *filters) is passes


def test_a_record_without_an_experiment_passes_only_without_such_a_filter() -> None:
    assert tail.wanted({"event": "run.started"}, None, None, None)
    assert not tail.wanted({"event": "run.started"}, None, "2M-*", None)
    assert not tail.wanted({"event": "run.started"}, None, None, 0)


@pytest.mark.parametrize(
    ("changes", "line"),
    [
        ({"msg": "trial 7 finished: 0.25"}, "10:20:30  2M-h1: trial 7 finished: 0.25"),
        ({"msg": "lost", "level": "warning"}, "10:20:30  ! 2M-h1: lost"),
        ({"msg": "failed", "level": "error"}, "10:20:30  !! 2M-h1: failed"),
    ],
)
def test_a_record_for_people(changes: dict[str, str], line: str) -> None:
    assert tail.pretty(RECORD | changes) == line


@pytest.mark.parametrize("line", [b"", b"\n", b"half {", b"[1]\n", b"7\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_record_is_skipped(line: bytes) -> None:
    assert tail.parse(line) is None


def test_a_record_is_parsed() -> None:
    assert tail.parse(json.dumps(RECORD).encode() + b"\n") == RECORD
