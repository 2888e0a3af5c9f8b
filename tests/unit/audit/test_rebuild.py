"""Rebuild a lost store from the logs, equal to the last bit."""

from __future__ import annotations

import gzip
import json
from pathlib import Path

import pytest

from supervisor.audit import rebuild
from supervisor.audit.rotation import Limits
from supervisor.errors import LogDamaged, StoreError
from supervisor.home import Home
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from tests.unit.audit.rebuild_home import (
    SPECS,
    UnevenClock,
    a_run,
    lived,
    make_home,
    tables,
    write_log,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def test_a_damaged_store_is_moved_aside_and_rebuilt_with_its_cause(home: Home) -> None:
    writer = a_run(home)
    lived(writer)
    write_log(home, writer.store)
    writer.store.close()
    before = tables(home.store)
    whole = home.store.read_bytes()
    home.store.write_bytes(whole[:4096] + b"\xff" * (len(whole) - 4096))
    bad = home.store.read_bytes()
    store, rebuilt = rebuild.open_or_rebuild(home, UnevenClock())
    store.close()
    assert rebuilt is not None
    assert tables(home.store) == before
    assert "is damaged" in rebuilt.cause or "not a sound store" in rebuilt.cause
    assert rebuilt.aside is not None
    assert Path(rebuilt.aside).read_bytes() == bad
    assert rebuilt.aside in rebuilt.sentence()
    assert rebuild.NOT_REBUILT in rebuilt.sentence()


def test_a_missing_or_old_store_is_rebuilt_and_a_sound_one_is_kept(home: Home) -> None:
    writer = a_run(home)
    write_log(home, writer.store)
    writer.store.close()
    old = home.store.read_bytes()
    writer = RunWriter(Store(home.store, UnevenClock(1_700_001_000.0)), "p-1")
    lived(writer)
    write_log(home, writer.store)
    writer.store.close()
    before = tables(home.store)
    store, rebuilt = rebuild.open_or_rebuild(home, UnevenClock())
    store.close()
    assert rebuilt is None
    home.store.write_bytes(old)
    store, rebuilt = rebuild.open_or_rebuild(home, UnevenClock())
    store.close()
    assert rebuilt is not None
    assert "has later events than the store" in rebuilt.cause
    assert tables(home.store) == before
    store, again = rebuild.open_or_rebuild(home, UnevenClock())
    store.close()
    assert again == rebuilt, "until a daemon records it, the next one gets it"
    home.store.unlink()
    store, rebuilt = rebuild.open_or_rebuild(home, UnevenClock())
    store.close()
    assert rebuilt is not None
    assert rebuilt.cause == "it was missing"
    assert tables(home.store) == before


def test_a_home_that_is_new_gets_a_new_store(home: Home) -> None:
    (home.logs / "debug.jsonl").write_text('{"event": "not one of ours"}\n')
    store, rebuilt = rebuild.open_or_rebuild(home, UnevenClock())
    assert rebuilt is None
    assert store.events_after(0) == []


def test_the_write_ahead_log_of_the_lost_store_is_moved_with_it(home: Home) -> None:
    """A write-ahead log that stayed would be applied to the next store of that name."""
    writer = a_run(home)
    lived(writer)
    write_log(home, writer.store)
    wal = home.store.with_name("sweep.db-wal")
    kept = wal.read_bytes()
    assert kept
    aside = home.state / "sweep.db.aside-1"
    rebuild.set_aside(home, aside)
    assert aside.with_name(f"{aside.name}-wal").read_bytes() == kept
    assert list(home.state.glob("sweep.db")) + list(home.state.glob("sweep.db-*")) == []


def test_logs_of_two_plans_and_their_older_parts_are_merged_by_number(home: Home) -> None:
    writer = a_run(home, "p")
    create_run(
        writer.store, "q-1", plan="q", fingerprint="f", source="built-in", plan_text="", hardware={}, data={},
        specs=SPECS,
    )  # fmt: skip
    other = RunWriter(writer.store, "q-1")
    lived(writer)
    lived(other)
    for plan in ("p", "q"):
        write_log(home, writer.store, plan, Limits(max_bytes=2000, parts=50))
    writer.store.close()
    assert list(home.logs.glob("p.jsonl.*.gz"))
    before = tables(home.store)
    rebuild.rebuild(home, UnevenClock(), "a test")
    assert tables(home.store) == before


def test_logs_of_two_stores_are_refused_with_the_cure(tmp_path: Path, home: Home) -> None:
    lived(a_run(home, "p"))
    other = make_home(tmp_path / "other")
    a_run(other, "q")
    other.audit_log("q").rename(home.audit_log("q"))
    with pytest.raises(StoreError, match="different events with the number 1") as refusal:
        rebuild.rebuild(home, UnevenClock(), "a test")
    assert "move the older" in refusal.value.render()


def test_a_damaged_log_stops_a_rebuild_unless_it_is_tolerated_and_recorded(home: Home) -> None:
    writer = a_run(home)
    lived(writer)
    write_log(home, writer.store)
    path = home.audit_log("p")
    lines = path.read_bytes().splitlines(keepends=True)
    reports = [number for number, line in enumerate(lines) if b'"trial.reported"' in line]
    path.write_bytes(b"".join(b"x\n" if number == reports[0] else line for number, line in enumerate(lines)))
    with pytest.raises(LogDamaged):
        rebuild.rebuild(home, UnevenClock(), "a test")
    rebuilt = rebuild.rebuild(home, UnevenClock(), "a test", tolerate=True)
    assert rebuilt.problems == [f"{path}, line {reports[0] + 1}"]
    assert len(tables(home.store)["result"]) == len(reports) - 1


def test_a_run_whose_beginning_is_in_no_log_is_recorded_and_its_numbers_are_not_reused(home: Home) -> None:
    writer = a_run(home)
    lived(writer)
    write_log(home, writer.store)
    path = home.audit_log("p")
    lines = path.read_bytes().splitlines(keepends=True)
    last = json.loads(lines[-1])["seq"]
    path.write_bytes(b"".join(lines[1:]))
    rebuilt = rebuild.rebuild(home, UnevenClock(), "a test")
    assert "does not hold the beginning of p-1" in rebuilt.problems[0]
    assert len(rebuilt.problems) <= rebuild.MAX_PROBLEMS
    store = Store(home.store, UnevenClock())
    assert store.rows("SELECT max(seq) FROM event")[0][0] == last


def test_a_truncated_compressed_part_is_damage_and_no_crash(home: Home) -> None:
    writer = a_run(home)
    lived(writer)
    write_log(home, writer.store)
    path = home.audit_log("p")
    squeezed = gzip.compress(path.read_bytes())
    path.with_name("p.jsonl.1.gz").write_bytes(squeezed[: len(squeezed) // 2])
    path.unlink()
    rebuilt = rebuild.rebuild(home, UnevenClock(), "a test", tolerate=True)
    assert any("p.jsonl.1.gz" in problem for problem in rebuilt.problems)
