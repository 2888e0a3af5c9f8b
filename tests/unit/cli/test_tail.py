"""`tail` prints the last lines, then every new line once, across rotation and half-written lines."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest

from supervisor.cli import supervisorctl
from supervisor.cli.show import event_filters, tail
from supervisor.errors import UsageError
from supervisor.home import Home


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


def line_of(**changes: Any) -> bytes:
    return json.dumps(RECORD | changes).encode() + b"\n"


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
    assert tail.Filters(*filters).pass_line(line_of()) is passes


def test_a_record_without_an_experiment_passes_only_without_such_a_filter() -> None:
    line = b'{"event": "run.started"}\n'
    assert tail.Filters().pass_line(line)
    assert not tail.Filters(experiment="2M-*").pass_line(line)
    assert not tail.Filters(trial=0).pass_line(line)


@pytest.mark.parametrize(
    ("count", "event", "seen"),
    [(2, "trial.failed", [1, 4]), (9, "trial.failed", [0, 1, 4]), (1, "trial.*", [8]), (3, "run.*", []), (0, "*", [])],
)
def test_the_last_lines_are_counted_after_the_filters_and_through_the_older_parts(
    path: Path, count: int, event: str, seen: list[int]
) -> None:
    lines = [line_of(event="trial.failed" if trial in (0, 1, 4) else "trial.added", trial=trial) for trial in range(9)]
    path.write_bytes(b"".join(lines[4:]))
    with path.open("rb") as file:
        found = tail.last_lines(file, count, tail.Filters(event).pass_line, [lines[1:4], lines[:1]])
    assert [json.loads(line)["trial"] for line in found] == seen


@pytest.mark.parametrize(
    ("filters", "unknown"),
    [
        (tail.Filters(experiment="3M-*"), "no experiment '3M-*'; there are 2M-h1"),
        (tail.Filters(trial=99), "no trial 99; there are 0 to 7"),
        (tail.Filters(experiment="2M-h1", event="run.*"), None),
        (tail.Filters(trial=7, event="run.*"), None),
    ],
)
def test_a_name_that_no_line_has_is_known(filters: tail.Filters, unknown: str | None) -> None:
    filters.pass_line(line_of())
    assert filters.unknown() == unknown


@pytest.mark.parametrize(("name", "meant"), [("trial.fnished", "trial.finished"), ("run.stoped", "run.stopped")])
def test_an_event_that_does_not_exist_is_refused_with_the_one_most_like_it(name: str, meant: str) -> None:
    with pytest.raises(UsageError, match=name) as refusal:
        tail.check_event(name)
    assert refusal.value.remedy == f"did you mean {meant}?"
    tail.check_event(meant)
    tail.check_event("trial.*")


@pytest.mark.parametrize(
    ("before", "after", "shown"),
    [
        ([], ["daemon.stopped", "daemon.started", "run.finished", "daemon.stopped", "later"], 4),
        (["run.finished"], ["daemon.stopped", "later"], 1),
        (
            ["run.finished", "daemon.stopped"],
            ["run.started", "daemon.stopped", "run.stopped", "daemon.stopped", "x"],
            4,
        ),
    ],
)
def test_following_goes_on_until_the_run_has_ended(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    before: list[str],
    after: list[str],
    shown: int,
) -> None:
    """A daemon that only shuts down is back with the next start; the end may have come before the following."""
    monkeypatch.setenv("SWEEP_HOME", str(tmp_path))
    log = Home(tmp_path.resolve()).audit_log("p")
    log.parent.mkdir(parents=True)
    log.write_bytes(b"".join(line_of(event=event) for event in before))
    left = [line_of(event=event) for event in after]

    def sleep(*_: object) -> None:
        with log.open("ab") as file:
            file.write(left.pop(0))

    monkeypatch.setattr(tail.time, "sleep", sleep)
    assert supervisorctl.main(["tail", "p", "-f", "-n", "0"]) == 0
    assert [json.loads(line)["event"] for line in capsys.readouterr().out.splitlines()] == after[:shown]


@pytest.mark.parametrize(
    ("filters", "changes", "passes"),
    [
        ({"level": "warning"}, {"level": "info"}, False),
        ({"level": "warning"}, {"level": "warning"}, True),
        ({"level": "warning"}, {"level": "error"}, True),
        ({"level": "error"}, {"level": "loud"}, True),
        ({"since": datetime(2026, 11, 23, 10, 20, 30, tzinfo=UTC)}, {}, True),
        ({"since": datetime(2026, 11, 23, 10, 20, 31, tzinfo=UTC)}, {}, False),
        ({"since": datetime(2026, 11, 23, 10, tzinfo=UTC)}, {"ts": "lost"}, False),
        ({"pattern": re.compile("fin.*0")}, {"msg": "trial 7 finished: 0.25"}, True),
        ({"pattern": re.compile("disk")}, {"error": "a disk hiccup"}, True),
        ({"pattern": re.compile("disk")}, {"msg": "x", "prev": "disk"}, False),
        ({"pattern": re.compile("7")}, {"msg": "x"}, False),
    ],
)
def test_filters_by_level_time_and_text(filters: dict[str, Any], changes: dict[str, Any], passes: bool) -> None:
    assert tail.Filters(**filters).pass_line(line_of(**changes)) is passes


def test_older_parts_are_read_as_far_as_the_time_that_is_asked_for() -> None:
    """Newest part first; the one that begins before it may hold it, an older one cannot."""
    parts = [[line_of(ts=f"2026-11-{day}T00:00:00Z", trial=day), line_of(trial=day)] for day in (23, 21, 19)]
    since = datetime(2026, 11, 22, tzinfo=UTC)
    read = [[json.loads(line)["trial"] for line in part] for part in event_filters.parts_since(iter(parts), since)]
    assert read == [[23, 23], [21, 21]]
    assert [list(part) for part in event_filters.parts_since(parts, None)] == parts
    assert [list(part) for part in event_filters.parts_since([[], parts[0]], since)] == [[b""], parts[0]]


@pytest.mark.parametrize(
    ("text", "at"),
    [
        ("45s", datetime(2026, 11, 23, 11, 59, 15, tzinfo=UTC)),
        ("30m", datetime(2026, 11, 23, 11, 30, tzinfo=UTC)),
        ("2h", datetime(2026, 11, 23, 10, tzinfo=UTC)),
        ("1.5d", datetime(2026, 11, 22, 0, tzinfo=UTC)),
        ("2026-11-20", datetime(2026, 11, 20, tzinfo=UTC)),
        ("2026-11-20T08:30-05:00", datetime(2026, 11, 20, 13, 30, tzinfo=UTC)),
    ],
)
def test_a_time_is_written_as_a_duration_or_a_date(text: str, at: datetime) -> None:
    assert event_filters.since_time(text, SAME_DAY) == at


@pytest.mark.parametrize("text", ["", "s", "h2", "2w", "yesterday", "nand", "1e400d", "9999999999d", "2026-13-01"])
def test_another_time_is_refused_with_what_to_write(text: str) -> None:
    with pytest.raises(UsageError, match="expected a duration or a time") as refusal:
        event_filters.since_time(text, SAME_DAY)
    assert "30m" in (refusal.value.remedy or "")


NEW_YORK = timezone(timedelta(hours=-5), "EST")
SAME_DAY, NEXT_DAY = datetime(2026, 11, 23, 12, tzinfo=UTC), datetime(2026, 11, 24, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("changes", "now", "line"),
    [
        ({"msg": "trial 7 finished: 0.25"}, SAME_DAY, "10:20:30 UTC  2M-h1: trial 7 finished: 0.25"),
        ({"msg": "lost", "level": "warning"}, SAME_DAY, "10:20:30 UTC  ! 2M-h1: lost"),
        ({"msg": "failed", "level": "error"}, NEXT_DAY, "2026-11-23 10:20:30 UTC  !! 2M-h1: failed"),
        ({"msg": "x"}, NEXT_DAY.astimezone(NEW_YORK), "05:20:30 EST  2M-h1: x"),
        (
            {"msg": "x", "ts": "2026-11-23T02:20:30Z"},
            SAME_DAY.astimezone(NEW_YORK),
            "2026-11-22 21:20:30 EST  2M-h1: x",
        ),
        ({"msg": "x", "ts": "lost"}, SAME_DAY, "lost  2M-h1: x"),
    ],
)
def test_a_record_for_people_has_its_time_zone_and_its_date_when_not_todays(
    changes: dict[str, str], now: datetime, line: str
) -> None:
    assert tail.pretty(RECORD | changes, now) == line


@pytest.mark.parametrize("line", [b"", b"\n", b"half {", b"[1]\n", b"7\n", b"\xff\xfe\n"])
def test_a_line_that_is_no_record_is_skipped(line: bytes) -> None:
    assert tail.parse(line) is None


def test_a_record_is_parsed() -> None:
    assert tail.parse(json.dumps(RECORD).encode() + b"\n") == RECORD


def test_a_sentence_for_people_steers_no_terminal() -> None:
    record = {"ts": "2026-11-30T08:00:00Z", "msg": "trial 1 \x1b[31mfailed\x1b[0m\x07"}
    assert tail.pretty(record, datetime(2026, 11, 30, 9, tzinfo=UTC)) == "08:00:00 UTC  trial 1 failed"
