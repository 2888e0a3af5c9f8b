"""The logs give a lost store back, equal to the last bit; the old one is kept, and an event records it."""

from __future__ import annotations

import contextlib
import gzip
import json
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.audit import rebuild
from supervisor.audit.log import open_audit_log
from supervisor.audit.rotation import Limits
from supervisor.clock import Clock
from supervisor.control.handshake import StartRequest
from supervisor.daemon.run_selection import choose_run, try_again
from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import EndReason, ProcessState
from supervisor.errors import Conflict, LogDamaged, StoreError, TestRefused
from supervisor.home import Home
from supervisor.store import projection
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.event_catalog import EVENTS
from supervisor.store.retry_writer import RetryWriter
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

E = "2M-h1"
TABLES = ("run", "experiment", "trial", "attempt", "result", "command", "evaluation", "event")
SPECS = [
    {"name": name, "mode": "min", "max_trials": 3, "enqueue": [], "warm_start": None} for name in (E, "20M-h1")
]  # fmt: skip


class UnevenClock(Clock):
    """A clock that is later at each reading, by times that a float cannot represent exactly."""

    def __init__(self, start: float = 1_700_000_000.0) -> None:
        self.now = start

    def wall_s(self) -> float:
        self.now += 1.0 / 3.0
        return self.now


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


def make_home(folder: Path) -> Home:
    folder.mkdir(exist_ok=True)
    home = Home(folder)
    for each in (home.state, home.logs, home.runs):
        each.mkdir(exist_ok=True)
    return home


def a_run(home: Home, plan: str = "p", clock: Clock | None = None) -> RunWriter:
    """A store with one run, each of whose events is written to the plan's log as it is committed."""
    store = Store(home.store, clock or UnevenClock())
    create_run(
        store, f"{plan}-1", plan=plan, fingerprint="f", source="built-in", plan_text="name: p\n",
        hardware={"policy": {"x": 1.5}}, data={"ticker": "SPX"}, specs=SPECS,
    )  # fmt: skip
    write_log(home, store, plan)
    return RunWriter(store, f"{plan}-1")


def write_log(home: Home, store: Store, plan: str = "p", limits: Limits | None = None) -> None:
    log, _ = open_audit_log(home.audit_log(plan), store, limits)
    log.catch_up(store, plan)
    log.close()


def tables(path: Path) -> dict[str, list[tuple[Any, ...]]]:
    connection = sqlite3.connect(path)
    try:
        return {name: connection.execute(f"SELECT * FROM {name} ORDER BY 1, 2, 3").fetchall() for name in TABLES}
    finally:
        connection.close()


def started(attempt: int, number: int = 0) -> link.TrialStarted:
    return link.TrialStarted(number, attempt, f"ray-{attempt}", "node", 4242, 3 if attempt > 1 else None)


def reported(attempt: int, step: int, value: float | None, number: int = 0) -> link.ResultReported:
    checkpoint = f"/c/checkpoint-{step}.pt" if step % 2 else None
    return link.ResultReported(number, attempt, step, value, {"loss": value, "lr": 1e-3 / 7}, checkpoint)


def ended(attempt: int, reason: str, value: float | None, number: int = 0) -> link.TrialEnded:
    return link.TrialEnded(number, attempt, reason, value, "why" if value is None else None, {"parameters": 2_000_000})


def lived(writer: RunWriter) -> None:
    """A little of everything."""
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    writer.move_experiment(E, ProcessState.STARTING)
    writer.record("experiment.started", experiment=E, max_trials=3)
    for message in (
        link.TrialAdded(0, {"lr": 0.1 + 0.2, "seed": 2**70, "note": "é"}, "sampled"), started(1), reported(1, 1, 0.3),
        reported(1, 2, None), link.AttemptLost(0, 1, "worker_died", "SIGKILL"), started(2), reported(2, 2, 0.25),
        reported(2, 3, 0.125), ended(2, "finished", 0.125), link.TrialAdded(1, {"lr": 1}, "enqueued"), started(1, 1),
        link.TrialHeld(1, 1, "PAUSED", "too hot"),
    ):  # fmt: skip
        TrialWriter(writer.store, writer.run_id).handle(E, message)
    writer.put_command(Command(Action.HOLD, Origin.OPERATOR, "visitors", since_wall=5.0, who="ann"), "after")


