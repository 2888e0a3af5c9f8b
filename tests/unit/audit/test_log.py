"""Test that the audit log may lag behind the store, but never lead."""

from __future__ import annotations

import dataclasses
import errno
import json
import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit.log import AuditLog, open_audit_log
from supervisor.clock import Clock
from supervisor.errors import DiskFailed, LogDamaged, SweepError
from supervisor.store.database import Store
from supervisor.store.event import Event


class CountingClock(Clock):
    """A clock that is a second later at each reading."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start

    def wall_s(self) -> float:
        self.now += 1.0
        return self.now


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return make_store(tmp_path / "sweep.db")


def make_store(path: Path, start: float = 1_700_000_000.0) -> Store:
    made = Store(path, CountingClock(start))
    for run, plan in (("a-1", "a"), ("a-2", "a"), ("b-1", "b")):
        with made.change(run) as change:
            change.execute(
                "INSERT INTO run VALUES (?, ?, '', '', '', '{}', '{}', 'STOPPED', 'run', NULL, 0, NULL)", run, plan
            )
    return made


def record(store: Store, reason: str, run: str = "a-1", **ids: int) -> Event:
    with store.change(run) as change:
        change.record("trial.resumed", experiment="x", reason=reason, **ids)
    return store.events_after(0)[-1]


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_bytes().splitlines()]


def reasons(path: Path) -> list[str]:
    return [line["reason"] for line in lines(path)]


def test_a_line_holds_time_number_level_name_sentence_ids_and_fields_in_that_order(
    tmp_path: Path, store: Store
) -> None:
    event = record(store, "cool again", trial=3, attempt=2)
    AuditLog(tmp_path / "a.jsonl").append(event)
    (line,) = lines(tmp_path / "a.jsonl")
    assert list(line) == [
        "ts",
        "seq",
        "level",
        "event",
        "msg",
        "run",
        "experiment",
        "trial",
        "attempt",
        "reason",
        "prev",
    ]
    assert line["ts"] == "2023-11-14T22:13:24.000000Z"
    assert (line["level"], line["event"], line["msg"]) == ("info", "trial.resumed", "trial 3 resumed")


def test_the_file_is_for_its_owner_only(tmp_path: Path) -> None:
    old = os.umask(0)
    try:
        AuditLog(tmp_path / "a.jsonl").close()
    finally:
        os.umask(old)
    assert stat.S_IMODE((tmp_path / "a.jsonl").stat().st_mode) == 0o600


def test_a_link_in_its_place_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "target").write_bytes(b"precious")
    (tmp_path / "a.jsonl").symlink_to(tmp_path / "target")
    with pytest.raises(SweepError, match="cannot be written") as refusal:
        AuditLog(tmp_path / "a.jsonl")
    assert refusal.value.remedy is not None
    assert (tmp_path / "target").read_bytes() == b"precious"


@pytest.mark.parametrize("torn", [b'{"ts":"2023', b"\0\0\0\0", b"x"])
def test_a_torn_tail_is_cut_and_counted_and_whole_lines_stay(tmp_path: Path, store: Store, torn: bytes) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path)
    log.append(record(store, "one"))
    log.close()
    whole = path.read_bytes()
    path.write_bytes(whole + torn)
    again = AuditLog(path)
    assert (again.torn_bytes, path.read_bytes()) == (len(torn), whole)
    again.append(record(store, "two"))
    assert reasons(path) == ["one", "two"]


def test_a_new_or_whole_log_has_nothing_torn(tmp_path: Path, store: Store) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    assert (log.torn_bytes, log.last_seq) == (0, 0)
    event = record(store, "one")
    log.append(event)
    again = AuditLog(tmp_path / "a.jsonl")
    assert (again.torn_bytes, again.last_seq) == (0, event.seq)


@pytest.mark.parametrize("foreign", [b"\nnote to self: fan cleaned\n", b"[1]\n", b"{}\n", b"milk\nbread\n"])
def test_damage_before_the_last_line_is_refused_with_the_cure_and_stays(
    tmp_path: Path, store: Store, foreign: bytes
) -> None:
    path = tmp_path / "a.jsonl"
    AuditLog(path).append(record(store, "one"))
    with path.open("ab") as file:
        file.write(foreign)
    before = path.read_bytes()
    with pytest.raises(LogDamaged, match="line 2: expected an event of the chain") as refusal:
        AuditLog(path)
    assert "supervisorctl repair" in refusal.value.render()
    assert path.read_bytes() == before


@pytest.mark.parametrize("written", range(5))
def test_catch_up_writes_exactly_the_events_that_a_crash_before_append_left_out(
    tmp_path: Path, store: Store, written: int
) -> None:
    path = tmp_path / "a.jsonl"
    events = [record(store, f"{number}") for number in range(4)]
    dead = AuditLog(path)
    for event in events[:written]:
        dead.append(event)
    dead.close()
    log = AuditLog(path)
    assert log.catch_up(store, "a") == max(0, 4 - written)
    assert reasons(path) == ["0", "1", "2", "3"]
    assert log.catch_up(store, "a") == 0, "a second time there is nothing to do"


def test_catch_up_takes_in_every_run_of_the_plan_and_no_other_plans(tmp_path: Path, store: Store) -> None:
    """A run that was given up for a new one has an event from before the log was open."""
    for reason, run in (("given up", "a-1"), ("another plan's", "b-1"), ("new", "a-2")):
        record(store, reason, run)
    AuditLog(tmp_path / "a.jsonl").catch_up(store, "a")
    assert reasons(tmp_path / "a.jsonl") == ["given up", "new"]


def test_catch_up_does_not_stop_at_a_page(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    for number in range(7):
        record(store, f"{number}")
    whole = store.events_after
    monkeypatch.setattr(store, "events_after", lambda seq, plan: whole(seq, plan, limit=3))
    assert AuditLog(tmp_path / "a.jsonl").catch_up(store, "a") == 7
    assert reasons(tmp_path / "a.jsonl") == [f"{number}" for number in range(7)]


def test_an_event_that_is_there_already_is_not_written_again(tmp_path: Path, store: Store) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    first, second = record(store, "one"), record(store, "two")
    for event in (first, second, first, second):
        log.append(event)
    assert reasons(tmp_path / "a.jsonl") == ["one", "two"]


class FullDisk:
    """os.write that stops halfway while `full`, as write(2) does when space runs out."""

    def __init__(self) -> None:
        self.full = True
        self._write = os.write

    def __call__(self, fd: int, data: bytes) -> int:
        return self._write(fd, data[: len(data) // 2] if self.full else data)


def test_a_full_disk_leaves_no_half_line_and_missed_events_come_later_in_order(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path)
    log.append(record(store, "one"))
    disk = FullDisk()
    monkeypatch.setattr("supervisor.audit.log.os.write", disk)
    with pytest.raises(OSError, match=os.strerror(errno.ENOSPC)):
        log.append(record(store, "two"))
    assert reasons(path) == ["one"]
    assert log.append_committed(record(store, "three"), store, "a") is not None, "the store has it, so the work goes on"
    disk.full = False
    assert log.append_committed(record(store, "four"), store, "a") is None
    assert reasons(path) == ["one", "two", "three", "four"]


def failing_fsync(number: int) -> Callable[[int], None]:
    def fails(fd: int) -> None:
        raise OSError(number, os.strerror(number))

    return fails


def test_an_fsync_without_space_removes_the_line_and_may_be_tried_again(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    event = record(store, "one")
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.audit.log.os.fsync", failing_fsync(errno.ENOSPC))
        with pytest.raises(OSError, match="No space"):
            log.append(event)
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    log.append(event)
    assert reasons(tmp_path / "a.jsonl") == ["one"]


def test_an_fsync_that_failed_on_the_disk_is_final(
    tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next fsync would succeed although the page is lost: no more lines are written."""
    log = AuditLog(tmp_path / "a.jsonl")
    with monkeypatch.context() as patch:
        patch.setattr("supervisor.audit.log.os.fsync", failing_fsync(errno.EIO))
        with pytest.raises(DiskFailed, match="could not be synced"):
            log.append_committed(record(store, "one"), store, "a")
    with pytest.raises(DiskFailed, match="no more lines are written"):
        log.append_committed(record(store, "two"), store, "a")
    assert (tmp_path / "a.jsonl").read_bytes() == b""
    again = AuditLog(tmp_path / "a.jsonl")
    again.catch_up(store, "a")
    assert reasons(tmp_path / "a.jsonl") == ["one", "two"], "the next start writes the store's events"


