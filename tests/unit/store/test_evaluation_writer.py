"""The store keeps an evaluation: its test is opened once, and its result stands."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.domain.retry import Retry
from supervisor.errors import TestRefused
from supervisor.store import answer_queries
from supervisor.store.database import Store
from supervisor.store.steering.retry_writer import RetryWriter
from tests.unit.store.evaluation_stage import (
    OPENING,
    RESULT,
    SHA,
    FixedClock,
    events,
    run_of,
)


@pytest.fixture
def store(tmp_path: Path) -> Any:
    opened = Store(tmp_path / "sweep.db", FixedClock())
    yield opened
    opened.close()


def test_an_opening_is_written_before_the_look_and_the_result_after(store: Store) -> None:
    writer = run_of(store)
    opened = writer.open_test("20k-h1", OPENING)
    assert opened == {**OPENING, "openings": 1, "earlier_looks": [], "at": "2023-11-14T22:13:20+00:00"}
    assert answer_queries.evaluation_of(store.connection, "one", "20k-h1") is None
    writer.keep_result("20k-h1", RESULT)
    assert answer_queries.evaluation_of(store.connection, "one", "20k-h1") == {
        **RESULT,
        "opening": {key: value for key, value in opened.items() if key != "sealed_days"},
    }
    (fields,) = events(store, "test.opened")
    assert (fields["by"], fields["dataset_sha256"], fields["trials"]) == ("a test", SHA, [8, 9])
    (scored,) = events(store, "test.scored")
    assert (scored["bce"], scored["last_day"]) == (0.6, "f")
    assert scored["result"] == RESULT, "the log alone must be able to give the result back"


def test_a_second_opening_of_the_same_experiment_is_refused_and_recorded(store: Store) -> None:
    writer = run_of(store)
    writer.open_test("20k-h1", OPENING)
    writer.keep_result("20k-h1", RESULT)
    before = answer_queries.evaluation_of(store.connection, "one", "20k-h1")
    with pytest.raises(TestRefused, match="tested before"):
        writer.open_test("20k-h1", OPENING)
    (fields,) = events(store, "test.refused")
    assert fields["openings"] == 1
    assert answer_queries.evaluation_of(store.connection, "one", "20k-h1") == before
    assert len(events(store, "test.opened")) == 1


def test_an_opening_that_died_without_a_result_is_repeated_and_counted_at_most_three_times(store: Store) -> None:
    writer = run_of(store)
    assert [writer.open_test("20k-h1", OPENING)["openings"] for _ in range(3)] == [1, 2, 3]
    with pytest.raises(TestRefused, match="opened 3 times and each time ended without a result"):
        writer.open_test("20k-h1", OPENING)


def test_a_persons_request_allows_three_more_openings_and_all_are_counted(store: Store) -> None:
    writer = run_of(store)
    for _ in range(3):
        writer.open_test("20k-h1", OPENING)
        writer.record_failure("20k-h1", "no disk", outside=True)
    with pytest.raises(TestRefused):
        writer.open_test("20k-h1", OPENING)
    RetryWriter(store, "one").record([Retry("20k-h1", test=True)], "ann")
    assert writer.open_test("20k-h1", OPENING)["openings"] == 4
    state = answer_queries.test_of(store.connection, "one", "20k-h1")
    assert state == {"openings": 4, "tries": 1, "failure": None, "scored": False, "earlier_looks": []}


@pytest.mark.parametrize(
    ("first", "bits", "shared"),
    [("2020-01-06", "1f", 5), ("2020-01-07", "1f", 4), ("2020-01-03", "9", 1), ("2020-01-11", "1", 0)],
)
def test_earlier_looks_at_the_same_days_of_a_ticker_are_found_whatever_the_file(
    store: Store, first: str, bits: str, shared: int
) -> None:
    """Compare days, whatever the file, the tier or the length of the history."""
    earlier, later = run_of(store, "one"), run_of(store, "two")
    days = {"ticker": "SPY", "first": first, "last": first, "bits": bits}
    earlier.open_test("20k-h1", {**OPENING, "dataset_sha256": "other", "sealed_days": [days]})
    earlier.open_test("60k-h1", {**OPENING, "dataset_sha256": "other", "sealed_days": [{**days, "ticker": "QQQ"}]})
    looks = [{"run": "one", "days": shared}] if shared else []
    assert later.open_test("20k-h1", OPENING)["earlier_looks"] == looks
    state = answer_queries.test_of(store.connection, "two", "20k-h1")
    assert state is not None
    assert state["earlier_looks"] == looks


def test_a_result_that_stands_is_not_written_over(store: Store) -> None:
    writer = run_of(store)
    writer.open_test("20k-h1", OPENING)
    writer.keep_result("20k-h1", RESULT)
    with pytest.raises(TestRefused, match="found a result"):
        writer.keep_result("20k-h1", {**RESULT, "param_count": 1})
    assert len(events(store, "test.scored")) == 1
    kept = answer_queries.evaluation_of(store.connection, "one", "20k-h1")
    assert kept is not None
    assert kept["param_count"] == 20_000
