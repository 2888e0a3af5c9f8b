"""Test which events are news, and what a message about them says."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.daemon.news.notice import LINE_CHARACTERS, TITLE_CHARACTERS, compose
from supervisor.daemon.news.tally import KEPT, Item, Tally
from supervisor.daemon.news.topics import CHOICES, NAMES, topic_of
from supervisor.domain.work_schedule import Surroundings, decide, read_schedule
from supervisor.store.event import Event
from supervisor.store.event_catalog import EVENTS
from supervisor.store.event_words import describe


def event(name: str, seq: int = 1, **fields: Any) -> Event:
    return Event(seq, 1_700_000_000.0 + seq, name, "run", "one", 7, 1, fields)


def tally_of(*events: Event) -> Tally:
    tally = Tally()
    for one in events:
        topic = topic_of(one)
        assert topic is not None, one
        tally.add(Item(one.seq, one.wall_s, topic, describe(one.name, {"experiment": "one", "trial": 7, **one.fields})))
    return tally


@pytest.mark.parametrize(
    ("name", "fields", "key"),
    [
        ("run.finished", {}, "run finished"),
        ("run.failed", {}, "run failed"),
        ("experiment.failed", {}, "experiment failed"),
        ("trial.failed", {"end_reason": "oom"}, "trials failed"),
        ("trial.failed", {"end_reason": "hung"}, "trials failed"),
        ("action.changed", {"action": "PAUSE", "previous": "RUN"}, "paused"),
        ("action.changed", {"action": "STOP", "previous": "PAUSE"}, "stopped by the governor"),
        ("action.changed", {"action": "SHED", "previous": "PAUSE"}, "resumed"),
        ("run.paused", {}, "paused"),
        ("run.resumed", {}, "resumed"),
        ("schedule.uninformed", {}, "schedule uninformed"),
        ("experiment.stalled", {}, "stalled"),
        ("disk.nearly_filled", {}, "disk low"),
        ("disk.filled", {}, "disk full"),
        ("watchdog.unprotected", {}, "unprotected"),
        ("watchdog.lost", {}, "watchdog.lost"),
        ("ping.failed", {}, "ping failed"),
    ],
)
def test_an_event_that_a_person_wants_to_know_has_a_topic(name: str, fields: dict[str, Any], key: str) -> None:
    topic = topic_of(event(name, **fields))
    assert topic is not None
    assert topic.key == key


@pytest.mark.parametrize(
    ("name", "fields"),
    [
        ("trial.failed", {"end_reason": "diverged"}),
        ("trial.failed", {"end_reason": "operator"}),
        ("action.changed", {"action": "SHED", "previous": "RUN"}),
        ("action.changed", {"action": "PAUSE", "previous": "RUN", "drill": True}),
        ("experiment.paused", {"origin": "governor"}),
        ("experiment.resumed", {}),
        ("sensor.lost", {"drill": True}),
        ("trial.reported", {}),
    ],
)
def test_what_no_person_needs_and_what_is_told_elsewhere_is_no_news(name: str, fields: dict[str, Any]) -> None:
    assert topic_of(event(name, **fields)) is None


NIGHTS = {"hours": {"mon-sun 09:00-18:00": "pause"}, "zone": "UTC"}
AT_NOON, AT_NIGHT = 1_700_000_000.0 // 86400 * 86400 + 43200.0, 1_700_000_000.0 // 86400 * 86400


@pytest.mark.parametrize(
    ("value", "now_s", "seen", "key"),
    [
        (NIGHTS, AT_NOON, Surroundings(), "paused by schedule"),
        (NIGHTS, AT_NIGHT, Surroundings(), None),
        ({"hours": {"mon-sun 09:00-18:00": "hold"}, "zone": "UTC"}, AT_NOON, Surroundings(), "paused by schedule"),
        ({"while_active": "pause"}, AT_NOON, Surroundings(idle_s=1.0), "paused by schedule"),
        ({"on_battery": "pause"}, AT_NOON, Surroundings(on_battery=True), "on battery"),
        ({"on_battery": "hold"}, AT_NOON, Surroundings(on_battery=True), "on battery"),
    ],
)
def test_a_schedule_holds_as_planned_but_no_person_plans_to_lose_the_mains(
    value: dict[str, Any], now_s: float, seen: Surroundings, key: str | None
) -> None:
    command = decide(read_schedule(value), now_s, seen)
    fields = {"action": command.action.name, "reason": command.reason, "until_wall": command.until_wall, "who": None}
    topic = topic_of(event("schedule.changed", **fields))
    assert (None if topic is None else topic.key) == key


def test_every_error_is_news_and_a_message_about_messages_never_is() -> None:
    assert {name for name, kind in EVENTS.items() if kind.level == "error"} <= set(CHOICES)
    assert set(NAMES) <= set(EVENTS)
    assert not any(name.startswith("notice.") for name in NAMES)


def test_the_title_alone_says_what_happened_and_the_body_ends_with_the_command_to_type() -> None:
    notice = compose(tally_of(event("experiment.failed", reason="no memory")), "smoke", "smoke-1 on box")
    assert notice.title == "smoke: one failed: no memory"
    assert notice.body.splitlines()[-2:] == ["next: `supervisorctl status`", "smoke-1 on box"]
    failed = Item(1, 0.0, topic_of(event("experiment.failed")), "it failed", "2M-h1")  # type: ignore[arg-type]
    tally = Tally()
    tally.add(failed)
    assert "next: `supervisorctl retry 2M-h1`" in compose(tally, "smoke", "").body


def test_a_storm_is_one_title_with_its_count_and_a_few_lines() -> None:
    storm = [event("trial.failed", seq, end_reason="oom", error="no memory " + "x" * 1000) for seq in range(1, 301)]
    notice = compose(tally_of(*storm), "smoke", "box")
    assert notice.title.startswith("smoke: 300 trials failed: trial 7 oom: no memory")
    assert len(notice.title) <= TITLE_CHARACTERS
    lines = notice.body.splitlines()
    assert lines[0] == "trials failed: 300 times; the last:"
    assert len(lines) == 1 + KEPT + 3
    assert all(len(line) <= LINE_CHARACTERS for line in lines)


def test_what_is_over_comes_after_what_is_not() -> None:
    paused = event("action.changed", 1, action="PAUSE", previous="RUN", reason="92 C", node="n")
    resumed = event("action.changed", 2, action="RUN", previous="PAUSE", reason="cool", node="n")
    again = event("action.changed", 3, action="PAUSE", previous="RUN", reason="93 C", node="n")
    assert "RUN, cool" in compose(tally_of(paused, resumed), "smoke", "").title
    assert "93 C" in compose(tally_of(paused, resumed, again), "smoke", "").title


def test_a_secret_in_an_error_does_not_leave_the_machine() -> None:
    failed = event("experiment.failed", reason="cannot reach https://ann:hunter2@example.org, token=abcdefgh12345678")
    notice = compose(tally_of(failed), "smoke", "")
    assert "hunter2" not in notice.title + notice.body
    assert "abcdefgh" not in notice.title + notice.body


@pytest.mark.parametrize("before", range(60, LINE_CHARACTERS, 3))
def test_a_secret_that_is_cut_does_not_leave_the_machine(before: int) -> None:
    address = "https://annnnnnnnnnnnnnn:hunter2hunter2hunter2@example.org"
    failed = event("experiment.failed", reason=f"{'x' * (before - 20)} {address}")
    notice = compose(tally_of(failed), "smoke", "")
    assert "annn" not in notice.title + notice.body


def test_a_reason_of_many_lines_stays_on_one() -> None:
    notice = compose(tally_of(event("experiment.failed", reason="first\r\nsecond\n\n third")), "smoke", "box")
    assert notice.title == "smoke: one failed: first second third"
    assert len(notice.body.splitlines()) == 4


@pytest.mark.parametrize(
    ("incomplete", "failed_trials", "shown"),
    [(1, 0, "1 without an answer; 0 trials failed"), (0, 3, "0 without an answer; 3 trials failed")],
)
def test_the_last_message_of_a_run_counts_missing_answers_and_failed_trials(
    incomplete: int, failed_trials: int, shown: str
) -> None:
    counts = {"passed": 2, "failed": 0, "skipped": 0, "incomplete": incomplete, "failed_trials": failed_trials}
    assert compose(tally_of(event("run.finished", seconds=9.0, **counts)), "smoke", "box").title.endswith(shown)
