"""The page's values are those of the store, read on a connection of its own that cannot write."""

from __future__ import annotations

import asyncio
import json
import sqlite3
import threading
from collections.abc import Awaitable
from typing import TypeVar

import pytest

from supervisor.domain.command import Action, Command, Origin
from supervisor.errors import NotFound, StoreError
from supervisor.page import document, reader
from supervisor.page.figures import Figures
from supervisor.page.reader import StoreReader
from supervisor.store import cost_queries, page_queries, queries
from tests.unit.page.stored_run import CPU, RUN, SSD, FakeLive, StoredRun

T = TypeVar("T")
ENDLESS = "WITH RECURSIVE n(i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n) SELECT count(*) FROM n"


def answer(asked: Awaitable[T]) -> T:
    async def within() -> T:
        return await asked

    return asyncio.run(within())


def test_the_status_names_the_work_the_counts_and_the_best(stored: StoredRun, figures: Figures) -> None:
    found = answer(figures.status())
    json.dumps(found, allow_nan=False)
    assert [one["state"] for one in found["experiments"]] == ["EXITED"] * 6 + ["FATAL", "RUNNING"] + ["STOPPED"] * 4
    whole = queries.run_snapshot(stored.store.connection, RUN)["experiments"]
    for shown, view in zip(found["experiments"], whole, strict=True):
        assert shown["done"] + shown["pruned"] + shown["failed"] == view["ended"]
        assert shown["best"] is None or shown["best"]["value"] == view["best"]["value"]
        assert shown["total"] == view["max_trials"]
    assert [trial["epoch"] for trial in found["experiments"][7]["running"]] == [11, 6, 3]


def test_what_failed_needs_a_person_and_what_the_governor_does_does_not(live: FakeLive, figures: Figures) -> None:
    hot = Command(Action.PAUSE, Origin.GOVERNOR, "cpu is hot", since_wall=1.0)
    live.governor = hot
    needed = answer(figures.status())["needs"]
    assert any("200M-h1 failed" in line and "retry" in line for line in needed)
    assert not any("hot" in line for line in needed)
    live.governor = Command(Action.STOP, Origin.GOVERNOR, "critical for long", since_wall=1.0)
    assert any("critical for long" in line for line in answer(figures.status())["needs"])


def test_a_pause_of_the_operator_needs_a_person(live: FakeLive, figures: Figures) -> None:
    assert answer(figures.status())["action"]["action"] == "RUN"
    answer(live.pause(None, True, "I need the machine", "maria"))
    found = answer(figures.status())
    assert found["action"]["action"] == "PAUSE"
    assert any("maria" in line and "I need the machine" in line for line in found["needs"])
    live.stored.clock.now_s += 100.0
    assert answer(figures.status())["needs"] == found["needs"], "an alert that changes would be read aloud again"


def test_temperatures_come_with_their_limits_the_nearest_to_its_pause_first(figures: Figures) -> None:
    found = answer(figures.temperatures(24.0))
    assert [limit["sensor"] for limit in found["limits"]] == [CPU, SSD]
    assert {one["sensor"] for one in found["series"]} == {CPU, SSD}
    assert found["limits"][0]["pause"] == 88.0
    assert found["begin"] >= found["end"] - 24 * 3600 - 60


def test_the_plans_own_limits_come_before_the_sensors(stored: StoredRun, live: FakeLive) -> None:
    view = live.completed(queries.run_snapshot(stored.store.connection, RUN))
    view["run"]["hardware"] = {"policy": {"limits": {"hwmon:k10temp*": {"soft": 60, "pause": 65, "critical": 70}}}}
    assert document.temperatures(view)[0] | {"celsius": 0} == {
        "node": "node", "sensor": CPU, "celsius": 0, "soft": 60.0, "pause": 65.0,
    }  # fmt: skip


def test_an_experiments_trials_and_curves_are_those_of_the_store(stored: StoredRun, figures: Figures) -> None:
    found = answer(figures.trials("200M-h3"))
    whole = queries.trials_of(stored.store.connection, RUN, "200M-h3")
    assert {point["trial"] for point in found["points"]} == {t["number"] for t in whole if t["end_reason"] is not None}
    running = [curve for curve in found["curves"] if curve["state"] == "RUNNING"]
    assert [len(curve["points"]) for curve in running] == [11, 6, 3]
    finals = {point["trial"] for point in answer(figures.trials("2M-h1"))["points"] if point["final"]}
    assert finals == {4, 5, 6, 7}


def test_a_discarded_trial_is_in_no_chart_and_the_best_is_the_one_of_the_status(
    stored: StoredRun, figures: Figures
) -> None:
    best = answer(figures.trials("2M-h1"))["best"][-1][2]
    with stored.store.change(RUN) as change:
        change.record("trial.discarded", experiment="2M-h1", trial=best, who="maria")
    found = answer(figures.trials("2M-h1"))
    assert found["best"][-1][2] == answer(figures.status())["experiments"][0]["best"]["trial"] != best
    assert best not in {drawn["trial"] for drawn in found["points"] + found["curves"]}


