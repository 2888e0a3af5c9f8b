"""A wish about thousands of trials is one pass: its events and the spec are those of one trial after the other."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from supervisor.audit.log import AuditLog
from supervisor.audit.rotation import Limits, lines_of, older_parts
from supervisor.daemon.recovery import MANY, AuditFeed
from supervisor.daemon.target_names import TargetNames
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.early_ends import Named
from supervisor.domain.lifecycle import ProcessState
from supervisor.store import lookups, queries
from supervisor.store.database import Store
from supervisor.store.event import Event
from supervisor.store.replay import MOST_TOGETHER, replay_all
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.steering.steer_writer import SteerWriter
from tests.unit.store.evaluation_stage import FixedClock

SPEC = {"mode": "min", "max_trials": 900, "max_epochs": 3, "concurrency": 3, "enqueue": [], "finalize": None}


@pytest.fixture
def stores(tmp_path: Path) -> Iterator[list[Store]]:
    """Two stores of the same run."""
    made = [Store(tmp_path / f"{name}.db", FixedClock()) for name in ("one", "other")]
    yield made
    for store in made:
        store.close()


def begun(store: Store, trials: int, *, ended: bool) -> SteerWriter:
    specs: list[dict[str, Any]] = [{**SPEC, "name": name} for name in "ab"]
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    writer = RunWriter(store, "r")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment("a", ProcessState.STARTING)
    writer.record("experiment.started", experiment="a", max_trials=trials)
    with store.change("r") as change:
        for name, count in (("a", trials), ("b", 3)):
            for number in range(count):
                place: dict[str, Any] = {"experiment": name, "trial": number}
                change.record("trial.added", **place, params={}, source="sampled")
                if ended:
                    start = {"node": "n", "worker_pid": 1, "ray_trial_id": "t", "resumed_step": None}
                    end = {"end_reason": "finished", "value": 0.5, "epochs": 1, "seconds": 1.0, "error": None}
                    change.record("trial.started", **place, attempt=1, **start)
                    change.record("trial.finished", **place, attempt=1, **end, record={})
    return SteerWriter(store, "r")


def said(store: Store) -> list[Event]:
    return [event for event in store.events_after(0) if event.name.startswith(("trial.", "run.resumed"))]


def specs(store: Store) -> list[str]:
    return [row["spec"] for row in lookups.experiments(store, "r")]


def all_trials(store: Store) -> list[Named]:
    return TargetNames(store, "r", "a").trials(["all"])


def test_what_is_said_of_all_trials_is_what_is_said_of_each(stores: list[Store]) -> None:
    together, alone = (begun(store, 40, ended=True) for store in stores)
    together.discard(all_trials(together.store), "ann")
    together.discard([Named("a", number) for number in (3, 4)], "bob", restore=True)
    for one in all_trials(alone.store):
        alone.discard([one], "ann")
    for number in (3, 4):
        alone.discard([Named("a", number)], "bob", restore=True)
    assert said(together.store) == said(alone.store)
    assert specs(together.store) == specs(alone.store)


def test_the_pause_of_a_trial_is_lifted_with_its_end_and_not_later(stores: list[Store]) -> None:
    together, alone = (begun(store, 9, ended=False) for store in stores)
    for store in stores:
        for scope in ("a/2", "a/8", "all"):
            command = Command(Action.HOLD, Origin.OPERATOR, "a look", scope, who="bob")
            RunWriter(store, "r").put_command(command, "x")
    together.end_trials(all_trials(together.store), "ann")
    for one in all_trials(alone.store):
        alone.end_trials([one], "ann")
    assert said(together.store) == said(alone.store)
    assert [event.name for event in said(together.store)].count("run.resumed") == 2
    assert specs(together.store) == specs(alone.store)


@pytest.mark.parametrize("verb", ["discard", "end"])
def test_the_number_of_queries_does_not_grow_with_the_trials(stores: list[Store], verb: str) -> None:
    counts = []
    for store, trials in zip(stores, (10, 800), strict=True):
        steer, found = begun(store, trials, ended=verb == "discard"), list[str]()
        names = all_trials(store)
        store.connection.set_trace_callback(found.append)
        steer.discard(names, "ann") if verb == "discard" else steer.end_trials(names, "ann")
        store.connection.set_trace_callback(None)
        counts.append(sum(not sql.startswith("INSERT INTO event") for sql in found))
        assert len(found) - counts[-1] == trials + 3
    assert counts[0] == counts[1]


def a_discard_and_a_restore(store: Store, trials: int) -> list[Event]:
    """Discard all trials but the last ten, restore some, and return all events."""
    steer, names = begun(store, trials + 10, ended=True), all_trials(store)
    steer.discard(names[:trials], "ann")
    steer.discard(names[:5], "bob", restore=True)
    return store.events_after(0, limit=1_000_000)


@pytest.mark.parametrize("trials", [40, MOST_TOGETHER - 20])
def test_a_rebuild_writes_a_spec_once_for_all_trials_that_a_person_discards(stores: list[Store], trials: int) -> None:
    lived, rebuilt = stores
    events, found = a_discard_and_a_restore(lived, trials), list[str]()
    rebuilt.connection.set_trace_callback(found.append)
    assert list(replay_all(rebuilt.connection, events)) == []
    rebuilt.connection.set_trace_callback(None)
    assert sum(sql.startswith("UPDATE experiment SET spec") for sql in found) == 1
    assert queries.tables_of(rebuilt.connection, "r") == queries.tables_of(lived.connection, "r")
    assert rebuilt.events_after(0, limit=1_000_000) == events


def test_an_event_that_cannot_be_applied_keeps_no_other_one_out(stores: list[Store]) -> None:
    lived, rebuilt = stores
    events = a_discard_and_a_restore(lived, 40)
    place = next(place for place, event in enumerate(events) if event.name == "trial.discarded") + 3
    whole, events[place] = events[place], dataclasses.replace(events[place], fields={})
    (problem,) = replay_all(rebuilt.connection, events)
    assert str(problem) == f"event {whole.seq}: trial.discarded lacks the field 'who'"
    assert rebuilt.events_after(0, limit=1_000_000) == events
    assert specs(rebuilt) == specs(lived), "the trial of that event was restored later"


def test_the_log_has_the_lines_of_each_event_with_few_syncs_of_the_disk(
    stores: list[Store], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    synced: list[int] = []
    whole = os.fsync
    monkeypatch.setattr(os, "fsync", lambda descriptor: (synced.append(descriptor), whole(descriptor))[1])
    texts = []
    for store, name in zip(stores, ("one", "other"), strict=True):
        steer = begun(store, 2 * MANY, ended=True)
        audit = AuditLog(tmp_path / f"{name}.jsonl", limits=Limits(max_bytes=20_000, parts=50))
        audit.catch_up(store, "p")
        feed = AuditFeed(audit, RunWriter(store, "r"), "p")
        store.after_each_change(
            feed.write if name == "one" else lambda events, feed=feed: [feed.write([event]) for event in events]
        )
        synced.clear()
        steer.discard(all_trials(store), "ann")
        parts = [*older_parts(audit.path), audit.path]
        texts.append([list(lines_of(part)) for part in parts])
        assert (len(synced) < MANY) == (name == "one")
        audit.close()
    assert texts[0] == texts[1], "the same lines in the same files"
    assert len(texts[0]) > 3
