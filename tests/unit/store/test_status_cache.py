"""The view that `status` shows: the same as the whole snapshot's, whenever it is looked at, and read once."""

from __future__ import annotations

import itertools
import json
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.domain import messages
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import EndReason, ProcessState
from supervisor.domain.time_accounting import by_cause
from supervisor.store import cost_queries, queries
from supervisor.store.database import Store
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.status_cache import StatusView
from supervisor.store.trial_writer import TrialWriter

NAMES = ("a", "b")
FIGURES = {"basis": "timed here", "epoch_s": 4.0, "by_rank": {}, "at_once": 1}


class CountingClock(Clock):
    now = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now += 7.0
        return self.now


def make_writer(path: Path | str) -> RunWriter:
    store = Store(Path(path), CountingClock())
    specs = [{"name": name, "mode": "min", "max_trials": 4, "seed": 1, "enqueue": []} for name in NAMES]
    specs[1] = {**specs[1], "finalize": {"top": 1, "seeds": 2}}
    create_run(store, "r", plan="p", fingerprint="f", source="s", plan_text="", hardware={}, data={}, specs=specs)
    return RunWriter(store, "r")


def whole(writer: RunWriter) -> dict[str, Any]:
    """The snapshot, less what the view leaves out, and its lost time over all trials."""
    found = queries.run_snapshot(writer.store.connection, "r")
    for experiment in found["experiments"]:
        del experiment["trials"]
    return {**found, "lost": by_cause(found["lost"])}


def seen(view: StatusView) -> dict[str, Any]:
    found = view.now()
    assert all(entry["trial"] is None for entry in found["lost"])
    return {**found, "lost": by_cause(found["lost"])}


def close(one: Any, other: Any) -> bool:
    """Return whether two views agree, but for the last bits of sums and rounded lost seconds."""
    if isinstance(one, dict) and isinstance(other, dict):
        return one.keys() == other.keys() and all(close(one[key], other[key]) for key in one)
    if isinstance(one, list) and isinstance(other, list):
        return len(one) == len(other) and all(map(close, one, other))
    if isinstance(one, float) and isinstance(other, float):
        return one == pytest.approx(other, abs=0.5)
    return bool(one == other)


def message(kind: str, number: int, attempt: int, step: int) -> messages.Message:
    match kind:
        case "added":
            return messages.TrialAdded(number, {"lr": 0.1 * number}, "sampled")
        case "started":
            return messages.TrialStarted(number, attempt, "ray", "node", 1, None)
        case "reported":
            return messages.ResultReported(number, attempt, step, 1 / step, {"time_this_iter_s": 1.25 * step}, None)
        case "paused" | "resumed":
            state = "PAUSED" if kind == "paused" else "RUNNING"
            return messages.TrialHeld(number, attempt, state, f"cpu at {step} celsius, pause limit 2")
        case "lost":
            return messages.AttemptLost(number, attempt, "worker_died", None)
    return messages.TrialEnded(number, attempt, kind, 0.5 / (number + 1), None, {"param_count": 3})


KINDS = ["added", "started", "reported", "reported", "paused", "resumed", "lost", *EndReason]
STEPS = st.lists(
    st.tuples(
        st.sampled_from([*KINDS, "look", "operator", "estimated", "next"]),
        st.integers(0, 3),
        st.integers(1, 2),
        st.integers(1, 4),
    ),
    max_size=60,
)


@given(STEPS)
@settings(max_examples=60, deadline=None)
def test_at_any_moment_it_is_what_the_whole_snapshot_says(steps: list[tuple[str, int, int, int]]) -> None:
    """Over any story, looked at at any times: what was kept from an earlier look is never stale."""
    writer = make_writer(":memory:")
    view, places = StatusView(writer.store.connection, "r"), itertools.chain(NAMES, itertools.repeat(None))
    current = next(places)
    for kind, number, attempt, step in steps:
        if kind == "look":
            assert close(seen(view), whole(writer))
        elif kind == "operator":
            writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "why", since_wall=1.0), "after")
        elif kind == "estimated" and not cost_queries.figures_of(writer.store.connection, "r"):
            writer.record("run.estimated", count=2, basis="timed here", experiments=dict.fromkeys(NAMES, FIGURES))
        elif kind == "estimated":
            continue
        elif current is not None and kind == "next":
            for state in (ProcessState.STARTING, ProcessState.RUNNING, ProcessState.EXITED):
                writer.move_experiment(current, state)
            current = next(places)
        elif current is not None:
            TrialWriter(writer.store, writer.run_id).handle(current, message(kind, number, attempt, step))
    assert close(seen(view), whole(writer))
    assert close(seen(StatusView(writer.store.connection, "r")), whole(writer))


