"""Test messages about events: each is sent once, and delays no work."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.clock import Clock
from supervisor.daemon.upkeep.notifier import (
    MAX_LINES,
    NAMES,
    RETRY_CAP_S,
    SENT_UP_TO,
    Notifier,
    compose,
    notable,
    retry_in_s,
)
from supervisor.errors import UnsafeFile
from supervisor.processes.notification import Outcome, read_addresses
from supervisor.store.database import Store
from supervisor.store.event import Event
from supervisor.store.run_writer import RunWriter

SECRET = "hunter2"


def event(seq: int, name: str, **fields: Any) -> Event:
    return Event(seq, 0.0, name, "run", "one", None, None, fields)


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "notify"
    path.write_text(f"# mine\n\nntfy://me:{SECRET}@example.org/topic\n")
    path.chmod(0o600)
    return path


@pytest.fixture
def writer(tmp_path: Path) -> Iterator[RunWriter]:
    store = Store(tmp_path / "sweep.db", Clock())
    yield RunWriter(store, "run")
    store.close()


class Service:
    """Keeps the messages that it gets; it answers with `problem`."""

    def __init__(self) -> None:
        self.messages: list[tuple[str, str]] = []
        self.problem: str | None = None

    async def __call__(self, addresses: list[str], title: str, body: str, _: float) -> Outcome:
        assert addresses == [f"ntfy://me:{SECRET}@example.org/topic"]
        self.messages.append((title, body))
        return Outcome(self.problem is None, self.problem)


def send(writer: RunWriter, file: Path, service: Service, *names: str) -> Notifier:
    notifier = Notifier(writer, "smoke", file, Clock(), service)
    for name in names:
        writer.record(
            name, experiment="one", **({"error": "it broke", "outside": True} if name == "test.failed" else {})
        )
    asyncio.run(notifier.send_news(1.0))
    return notifier


def test_only_errors_ends_and_a_governor_that_stops_work_are_notable() -> None:
    assert notable(event(1, "experiment.failed", reason="x"))
    assert notable(event(1, "run.finished", passed=1, failed=0, skipped=0, seconds=1.0))
    assert notable(event(1, "action.changed", action="PAUSE", drill=False))
    assert not notable(event(1, "action.changed", action="SHED", drill=False))
    assert not notable(event(1, "action.changed", action="PAUSE", drill=True))
    assert not notable(event(1, "trial.finished", value=1.0))
    assert not any(name.startswith("notice.") for name in NAMES), "a message about messages would never end"


def test_a_message_shows_the_newest_and_counts_the_rest() -> None:
    events = [event(seq, "experiment.failed", reason=f"number {seq} " + "x" * 1000) for seq in range(1, MAX_LINES + 6)]
    notice = compose(events, "smoke", "box")
    lines = notice.body.splitlines()
    assert (lines[0], len(lines)) == ("(and 5 earlier)", MAX_LINES + 1)
    assert "number 25" in lines[-1]
    assert all(len(line) <= 300 for line in lines)
    assert notice.title.startswith("smoke on box: one failed: number 25")
    assert len(notice.title) <= 300
    assert (notice.seq, notice.count) == (25, 25)


@pytest.mark.parametrize(("failed", "words"), [(1, "best 0.25 of 8 trials, 1 failed"), (0, "of 8 trials, 0 failed")])
def test_a_message_about_an_end_counts_the_failed_trials(failed: int, words: str) -> None:
    end = event(1, "experiment.finished", best=0.25, best_trial=3, trials=8, failed=failed, seconds=9.0)
    assert notable(end)
    assert words in compose([end], "smoke", "box").body


@pytest.mark.parametrize("shortage", ["a trial needs 1 gpu on one node", "a trial needs 64 cpu on one node"])
def test_a_message_says_what_a_trial_waits_for(shortage: str) -> None:
    lacks = event(1, "resources.lacked", shortage=shortage)
    assert notable(lacks)
    assert f"one waits: {shortage}" in compose([lacks], "smoke", "box").body


@pytest.mark.parametrize(
    ("incomplete", "failed_trials", "shown"),
    [(1, 0, "1 without an answer; 0 trials failed"), (0, 3, "0 without an answer; 3 trials failed")],
)
def test_the_last_message_of_a_run_counts_missing_answers_and_failed_trials(
    incomplete: int, failed_trials: int, shown: str
) -> None:
    counts = {"passed": 2, "failed": 0, "skipped": 0, "incomplete": incomplete, "failed_trials": failed_trials}
    assert compose([event(1, "run.finished", seconds=9.0, **counts)], "smoke", "box").title.endswith(shown)


def test_waits_between_tries_double_up_to_an_hour() -> None:
    assert [retry_in_s(n) for n in (1, 2, 3)] == [30.0, 60.0, 120.0]
    assert retry_in_s(10_000) == RETRY_CAP_S


def test_each_event_is_sent_once_and_only_from_the_start_on(writer: RunWriter, file: Path) -> None:
    writer.record("test.failed", experiment="one", error="long ago", outside=True)
    service = Service()
    notifier = send(writer, file, service, "test.failed", "ray.started")
    assert [body for _, body in service.messages] == ["one could not be tested: it broke"]
    assert not asyncio.run(notifier.send_news(1.0))
    assert [row["name"] for row in writer.store.rows("SELECT name FROM event")][-1] == "notice.sent"
    # Another daemon continues from there.
    send(writer, file, service, "disk.freed")
    assert len(service.messages) == 2
    assert "it broke" not in service.messages[1][1]


def test_no_event_is_read_twice(writer: RunWriter, file: Path) -> None:
    notifier = send(writer, file, Service(), "ray.started", "ray.started")
    writer.record("ray.started", experiment="one")
    row = writer.store.row("SELECT value FROM meta WHERE key = ?", SENT_UP_TO)
    assert row is not None
    assert int(row["value"]) == 2
    writer.record("disk.freed")
    assert asyncio.run(notifier.send_news(1.0)), "no event is overlooked"


def test_a_service_that_is_down_for_days_costs_one_event_and_loses_no_news(writer: RunWriter, file: Path) -> None:
    service = Service()
    service.problem = "ntfy (address 1): the service did not take it"
    notifier = send(writer, file, service, "test.failed")
    for _ in range(5):
        asyncio.run(notifier.send_news(1.0))
    names = [row["name"] for row in writer.store.rows("SELECT name FROM event")]
    assert names.count("notice.failed") == 1
    assert "notice.sent" not in names
    service.problem = None
    later = send(writer, file, service, "test.failed")
    assert "it broke" in service.messages[-1][1]
    assert len(service.messages[-1][1].splitlines()) == 2
    assert not asyncio.run(later.send_news(1.0))


def test_an_address_that_is_added_later_gets_no_old_news(writer: RunWriter, file: Path) -> None:
    text = file.read_text()
    file.unlink()
    service = Service()
    notifier = send(writer, file, service, "test.failed")
    file.write_text(text)
    file.chmod(0o600)
    assert not asyncio.run(notifier.send_news(1.0))
    writer.record("disk.freed")
    assert asyncio.run(notifier.send_news(1.0))
    assert len(service.messages) == 1
    assert "work goes on" in service.messages[0][1]
    row = writer.store.row("SELECT value FROM meta WHERE key = ?", SENT_UP_TO)
    assert row is not None
    assert int(row["value"]) > 0


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o602])
def test_a_file_of_addresses_that_others_may_read_is_refused_and_recorded(
    writer: RunWriter, file: Path, mode: int
) -> None:
    file.chmod(mode)
    with pytest.raises(UnsafeFile, match="not private to you"):
        read_addresses(file)
    service = Service()
    send(writer, file, service, "test.failed")
    row = writer.store.row("SELECT fields FROM event WHERE name = 'notice.failed'")
    assert row is not None
    assert "chmod 600" in json.loads(row["fields"])["error"]
    assert not service.messages


def test_a_folder_instead_of_the_file_is_refused_and_recorded(writer: RunWriter, file: Path) -> None:
    file.unlink()
    file.mkdir(mode=0o700)
    open_before = len(list(Path("/dev/fd").iterdir()))
    with pytest.raises(UnsafeFile, match="cannot be read: Is a directory"):
        read_addresses(file)
    assert len(list(Path("/dev/fd").iterdir())) == open_before
    send(writer, file, Service(), "test.failed")
    row = writer.store.row("SELECT fields FROM event WHERE name = 'notice.failed'")
    assert row is not None
    assert "make" in json.loads(row["fields"])["error"]