def test_a_trial_that_was_set_aside_is_in_no_chart_and_is_not_done(stored: StoredRun, figures: Figures) -> None:
    before = answer(figures.status())["experiments"][0]
    with stored.store.change(RUN) as change:
        change.record(
            "finalisation.set_aside", experiment="2M-h1", who="maria", verb="discard", count=4, trials=[4, 5, 6, 7],
            finalize=None,
        )  # fmt: skip
    found = answer(figures.trials("2M-h1"))
    assert not {4, 5, 6, 7} & {drawn["trial"] for drawn in found["points"] + found["curves"]}
    after = answer(figures.status())["experiments"][0]
    assert (before["set_aside"], after["set_aside"]) == (0, 4)
    assert after["done"] == before["done"] - 4


def test_a_week_of_many_sensors_is_read_to_its_end(figures: Figures, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = answer(figures.temperatures(24.0))["series"]
    monkeypatch.setattr(page_queries, "MAX_READINGS", 101)
    assert answer(figures.temperatures(24.0))["series"] == whole


def test_an_experiment_that_is_not_there_is_refused(figures: Figures) -> None:
    with pytest.raises(NotFound, match="no experiment"):
        answer(figures.trials("<script>"))


def test_events_are_sentences_without_those_that_the_charts_show(figures: Figures) -> None:
    found = answer(figures.events(0))
    assert [one["seq"] for one in found] == sorted(one["seq"] for one in found)
    assert "trial.reported" not in {one["event"] for one in found}
    newer = answer(figures.events(found[-3]["seq"]))
    assert newer == found[-2:]


def test_the_store_is_read_in_another_thread_by_a_connection_that_cannot_write(
    figures: Figures, stored: StoredRun
) -> None:
    own = StoreReader(stored.store.path, RUN)

    def where(connection: sqlite3.Connection) -> str:
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            connection.execute("DELETE FROM run")
        return threading.current_thread().name

    assert answer(own.read(where)) != threading.current_thread().name
    own.close()


def test_the_reader_sees_each_commit_and_does_not_hold_the_writer_up(stored: StoredRun, figures: Figures) -> None:
    before = answer(figures.events(0))[-1]["seq"]
    stored.writer.record("drill.started", name="heat", duration_s=1.0, node=None, drill=True)
    assert [one["event"] for one in answer(figures.events(before))] == ["drill.started"]
    busy, *_ = stored.store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    assert busy == 0


def test_only_so_many_reads_wait(stored: StoredRun) -> None:
    own, gate = StoreReader(stored.store.path, RUN), threading.Event()

    async def scene() -> None:
        waiting = [asyncio.ensure_future(own.read(lambda _: gate.wait())) for _ in range(reader.MAX_WAITING)]
        await asyncio.sleep(0)
        with pytest.raises(StoreError, match="wait already"):
            await own.read(lambda _: None)
        gate.set()
        await asyncio.gather(*waiting)

    asyncio.run(scene())
    own.close()


def test_a_read_that_takes_too_long_is_ended_and_the_next_one_works(
    stored: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = StoreReader(stored.store.path, RUN)
    assert answer(own.read(lambda connection: connection.execute("SELECT 1").fetchone()[0])) == 1
    with monkeypatch.context() as patched:
        patched.setattr(reader, "READ_WITHIN_S", 0.05)
        with pytest.raises(StoreError, match="could not be read within"):
            answer(own.read(lambda connection: connection.execute(ENDLESS).fetchone()))
    assert answer(own.read(lambda connection: connection.execute("SELECT 1").fetchone()[0])) == 1
    own.close()


def test_what_an_interrupted_view_has_missed_is_in_the_next_one(
    stored: StoredRun, monkeypatch: pytest.MonkeyPatch
) -> None:
    own = StoreReader(stored.store.path, RUN)
    best = answer(own.view())["experiments"][0]["best"]["trial"]
    with stored.store.change(RUN) as change:
        change.record("trial.discarded", experiment="2M-h1", trial=best, who="maria")

    def interrupted(*_: object) -> None:
        raise sqlite3.OperationalError("interrupted")

    with monkeypatch.context() as patched:
        patched.setattr(cost_queries, "figures_of", interrupted)
        with pytest.raises(StoreError, match="interrupted"):
            answer(own.view())
    assert answer(own.view())["experiments"][0]["best"]["trial"] != best
    own.close()


def test_a_closed_reader_ends_its_read_and_takes_no_other(stored: StoredRun) -> None:
    """A read that goes on would hold up the end of the daemon's process."""
    own, begun = StoreReader(stored.store.path, RUN), threading.Event()

    def read(connection: sqlite3.Connection) -> None:
        connection.create_function("seen", 1, lambda _: begun.set() is None)
        connection.execute(f"{ENDLESS} WHERE seen(i)").fetchone()

    async def scene() -> None:
        reading = asyncio.ensure_future(own.read(read))
        await asyncio.to_thread(begun.wait)
        own.close()
        with pytest.raises(StoreError, match="interrupted"):
            await reading
        with pytest.raises(StoreError, match="the daemon is ending"):
            await own.view()

    asyncio.run(scene())


def test_a_store_that_is_gone_is_an_error_of_ours(stored: StoredRun) -> None:
    own = StoreReader(stored.store.path.with_name("gone.db"), RUN)
    with pytest.raises(StoreError, match="cannot be read"):
        answer(own.view())
    own.close()