def test_a_trial_works_on_its_epoch_without_the_pauses_in_it() -> None:
    """Every event is seven seconds after the one before: begin, report, 7 s of work, two pauses of 7 s."""
    writer = make_writer(":memory:")
    trials, view = TrialWriter(writer.store, writer.run_id), StatusView(writer.store.connection, "r")
    kinds = ("added", "started", "paused", "resumed", "reported", "paused", "resumed", "paused", "resumed")
    for kind in kinds:
        trials.handle("a", message(kind, 0, 1, 1))
    walls = {event.name: event.wall_s for event in writer.store.events_after(0)}
    reported = next(row["wall"] for row in writer.store.rows("SELECT wall FROM result"))
    (trial,) = view.now()["experiments"][0]["running"]
    held = [(e.name, e.wall_s) for e in writer.store.events_after(0) if e.name in ("trial.paused", "trial.resumed")][2:]
    lengths = [end - begin for (_, begin), (_, end) in zip(held[::2], held[1::2], strict=True)]
    assert len(lengths) == 2
    assert trial["since_wall"] == pytest.approx(reported + sum(lengths))
    assert trial["since_wall"] < walls["trial.resumed"], "the work before and between the pauses counts"


class Counted:
    """A connection that notes how many rows of results were read through it."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection
        self.statements: list[str] = []

    def execute(self, sql: str, values: Any = ()) -> sqlite3.Cursor:
        self.statements.append(sql)
        return self._connection.execute(sql, values)


def test_what_has_ended_is_read_once() -> None:
    """A second look at a run of ended experiments reads no trial, no result and no old event."""
    writer = make_writer(":memory:")
    for name in NAMES:
        for state in (ProcessState.STARTING, ProcessState.RUNNING):
            writer.move_experiment(name, state)
        for number in range(3):
            for kind in ("added", "started", "reported", "finished"):
                TrialWriter(writer.store, writer.run_id).handle(name, message(kind, number, 1, 1))
        writer.move_experiment(name, ProcessState.EXITED)
    counted = Counted(writer.store.connection)
    view = StatusView(counted, "r")  # type: ignore[arg-type]  # stands in for a connection
    first = json.dumps(view.now())
    assert any("FROM result" in sql for sql in counted.statements)
    counted.statements.clear()
    assert json.dumps(view.now()) == first
    assert not [sql for sql in counted.statements if "FROM result" in sql or "FROM trial" in sql or "fields" in sql]
    assert len(counted.statements) == 4


def test_a_sample_of_the_hardware_reads_no_trial_again() -> None:
    """It comes every few minutes, and an experiment at work may have a million results."""
    writer = make_writer(":memory:")
    for kind in ("added", "started", "reported", "finished"):
        TrialWriter(writer.store, writer.run_id).handle("a", message(kind, 0, 1, 1))
    counted = Counted(writer.store.connection)
    view = StatusView(counted, "r")  # type: ignore[arg-type]  # stands in for a connection
    view.now()
    counted.statements.clear()
    writer.record("hardware.sampled", node="n", summary="cool", readings=[], protected=True, missing={})
    view.now()
    assert not [sql for sql in counted.statements if "FROM result" in sql]
    writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "why", since_wall=1.0), "after")
    view.now()
    assert [sql for sql in counted.statements if "FROM result" in sql], "another event of the run may change any trial"


def test_a_trial_that_ended_again_between_two_looks_counts_with_what_it_has_now() -> None:
    writer = make_writer(":memory:")
    trials, view = TrialWriter(writer.store, writer.run_id), StatusView(writer.store.connection, "r")
    for kind in ("added", "started", "reported", EndReason.ERROR):
        trials.handle("a", message(kind, 0, 1, 1))
    view.now()
    writer.record("trial.retried", experiment="a", trial=0, attempt=1, who="pat", end_reason="error")
    for kind in ("started", "reported", EndReason.ERROR):
        trials.handle("a", message(kind, 0, 2, 4))
    writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "why", since_wall=1.0), "after")
    assert close(seen(view), whole(writer))
