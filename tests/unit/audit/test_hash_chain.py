"""Test that the chain shows each changed, lost or added line."""

from __future__ import annotations

import gzip
import hashlib
import json
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.audit import rotation
from supervisor.audit.hash_chain import Head, walk
from supervisor.audit.log import AuditLog, head_key, open_audit_log, recorded_head
from supervisor.audit.rotation import Limits, all_parts, lines_of, older_parts
from supervisor.cli.show import tail
from supervisor.clock import Clock
from supervisor.errors import LogDamaged
from supervisor.store.database import Store

SMALL = Limits(max_bytes=700, parts=4)


@pytest.fixture
def store(tmp_path: Path) -> Store:
    made = Store(tmp_path / "sweep.db", Clock())
    with made.change("a-1") as change:
        change.execute("INSERT INTO run VALUES ('a-1', 'a', '', '', '', '{}', '{}', 'STOPPED', 'run', NULL, 0, NULL)")
    return made


def fill(store: Store, log: AuditLog, count: int) -> None:
    for number in range(count):
        with store.change("a-1") as change:
            change.record("daemon.stopped", reason=f"{number}")
        log.catch_up(store, "a")


def whole(path: Path) -> list[dict[str, Any]]:
    """Return every record of every part; raise LogDamaged unless the chain holds across them."""
    lines = [line for part in all_parts(path) for line in lines_of(part)]
    return [record for record, _ in walk(lines, "all parts")]


def test_each_line_names_the_digest_of_the_one_before_newline_included(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path), 3)
    lines = path.read_bytes().splitlines(keepends=True)
    prevs = [json.loads(line)["prev"] for line in lines]
    assert prevs == [None, *(hashlib.sha256(line).hexdigest() for line in lines[:-1])]


def test_the_chain_goes_on_over_restarts_rotations_and_reopening(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    for _ in range(3):
        log = AuditLog(path, limits=SMALL)
        fill(store, log, 2)
        log.close()
    log = AuditLog(path, limits=SMALL)
    path.rename(tmp_path / "moved")
    log.reopen()
    fill(store, log, 1)
    lines = [line for part in (*older_parts(path), tmp_path / "moved", path) for line in lines_of(part)]
    assert [record["reason"] for record, _ in walk(lines, "all")] == ["0", "1", "0", "1", "0", "1", "0"]


def test_older_parts_are_compressed_numbered_from_the_newest_and_bounded(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path, limits=SMALL), 40)
    assert [part.name for part in older_parts(path)] == [f"a.jsonl.{n}.gz" for n in (4, 3, 2, 1)]
    seqs = [record["seq"] for record in whole(path)]
    assert seqs == list(range(seqs[0], 41))
    assert not list(tmp_path.glob(".*.part"))


@given(data=st.data())
def test_any_change_to_any_line_but_the_last_is_found(
    data: st.DataObject, tmp_path_factory: pytest.TempPathFactory
) -> None:
    lines = data.draw(st.sampled_from([_lines(tmp_path_factory)]))
    number = data.draw(st.integers(0, len(lines) - 2))
    kind = data.draw(st.sampled_from(["drop", "twice", "swap", "flip"]))
    damaged = list(lines)
    if kind == "drop":
        del damaged[number]
        if number == 0:
            return  # the beginning may be in an older part
    elif kind == "twice":
        damaged.insert(number, lines[number])
    elif kind == "swap":
        damaged[number], damaged[number + 1] = damaged[number + 1], damaged[number]
    else:
        at = data.draw(st.integers(0, len(lines[number]) - 2))
        damaged[number] = lines[number][:at] + bytes([lines[number][at] ^ 1]) + lines[number][at + 1 :]
    with pytest.raises(LogDamaged):
        list(walk(damaged, "x"))


_KEPT: list[bytes] = []


def _lines(factory: pytest.TempPathFactory) -> list[bytes]:
    if not _KEPT:
        folder = factory.mktemp("chain")
        made = Store(folder / "sweep.db", Clock())
        with made.change("a-1") as change:
            change.execute(
                "INSERT INTO run VALUES ('a-1', 'a', '', '', '', '{}', '{}', 'STOPPED', 'run', NULL, 0, NULL)"
            )
        fill(made, AuditLog(folder / "a.jsonl"), 6)
        _KEPT.extend((folder / "a.jsonl").read_bytes().splitlines(keepends=True))
    return _KEPT


def test_a_line_without_the_digest_of_the_one_before_is_damage(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path), 3)
    written = path.read_text().splitlines(keepends=True)
    for place in range(3):
        record = json.loads(written[place])
        del record["prev"]
        path.write_text("".join([*written[:place], json.dumps(record) + "\n", *written[place + 1 :]]))
        with pytest.raises(LogDamaged, match=f"line {place + 1}: expected an event of the chain"):
            AuditLog(path)


def recorded(store: Store, log: AuditLog) -> Head:
    """Store the head with the next change, as the daemon does."""
    store.note(head_key(log.path), log.head.to_json())
    with store.change("a-1") as change:
        change.record("daemon.stopped", reason="rides")
    found = recorded_head(log.path, store)
    assert found is not None
    return found