MOVES = st.tuples(st.just("move"), st.sampled_from([*projection.EXPERIMENT_STATES, *ProcessState]))
SAID = {"action": "STOP", "origin": "governor", "reason": "a reason", "error": "in x\na reason"}
"""The fields of every event that moves an experiment; each takes its own."""
DRIFTS = st.sampled_from([0, 0, 0, 0, 1, -1])
"""How far a message's attempt is from the one that may speak: mostly it is that one."""
STEPS = st.lists(
    st.one_of(
        MOVES,
        st.tuples(st.just("run"), st.sampled_from(list(ProcessState)), st.none()),
        st.tuples(st.sampled_from(["added", "started", "started", "lost"]), st.integers(0, 1), DRIFTS),
        st.tuples(
            st.sampled_from(["reported", "reported", "ended"]), st.integers(0, 1), DRIFTS,
            st.integers(1, 3), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        ),
        st.tuples(st.just("held"), st.integers(0, 1), st.sampled_from(["PAUSED", "RUNNING"])),
        st.tuples(
            st.sampled_from([
                "recover", "requeue", "close", "pause", "resume", "stop", "want", "open", "score", "fail", "retry",
            ])
        ),
    ),
    max_size=40,
)  # fmt: skip
RESULT = {
    "windows": {"test": 1}, "dates": {"test": ["e", "f"]}, "predictions": {"file": "p.json", "sha256": "cd"},
    "models": {name: {"test": {"bce": {"value": 0.6, "low": 0.5, "high": 0.7}}} for name in ("patchtst", "prior")},
}  # fmt: skip
OPENING = {
    "by": "a test", "reason": "its turn", "dataset": "x.parquet", "dataset_sha256": "ab", "split": {}, "horizon": 1,
    "trials": [8, 9], "test_days": [],
}  # fmt: skip


def take(writer: RunWriter, step: tuple[Any, ...]) -> None:
    """One step of a history; those that the state does not allow are refused there, as in life."""
    answers = EvaluationWriter(writer.store, writer.run_id)
    pause = Command(Action.PAUSE, Origin.OPERATOR, "r", since_wall=0.1, who="ann")
    asked = StartRequest("p", fingerprint="f", specs=SPECS)
    plain: dict[str, Any] = {
        "recover": writer.recover,
        "requeue": lambda: writer.requeue_live_trials(E, "driver_died"),
        "close": lambda: writer.end_unfinished_trials(E, "max_hours reached"),
        "pause": lambda: writer.put_command(pause, "now"),
        "resume": lambda: writer.drop_command("all", "bob"),
        "stop": lambda: writer.record("run.stopped", who="ann"),
        # A run that has ended would be followed by a new one.
        "want": lambda: writer.run_state() == "EXITED" or choose_run(writer.store, asked, UnevenClock()),
        "open": lambda: answers.open_test(E, OPENING),
        "score": lambda: answers.keep_result(E, RESULT),
        "fail": lambda: answers.record_failure(E, "no disk", outside=True),
        "retry": lambda: try_again(RetryWriter(writer.store, writer.run_id), "ann"),
    }
    if step[0] in plain:
        plain[step[0]]()
    elif step[0] == "move":
        fields = {key: value for key, value in SAID.items() if step[1] in EVENTS and key in EVENTS[step[1]].fields}
        event = step[1] if step[1] in EVENTS else None
        move(writer, projection.EXPERIMENT_STATES.get(step[1], step[1]), event, **fields)
    elif step[0] == "run":
        event = {"RUNNING": "run.started", "FATAL": "run.failed"}.get(step[1], "run.moved")
        writer.record(event, **{"run.failed": {"error": "x"}, "run.moved": {"state": step[1]}}.get(event, {}))
    else:
        commit(writer, step)


def commit(writer: RunWriter, step: tuple[Any, ...]) -> None:
    kind, number, drift, *rest = step
    row = writer.store.row("SELECT attempt FROM trial WHERE number = ?", number)
    attempt = 0 if row is None else row["attempt"]
    messages: dict[str, Any] = {
        "added": lambda: link.TrialAdded(number, {"lr": 0.1 * (number + 1)}, "sampled"),
        "started": lambda: started(attempt + 1 + drift, number),
        "lost": lambda: link.AttemptLost(number, attempt + drift, "worker_died", None),
        "held": lambda: link.TrialHeld(number, attempt, drift, "too hot"),
        "reported": lambda: reported(max(0, attempt + drift), *rest, number),
        "ended": lambda: ended(
            max(0, attempt + drift), list(EndReason)[rest[0] if rest[1] is not None else -rest[0]], rest[1], number
        ),
    }
    TrialWriter(writer.store, writer.run_id).handle(E, messages[kind]())


@settings(max_examples=100, deadline=None)
@given(steps=STEPS)
def test_the_logs_give_back_every_table(tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[Any, ...]]) -> None:
    home = make_home(tmp_path_factory.mktemp("home"))
    writer = a_run(home)
    for step in steps:
        with contextlib.suppress(ValueError, TestRefused, Conflict):
            take(writer, step)
    write_log(home, writer.store)
    writer.store.close()
    before = tables(home.store)
    rebuilt = rebuild.rebuild(home, UnevenClock(), "a test")
    assert tables(home.store) == before
    assert rebuilt.problems == []


def move(writer: RunWriter, state: str, event: str | None = None, **fields: Any) -> None:
    """Move the experiment by the event that leaves it in `state`."""
    if event is None:
        writer.move_experiment(E, ProcessState(state))
    else:
        assert projection.EXPERIMENT_STATES[event] == state
        writer.record(event, experiment=E, **fields)


