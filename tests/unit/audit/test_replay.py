"""Replay the logs of any history: they give back every table."""

from __future__ import annotations

import contextlib
import shutil
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.audit import rebuild
from supervisor.control.handshake import StartRequest
from supervisor.daemon.run_selection import choose_run, try_again
from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.early_ends import Named
from supervisor.domain.lifecycle import EndReason, ProcessState
from supervisor.errors import Conflict, TestRefused
from supervisor.home import Home
from supervisor.store import projection
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.event_catalog import EVENTS
from supervisor.store.run_writer import RunWriter
from supervisor.store.steering.extended_trials import ExtendedTrials
from supervisor.store.steering.retry_writer import RetryWriter
from supervisor.store.trial_writer import TrialWriter
from tests.unit.audit.rebuild_home import (
    OPENING,
    RESULT,
    SPECS,
    E,
    UnevenClock,
    a_run,
    ended,
    make_home,
    reported,
    started,
    tables,
    write_log,
)


@pytest.fixture
def home(tmp_path: Path) -> Home:
    return make_home(tmp_path)


MOVES = st.tuples(st.just("move"), st.sampled_from([*projection.EXPERIMENT_STATES, *ProcessState]))
SAID = {"action": "STOP", "origin": "governor", "reason": "a reason", "error": "in x\na reason"}
"""The fields of every event that moves an experiment; each takes its own."""
DRIFTS = st.sampled_from([0, 0, 0, 0, 1, -1])
"""The distances of a message's attempt from the one that may speak: mostly 0."""
STEPS = st.lists(
    st.one_of(
        MOVES,
        st.tuples(st.just("run"), st.sampled_from(list(ProcessState)), st.none()),
        st.tuples(st.sampled_from(["added", "started", "started", "lost", "repeats"]), st.integers(0, 1), DRIFTS),
        st.tuples(
            st.sampled_from(["reported", "reported", "ended"]), st.integers(0, 1), DRIFTS,
            st.integers(1, 3), st.one_of(st.none(), st.floats(allow_nan=False, allow_infinity=False)),
        ),
        st.tuples(st.just("held"), st.integers(0, 1), st.sampled_from(["PAUSED", "RUNNING"])),
        st.tuples(
            st.sampled_from([
                "recover", "requeue", "close", "pause", "resume", "stop", "want", "open", "score", "fail", "retry",
                "extend",
            ])
        ),
    ),
    max_size=40,
)  # fmt: skip


def take(writer: RunWriter, step: tuple[Any, ...]) -> None:
    """Take one step of a history; the state refuses a step that it does not allow."""
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
        "extend": lambda: ExtendedTrials(writer.store, writer.run_id).extend({Named(E, 0): 2}, "ann", anew=True),
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
        "repeats": lambda: link.TrialDuplicated(number, {"lr": 0.1}, "sampled", 1 - number),
        "started": lambda: started(attempt + 1 + drift, number),
        "lost": lambda: link.AttemptLost(number, attempt + drift, "worker_died", None),
        "held": lambda: link.TrialHeld(number, attempt, drift, "too hot"),
        "reported": lambda: reported(max(0, attempt + drift), *rest, number),
        "ended": lambda: ended(
            max(0, attempt + drift), list(EndReason)[rest[0] if rest[1] is not None else -rest[0]], rest[1], number
        ),
    }
    TrialWriter(writer.store, writer.run_id).handle(E, messages[kind]())


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
    writer.record(
        "experiment.resources_chosen", experiment=E, trials=2, threads=3, most=2, reason="measured",
        figures=[],
    )  # fmt: skip
    writer.record("experiment.concurrency_moved", experiment=E, trials=1, before=2, reason="1 is as fast")
    writer.record("experiment.extended", experiment=E, hours=1.5, sources=["d"])
    writer.record("experiment.narrowed", experiment=E, low=0, high=1, tried=2, shapes=3, reason="a trial is too long")
    writer.record("experiment.finish_asked", experiment=E, who="ann")
    writer.record("experiment.search_ended", experiment=E, reason="finish", trials=3, top=None, seeds=None)
    writer.record(
        "plan.changed", who="ann", sets=["concurrency=4"], experiments=[E], specs={E: {"concurrency": 4}},
        policy={"min_off_s": 9.0}, plan_text="name: p", fingerprint="f", source_sha256="ab", everywhere=True,
    )  # fmt: skip
    for schedule in ({"on_battery": "pause"}, {"on_battery": "hold"}, {}):
        before = written(home, writer)
        writer.record(
            "plan.changed", who="ann", sets=["hardware.schedule=..."], experiments=[], specs={}, policy=None,
            schedule=schedule, plan_text=None, fingerprint=None, source_sha256=None, everywhere=True,
        )  # fmt: skip
        assert tables(home.store) != before
        if schedule:
            pause = Command(Action.PAUSE, Origin.SCHEDULE, "by schedule while on battery", since_wall=0.1)
            writer.record(
                "schedule.changed", action="PAUSE", reason=pause.reason, until_wall=None, who=None,
                command=pause.to_json(),
            )  # fmt: skip
            assert writer.schedule() == pause
    assert writer.schedule() is None, "the last command of a schedule ends with it"
    writer.record("trial.discarded", experiment=E, trial=0, who="ann")
    writer.record("trial.restored", experiment=E, trial=0, who="ann")
    writer.record(
        "trial.extended", experiment=E, trial=0, attempt=1, who="ann", epochs=2, last_step=5, from_step=3,
        checkpoint="checkpoint-3", after=3, anew=False, end_reason="pruned", value=0.5,
    )  # fmt: skip
    writer.record("finalisation.set_aside", experiment=E, who="ann", verb="extend", count=1, trials=[2], finalize=None)
    writer.record("experiment.advanced", experiment=E, who="ann")
    writer.record("experiment.point_enqueued", experiment=E, who="ann", point={"lr": 0.2})
    writer.record("experiment.enlarged", experiment=E, who="ann", trials=0, hours=0.0, max_trials=3)
    writer.record("experiment.skip_asked", experiment=E, who="ann")
    writer.record("experiment.skip_revoked", experiment=E, who="ann")
    writer.record("trial.end_asked", experiment=E, trial=0, who="ann")
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
    assert set(projection.CHANGES) - seen == {"run.abandoned"}, "the next test covers that event"


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