def test_the_head_is_stored_with_the_next_change_and_not_with_one_that_fails(tmp_path: Path, store: Store) -> None:
    log = AuditLog(tmp_path / "a.jsonl")
    fill(store, log, 1)
    store.note(head_key(log.path), log.head.to_json())
    with pytest.raises(RuntimeError), store.change("a-1"):
        raise RuntimeError
    assert recorded_head(log.path, store) is None
    assert recorded(store, log) == log.head


def test_lines_lost_at_the_end_of_the_log_are_recorded_and_written_again(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path)
    fill(store, log, 4)
    recorded(store, log)
    before = path.read_bytes()
    path.write_bytes(b"".join(before.splitlines(keepends=True)[:2]))
    again, _ = open_audit_log(path, store)
    assert again.lost_from == again.last_seq
    again.catch_up(store, "a")
    assert path.read_bytes().startswith(before)


def test_a_last_line_that_differs_from_the_stores_note_is_refused(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path)
    fill(store, log, 2)
    recorded(store, log)
    path.write_bytes(path.read_bytes().replace(b'"reason":"1"', b'"reason":"2"'))
    with pytest.raises(LogDamaged, match="differs from the store's note"):
        open_audit_log(path, store)


@pytest.mark.parametrize("step", ["renamed", "compressed beside", "compressed and renamed"])
def test_a_rotation_that_a_crash_cut_off_is_finished_at_the_next_opening(
    tmp_path: Path, store: Store, step: str
) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path), 3)
    shutil.move(path, tmp_path / "a.jsonl.1")
    plain = (tmp_path / "a.jsonl.1").read_bytes()
    if step == "compressed beside":
        (tmp_path / ".a.jsonl.1.gz.77.part").write_bytes(b"half")
    elif step == "compressed and renamed":
        (tmp_path / "a.jsonl.1.gz").write_bytes(gzip.compress(plain))
    log = AuditLog(path)
    fill(store, log, 1)
    assert sorted(found.name for found in tmp_path.glob("a.jsonl*")) == ["a.jsonl", "a.jsonl.1.gz"]
    assert [record["seq"] for record in whole(path)] == [1, 2, 3, 4]


def test_a_hole_in_the_numbers_is_filled_and_nothing_is_renamed_over(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path, limits=Limits(400, 9)), 7)
    before = whole(path)
    (tmp_path / "a.jsonl.3.gz").rename(tmp_path / "a.jsonl.7.gz")
    (tmp_path / "a.jsonl.2.gz").rename(tmp_path / "a.jsonl.3.gz")
    kept = {part.read_bytes() for part in older_parts(path)}
    fill(store, AuditLog(path, limits=Limits(400, 9)), 2)
    assert kept <= {part.read_bytes() for part in older_parts(path)}
    assert len(before) > 3


def test_a_log_that_cannot_be_rotated_grows_on(tmp_path: Path, store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path, limits=SMALL)
    with monkeypatch.context() as patch:

        def refuse(*_: object) -> None:
            raise OSError(5, "input/output error")

        patch.setattr(rotation, "rotate", refuse)
        fill(store, log, 9)
    assert older_parts(path) == []
    assert len(whole(path)) == 9
    fill(store, log, 1)
    assert [part.name for part in older_parts(path)] == ["a.jsonl.1.gz"]
    assert len(whole(path)) == 10


def test_a_follower_reads_across_a_rotation_without_loss(tmp_path: Path, store: Store) -> None:
    path = tmp_path / "a.jsonl"
    log = AuditLog(path, limits=Limits(900, 5))
    fill(store, log, 1)
    steps = iter(range(6))
    seen: list[int] = []

    def write_more(_: float) -> None:
        if next(steps, None) is not None:
            fill(store, log, 1)

    with path.open("rb") as file:
        for line in tail.follow(path, file, sleep=write_more, until=lambda: len(seen) == 7):
            seen.append(json.loads(line)["seq"])
            if len(seen) == 7:
                break
    assert seen == [1, 2, 3, 4, 5, 6, 7]
    assert older_parts(path), "the log was rotated while it was read"


@pytest.mark.parametrize("nonsense", ["", "{", "[]", "7", '{"seq": "1", "sha256": null}', '{"seq": 1, "sha256": 2}'])
def test_an_unreadable_note_of_the_logs_end_stops_no_start(
    tmp_path: Path, store: Store, nonsense: str, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "a.jsonl"
    fill(store, AuditLog(path), 2)
    store.note(head_key(path), nonsense)
    with store.change("a-1") as change:
        change.record("daemon.stopped", reason="last")
    log, aside = open_audit_log(path, store)
    log.catch_up(store, "a")
    assert aside is None
    assert "cannot be read" in caplog.text
    assert [record["seq"] for record in whole(path)] == [1, 2, 3]
    with pytest.raises(ValueError, match=r"head of a chain|Expecting"):
        Head.from_json(nonsense)
