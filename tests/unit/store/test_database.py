"""Test the store: changes commit with their events, and unsound files are refused."""

from __future__ import annotations

import sqlite3
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.errors import DiskFull, StoreDamaged, StoreError, StoreLocked, StoreTooNew, StoreTooOld
from supervisor.store.database import Store, read_only
from supervisor.store.event import Event
from supervisor.store.schema import VERSION


class FixedClock(Clock):
    def wall_s(self) -> float:
        return 1_700_000_000.0


def open_store(folder: Path, handled: list[Event] | None = None) -> Store:
    store = Store(folder / "sweep.db", FixedClock())
    if handled is not None:
        store.after_each_change(handled.extend)
    return store


def change_and_fail(store: Store) -> None:
    with store.change() as change:
        change.execute("INSERT INTO meta VALUES ('a', '1')")
        change.record("daemon.stopped", reason="x")
        raise RuntimeError("halfway")


def change_and_tell(store: Store, name: str, **fields: Any) -> None:
    with store.change() as change:
        change.execute("INSERT INTO meta VALUES ('a', '1')")
        change.record(name, **fields)


class FailingCommit:
    """A connection whose next COMMIT fails as a full disk makes it fail: the transaction stays open."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection, self.armed = connection, True

    def execute(self, sql: str, *values: Any) -> sqlite3.Cursor:
        if sql == "COMMIT" and self.armed:
            self.armed = False
            raise sqlite3.OperationalError("database or disk is full")
        return self._connection.execute(sql, *values)

    def __getattr__(self, name: str) -> object:
        return getattr(self._connection, name)


def test_a_change_and_its_events_commit_together_and_are_told_in_order(tmp_path: Path) -> None:
    handled: list[Event] = []
    store = open_store(tmp_path, handled)
    with store.change() as change:
        change.execute("INSERT INTO meta VALUES ('a', '1')")
        change.record("daemon.stopped", reason="one")
        change.record("daemon.stopped", reason="two")
        assert handled == [], "no event is handled before the commit"
    assert [event.fields["reason"] for event in handled] == ["one", "two"]
    assert store.events_after(0) == handled
    assert store.row("SELECT value FROM meta WHERE key = 'a'")["value"] == "1"  # type: ignore[index]


def test_an_exception_inside_leaves_neither_the_change_nor_its_events(tmp_path: Path) -> None:
    handled: list[Event] = []
    store = open_store(tmp_path, handled)
    with pytest.raises(RuntimeError, match="halfway"):
        change_and_fail(store)
    assert handled == []
    assert store.events_after(0) == []
    assert store.rows("SELECT * FROM meta") == []


@pytest.mark.parametrize(
    ("name", "fields", "complaint"),
    [
        ("no.such_event", {}, "expected an event of EVENTS"),
        ("daemon.stopped", {"colour": "red"}, "has no field colour"),
    ],
)
def test_an_event_outside_the_table_rolls_its_change_back(
    tmp_path: Path, name: str, fields: dict[str, str], complaint: str
) -> None:
    store = open_store(tmp_path)
    with pytest.raises(ValueError, match=complaint):
        change_and_tell(store, name, **fields)
    assert store.rows("SELECT * FROM meta") == []


def test_a_commit_that_fails_is_rolled_back_and_the_next_change_works(tmp_path: Path) -> None:
    handled: list[Event] = []
    store = open_store(tmp_path, handled)
    store.connection = FailingCommit(store.connection)  # type: ignore[assignment]
    with pytest.raises(sqlite3.OperationalError, match="full"), store.change() as change:
        change.record("daemon.stopped", reason="lost")
    with store.change() as change:
        change.record("daemon.stopped", reason="kept")
    assert [event.fields["reason"] for event in store.events_after(0)] == ["kept"]
    assert [event.fields["reason"] for event in handled] == ["kept"]


def test_wal_and_synchronous_full_and_foreign_keys_are_really_set(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    found = [store.rows(f"PRAGMA {name}")[0][0] for name in ("journal_mode", "synchronous", "foreign_keys")]
    assert found == ["wal", 2, 1], "synchronous 2 is FULL"


def test_seq_counts_up_and_never_repeats_across_opens_and_rollbacks(tmp_path: Path) -> None:
    seen: list[int] = []
    for life in range(3):
        handled: list[Event] = []
        store = open_store(tmp_path, handled)
        with store.change() as change:
            change.record("daemon.stopped", reason=f"{life}")
        with pytest.raises(RuntimeError):
            change_and_fail(store)
        with store.change() as change:
            change.record("daemon.stopped", reason=f"{life} again")
        seen += [event.seq for event in handled]
        store.close()
    assert seen == sorted(set(seen))
    assert len(seen) == 6


def test_a_second_open_sees_what_the_first_committed(tmp_path: Path) -> None:
    first = open_store(tmp_path)
    with first.change("run-1") as change:
        change.record("daemon.stopped", reason="x")
    before = first.events_after(0)
    first.close()
    assert open_store(tmp_path).events_after(0) == before


def test_events_after_gives_one_plans_events_only_and_at_most_the_limit(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    for run, plan in (("a-1", "a"), ("b-1", "b"), ("a-2", "a")):
        with store.change(run) as change:
            change.execute(
                "INSERT INTO run VALUES (?, ?, '', '', '', '{}', '{}', 'STOPPED', 'run', NULL, 0, NULL)", run, plan
            )
            change.record("daemon.stopped", reason=run)
    assert [event.run for event in store.events_after(0, "a")] == ["a-1", "a-2"]
    assert [event.run for event in store.events_after(0, limit=2)] == ["a-1", "b-1"]


@pytest.mark.parametrize(
    ("version", "error", "cure"),
    [(VERSION + 1, StoreTooNew, "upgrade this installation"), (VERSION - 1, StoreTooOld, "finish its run with")],
)
def test_a_store_of_another_schema_is_refused_with_the_cure_and_left_as_it_was(
    tmp_path: Path, version: int, error: type[StoreError], cure: str
) -> None:
    store = open_store(tmp_path)
    store.connection.execute(f"PRAGMA user_version = {version}")
    store.close()
    before = (tmp_path / "sweep.db").read_bytes()
    with pytest.raises(
        error, match=f"has schema {version}; this version of the program reads schema {VERSION}"
    ) as refusal:
        open_store(tmp_path)
    assert cure in refusal.value.render()
    assert "SWEEP_HOME" in refusal.value.render()
    with pytest.raises(error), read_only(tmp_path / "sweep.db"):
        pass
    assert (tmp_path / "sweep.db").read_bytes() == before


@pytest.mark.parametrize("where", ["header", "pages"])
def test_a_damaged_file_is_refused_with_the_cure_and_not_touched(tmp_path: Path, where: str) -> None:
    path = tmp_path / "sweep.db"
    store = open_store(tmp_path)
    with store.change() as change:
        for number in range(200):
            change.execute("INSERT INTO meta VALUES (?, ?)", f"{number:08}", "x" * 200)
    store.close()
    whole = bytearray(path.read_bytes())
    if where == "header":
        whole[:16] = b"not a database!!"
    else:
        for start in range(4096, len(whole), 4096):
            whole[start : start + 64] = b"\xff" * 64
    path.write_bytes(whole)
    with pytest.raises(StoreDamaged) as refusal:
        open_store(tmp_path)
    assert "supervisorctl repair" in refusal.value.render()
    assert path.read_bytes() == bytes(whole)


def test_a_reader_without_a_daemon_sees_what_a_killed_one_committed(tmp_path: Path) -> None:
    """The writer's connection is still open here, as its files are after a kill -9: the WAL is not merged."""
    store = open_store(tmp_path)
    with store.change() as change:
        change.execute("INSERT INTO meta VALUES ('a', '1')")
    with read_only(store.path) as connection:
        assert connection.execute("SELECT value FROM meta").fetchone()["value"] == "1"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM meta")


def test_reading_what_is_no_store_raises_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "sweep.db"
    path.write_bytes(b"not a database, but long enough to look like one" * 100)
    with pytest.raises(StoreError, match="cannot be read"), read_only(path) as connection:
        connection.execute("SELECT * FROM run")
    with pytest.raises(StoreError, match="cannot be read"), read_only(tmp_path / "absent.db"):
        pass


def test_another_programs_lock_is_waited_for_then_refused_and_when_it_lets_go_all_is_well(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A backup tool that copies the file itself: no reason to end, since it passes."""
    monkeypatch.setattr("supervisor.store.database.BUSY_TIMEOUT_S", 0.05)
    store = Store(tmp_path / "sweep.db", Clock())
    other = sqlite3.connect(store.path, isolation_level=None)
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreLocked, match="another program holds") as refusal, store.change() as change:
        change.record("run.started")
    assert store.locked
    assert "supervisorctl backup" in str(refusal.value.remedy)
    assert isinstance(refusal.value, DiskFull), "whoever waits for space waits for this, too"
    other.execute("ROLLBACK")
    with store.change() as change:
        change.record("run.started")
    assert not store.locked
    assert [event.name for event in store.events_after(0)] == ["run.started"]
    other.close()
    store.close()