def test_the_log_of_another_store_is_moved_aside_and_the_new_one_is_whole(tmp_path: Path, store: Store) -> None:
    """The cure for a damaged store is to move it; the new one counts from 1, below the old log's numbers."""
    path = tmp_path / "a.jsonl"
    log, aside = open_audit_log(path, store)
    assert aside is None
    for number in range(5):
        log.append(record(store, f"old {number}"))
    log.close()
    old = path.read_bytes()
    fresh = make_store(tmp_path / "fresh.db", start=1_800_000_000.0)
    for number in range(6):
        record(fresh, f"new {number}")
    log, aside = open_audit_log(path, fresh)
    assert aside is not None
    assert aside.read_bytes() == old
    log.catch_up(fresh, "a")
    assert reasons(path) == [f"new {number}" for number in range(6)]


def test_the_log_of_the_same_store_stays_in_place(tmp_path: Path, store: Store) -> None:
    log, _ = open_audit_log(tmp_path / "a.jsonl", store)
    log.append(record(store, "one"))
    log.close()
    assert open_audit_log(tmp_path / "a.jsonl", store)[1] is None


def test_a_field_that_orjson_cannot_write_is_still_written(tmp_path: Path, store: Store) -> None:
    with store.change("a-1") as change:
        change.record("trial.reduced", experiment="x", trial=1, memory={"seed": 2**70, "name": "\udcff"})
    AuditLog(tmp_path / "a.jsonl").catch_up(store, "a")
    assert lines(tmp_path / "a.jsonl")[0]["memory"] == {"seed": 2**70, "name": "\udcff"}


def test_an_event_of_a_later_version_is_written_too(tmp_path: Path, store: Store) -> None:
    """A later daemon may have died between its commit and the log's line."""
    event = dataclasses.replace(record(store, "one"), name="trial.teleported")
    log = AuditLog(tmp_path / "a.jsonl")
    log.append(event)
    (line,) = lines(tmp_path / "a.jsonl")
    assert (line["event"], line["level"], line["reason"]) == ("trial.teleported", "info", "one")
