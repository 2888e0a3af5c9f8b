"""Test messages about events: each address gets each piece of news once, and none delays any work."""

from __future__ import annotations

import asyncio
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.daemon.news.notifier import SENT_UP_TO
from supervisor.daemon.news.pace import LONGEST_WAIT_S
from supervisor.errors import UnsafeFile
from supervisor.processes.notify_file import read_settings
from supervisor.store.run_writer import RunWriter
from tests.unit.news.post import (
    ADDRESS,
    NEWS_AT_ONCE,
    OTHER,
    SECRET,
    HandClock,
    Service,
    finish_trial,
    look,
    names,
    notifier,
    record,
    run_of,
    sent_counts,
    write_addresses,
)

QUIET = "digest = off"


@pytest.fixture
def clock() -> HandClock:
    return HandClock()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return write_addresses(tmp_path / "notify", ADDRESS, QUIET)


@pytest.fixture
def writer(tmp_path: Path, clock: HandClock) -> Iterator[RunWriter]:
    with run_of(tmp_path, clock) as made:
        yield made


def failures(writer: RunWriter) -> list[str]:
    rows = writer.store.rows("SELECT json_extract(fields, '$.error') AS e FROM event WHERE name = 'notice.failed'")
    return [str(row["e"]) for row in rows]


def test_each_event_is_sent_once_and_only_from_the_start_on(writer: RunWriter, file: Path, clock: HandClock) -> None:
    record(writer, "test.failed", error="long ago")
    service = Service()
    first = notifier(writer, file, service, clock)
    record(writer, "test.failed")
    record(writer, "ray.started")
    look(first)
    assert [title for title, _ in service.messages] == ["smoke: one could not be tested: it broke"]
    look(first)
    assert len(service.messages) == 1
    assert names(writer)[-1] == "notice.sent"
    # Another daemon goes on from there.
    record(writer, "disk.filled")
    clock.now_s += 3600.0
    look(notifier(writer, file, service, clock))
    assert len(service.messages) == 2
    assert "it broke" not in service.messages[1][1]


def test_the_next_daemon_sends_what_the_last_could_not(writer: RunWriter, file: Path, clock: HandClock) -> None:
    service = Service()
    service.problems[ADDRESS] = "the service answered with status 503"
    first = notifier(writer, file, service, clock)
    record(writer, "test.failed")
    for _ in range(200):
        clock.now_s += 60.0
        look(first)
    assert failures(writer) == ["ntfy (address 1): the service answered with status 503"], "said once"
    assert service.asked < 20, "the tries get rarer"
    service.problems.clear()
    record(writer, "disk.filled")
    look(notifier(writer, file, service, clock))
    (message,) = service.messages
    assert "it broke" in message[1]
    assert "work pauses until there is space" in message[1]
    assert sent_counts(writer) == [2]


def test_an_address_that_is_down_holds_up_no_other_and_none_gets_a_message_twice(
    writer: RunWriter, tmp_path: Path, clock: HandClock
) -> None:
    file, service = write_addresses(tmp_path / "notify", ADDRESS, OTHER, QUIET), Service()
    service.problems[OTHER] = "there is no connection to the service"
    it = notifier(writer, file, service, clock)
    for _ in range(3):
        record(writer, "test.failed")
        clock.now_s += 4000.0
        look(it)
    assert len(service.taken[ADDRESS]) == 3
    assert OTHER not in service.taken
    service.problems.clear()
    again = notifier(writer, file, service, clock)
    look(again)
    assert len(service.taken[ADDRESS]) == 3, "it has them already"
    (owed,) = service.taken[OTHER]
    assert owed.count("it broke") == 3
    assert all("json (address 2)" in failure for failure in failures(writer))
    assert SECRET not in json.dumps([dict(row) for row in writer.store.rows("SELECT * FROM event")])


def test_what_each_daemon_finds_again_is_told_once_in_a_run(writer: RunWriter, file: Path, clock: HandClock) -> None:
    service = Service()
    for _ in range(3):
        it = notifier(writer, file, service, clock)
        record(writer, "watchdog.unprotected")
        clock.now_s += 86400.0
        look(it)
    assert sent_counts(writer) == [1]


def test_no_event_is_read_twice(writer: RunWriter, file: Path, clock: HandClock) -> None:
    it = notifier(writer, file, Service(), clock)
    record(writer, "ray.started")
    look(it)
    record(writer, "ray.started")
    assert writer.store.noted(SENT_UP_TO) is not None
    assert max(json.loads(writer.store.noted(SENT_UP_TO) or "{}").values()) == 2


def test_an_address_that_is_added_later_gets_no_old_news(writer: RunWriter, tmp_path: Path, clock: HandClock) -> None:
    file, service = tmp_path / "notify", Service()
    it = notifier(writer, file, service, clock)
    record(writer, "test.failed")
    look(it)
    write_addresses(file, ADDRESS, QUIET)
    look(it)
    record(writer, "disk.filled")
    look(it)
    (message,) = service.messages
    assert "work pauses" in message[1]
    assert "it broke" not in message[1]