def test_every_kind_of_event_that_changes_something_is_replayed(home: Home) -> None:
    writer = a_run(home)
    move(writer, "SKIPPED", "experiment.skipped", reason="too large")
    move(writer, "STOPPED")
    writer.move_run(ProcessState.STARTING)
    writer.record("run.failed", error="x")
    writer.recover()
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    answers = EvaluationWriter(writer.store, writer.run_id)
    answers.open_test(E, OPENING)
    answers.record_failure(E, "no disk", outside=True)
    writer.record("experiment.warmed", experiment=E, donor="d", count=1, points=[{"lr": 0.1}])
    move(writer, "STARTING")
    move(writer, "BACKOFF", "driver.exited", reason="signal 9", retry_in_s=1.0, log="x")
    move(writer, "STARTING")
    move(writer, "RUNNING", "experiment.started", max_trials=3)
    heat = {"action": "PAUSE", "origin": "governor", "reason": "too hot", "drill": False}
    move(writer, "PAUSED", "experiment.paused", **heat)
    move(writer, "RUNNING", "experiment.resumed", drill=False)
    move(writer, "PAUSED", "driver.stopped", **heat | {"action": "STOP"})
    move(writer, "STARTING")
    move(writer, "RUNNING", "experiment.started", max_trials=3)
    for message in (
        link.TrialAdded(0, {"lr": 0.1}, "sampled"), started(1), reported(1, 1, 0.5), reported(1, 2, 0.4),
        reported(1, 3, 0.4), link.TrialHeld(0, 1, "PAUSED", "hot"), link.TrialHeld(0, 1, "RUNNING", "cool"),
        link.AttemptLost(0, 1, "worker_died", None), started(2), reported(2, 1, 0.6), ended(2, "finished", 0.4),
        link.TrialAdded(1, {"lr": 0.2}, "sampled"), started(1, 1), ended(1, "diverged", None, 1),
        link.TrialAdded(2, {"lr": 0.3}, "sampled"), started(1, 2), link.TrialHeld(2, 1, "PAUSED", "hot"),
    ):  # fmt: skip
        before = written(home, writer)
        TrialWriter(writer.store, writer.run_id).handle(E, message)
        assert tables(home.store) != before
    TrialWriter(writer.store, writer.run_id).handle(E, link.TrialHeld(2, 1, "RUNNING", "cool"))
    pause = Command(Action.PAUSE, Origin.OPERATOR, "r", since_wall=0.1, who="ann")
    writer.put_command(pause, "now")
    seen = replayed_equal(home, writer)
    writer.drop_command("all", "bob")
    writer.record("run.stopped", who="ann")
    move(writer, "STOPPING")
    move(writer, "STOPPED", "experiment.stopped", reason="asked")
    seen |= replayed_equal(home, writer)
    choose_run(writer.store, StartRequest("p", fingerprint="f", specs=SPECS), UnevenClock())
    writer.recover()
    writer.move_run(ProcessState.STARTING)
    writer.record("run.started")
    move(writer, "STARTING")
    move(writer, "FATAL", "experiment.failed", reason="x", error="in y\nx", seconds=1.0)
    seen |= replayed_equal(home, writer)
    move(writer, "STOPPED")
    move(writer, "STARTING")
    TrialWriter(writer.store, writer.run_id).handle(E, ended(2, "hung", None, 2))
    move(writer, "EXITED", "experiment.finished", best=0.4, best_trial=0, trials=3, failed=1, seconds=1.0)
    seen |= replayed_equal(home, writer)
    before = written(home, writer)
    retried, *_ = try_again(RetryWriter(writer.store, writer.run_id), "ann")
    assert (retried.trials, retried.test) == ((2,), True)
    assert tables(home.store) != before
    answers.open_test(E, OPENING)
    answers.keep_result(E, RESULT)
    seen |= replayed_equal(home, writer)
    writer.record("run.finished", passed=1, failed=0, skipped=0, seconds=1.0)
    seen |= replayed_equal(home, writer)
    assert set(projection._CHANGES) - seen == {"run.abandoned"}, "the next test covers that event"


def test_a_run_that_was_given_up_is_replayed_as_such(home: Home) -> None:
    writer = a_run(home)
    choose_run(writer.store, StartRequest("p", fingerprint="g", specs=SPECS, new=True), UnevenClock(1_800_000_000.0))
    assert "run.abandoned" in replayed_equal(home, writer)


def written(home: Home, writer: RunWriter) -> dict[str, list[tuple[Any, ...]]]:
    write_log(home, writer.store)
    return tables(home.store)


def replayed_equal(home: Home, writer: RunWriter) -> set[str]:
    """Replay the events so far beside the store and compare every table; return the events' names."""
    wanted = written(home, writer)
    beside = make_home(home.root / f"beside-{len(wanted['event'])}")
    shutil.copy(home.audit_log("p"), beside.audit_log("p"))
    assert rebuild.rebuild(beside, UnevenClock(), "a test").problems == []
    assert tables(beside.store) == wanted
    return {event.name for event in writer.store.events_after(0)}


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