def test_a_store_that_was_rebuilt_from_the_logs_repeats_no_message(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    record(writer, "test.failed")
    look(it)
    with writer.store.change() as change:
        change.forget(SENT_UP_TO)  # no event has the notes
    record(writer, "disk.filled")
    clock.now_s += 3600.0
    look(notifier(writer, file, service, clock))
    assert sent_counts(writer) == [1, 1]


def test_messages_go_at_the_same_time_and_what_fails_with_one_does_not_undo_another(
    writer: RunWriter, tmp_path: Path, clock: HandClock
) -> None:
    file, service = write_addresses(tmp_path / "notify", ADDRESS, OTHER, QUIET), Service()
    it = notifier(writer, file, service, clock)
    service.problems[OTHER] = "down"
    record(writer, "test.failed")
    look(it)
    clock.now_s += 3600.0
    record(writer, "disk.filled")
    service.problems.clear()
    service.together = asyncio.Barrier(2)  # each message waits until both are under way
    look(it)
    assert [len(service.taken[address]) for address in (ADDRESS, OTHER)] == [2, 1]
    assert "it broke" not in service.taken[ADDRESS][1]
    assert "it broke" in service.taken[OTHER][0]


def test_a_message_under_way_at_the_end_is_waited_for_and_not_sent_again(
    writer: RunWriter, file: Path, clock: HandClock
) -> None:
    service = Service()
    it = notifier(writer, file, service, clock)
    record(writer, "test.failed")

    async def end() -> None:
        service.together = asyncio.Barrier(2)  # the message waits for this test
        running = asyncio.create_task(it.run())
        while not service.asked:
            await asyncio.sleep(0)
        running.cancel()
        last = asyncio.create_task(it.send_last())
        await asyncio.sleep(0)
        await service.together.wait()
        service.together = None
        await last
        assert running.cancelled()

    asyncio.run(end())
    assert service.asked == 1
    assert sent_counts(writer) == [1]


def test_a_digest_comes_once_a_day_also_after_a_restart(writer: RunWriter, tmp_path: Path, clock: HandClock) -> None:
    file, service = write_addresses(tmp_path / "notify", ADDRESS), Service()
    it = notifier(writer, file, service, clock)
    finish_trial(writer, 0, 0.25)
    for _ in range(3 * 24):
        clock.now_s += 3600.0
        look(it)
        it = notifier(writer, file, service, clock)
    digests = [title for title, _ in service.messages if "day " in title]
    assert len(digests) == 3
    assert "1 of 50 trials, 0 of 1 experiments ended, ETA " in digests[-1]
    assert "free on the disk: 5.0 GiB" in service.messages[-1][1]


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_of_addresses_that_others_may_read_is_refused_and_recorded_once(
    writer: RunWriter, file: Path, clock: HandClock, mode: int
) -> None:
    file.chmod(mode)
    with pytest.raises(UnsafeFile, match="not private to you"):
        read_settings(file)
    service = Service()
    it = notifier(writer, file, service, clock)
    record(writer, "test.failed")
    look(it)
    look(it)
    (failure,) = failures(writer)
    assert "chmod 600" in failure
    assert not service.messages
    file.chmod(0o600)
    look(it)
    assert len(service.messages) == 1


def test_a_folder_instead_of_the_file_is_refused_and_recorded(writer: RunWriter, file: Path, clock: HandClock) -> None:
    file.unlink()
    file.mkdir(mode=0o700)
    open_before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(UnsafeFile, match="cannot be read: Is a directory"):
        read_settings(file)
    assert len(list(Path("/dev/fd").iterdir())) == open_before
    look(notifier(writer, file, Service(), clock))
    assert "make" in failures(writer)[0]


STEP = st.one_of(
    st.sampled_from([*NEWS_AT_ONCE, "ray.exited", "machine.underused", "ray.started"]),
    st.sampled_from(["wait", "restart", "down", "up"]),
)


@settings(max_examples=15)
@given(st.lists(STEP, max_size=25))
def test_whatever_happens_each_event_is_told_exactly_once(steps: list[str]) -> None:
    with tempfile.TemporaryDirectory() as folder:
        clock, service = HandClock(), Service()
        file = write_addresses(Path(folder) / "notify", ADDRESS, QUIET)
        with run_of(Path(folder), clock) as writer:
            it, expected, number = notifier(writer, file, service, clock), 0, 0
            for step in steps:
                clock.now_s += 60.0
                match step:
                    case "wait":
                        clock.now_s += 600.0
                    case "restart":
                        it = notifier(writer, file, service, clock)
                    case "down":
                        service.problems[ADDRESS] = "down"
                    case "up":
                        service.problems.clear()
                    case "trial.failed":
                        number += 1
                        writer.record("trial.added", experiment="one", trial=number, params={}, source="sampled")
                        record(writer, step, trial=number, attempt=1)
                    case "experiment.failed":
                        continue  # an experiment fails once
                    case _:
                        record(writer, step)
                expected += step in (*NEWS_AT_ONCE, "ray.exited", "machine.underused")
                look(it)
            service.problems.clear()
            for _ in range(3):
                clock.now_s += LONGEST_WAIT_S
                look(it)
            assert sum(sent_counts(writer)) == expected
