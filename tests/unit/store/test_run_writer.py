"""The ledger: what a driver says is believed only from the attempt that may speak, and every change has its event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.lifecycle import EndReason, ProcessState
from supervisor.store.database import Store
from supervisor.store.queries import for_begin
from supervisor.store.run_writer import RunWriter, create_run
from supervisor.store.trial_writer import TrialWriter

E = "x"


class CountingClock(Clock):
    """A second later at each look."""

    def __init__(self) -> None:
        self.now = 1_700_000_000.0

    def wall_s(self) -> float:
        self.now += 1.0
        return self.now


def make_ledger(path: Path | str) -> RunWriter:
    store = Store(Path(path), CountingClock())
    spec = {"name": E, "mode": "min", "max_trials": 3, "concurrency": 1}
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=[spec]
    )
    return RunWriter(store, "r")


@pytest.fixture
def ledger(tmp_path: Path) -> RunWriter:
    return make_ledger(tmp_path / "sweep.db")


def added(number: int = 0) -> link.TrialAdded:
    return link.TrialAdded(number, {"lr": 0.1 * (number + 1)}, "sampled")


def started(attempt: int, number: int = 0) -> link.TrialStarted:
    return link.TrialStarted(number, attempt, f"ray-{attempt}", "node", 4242, None)


def reported(attempt: int, step: int, value: float | None = 0.5, number: int = 0) -> link.ResultReported:
    return link.ResultReported(number, attempt, step, value, {"loss": value}, f"checkpoint-{step}.pt")


def held(attempt: int, state: str, number: int = 0) -> link.TrialHeld:
    return link.TrialHeld(number, attempt, state, "too hot")


def ended(attempt: int, reason: str = "finished", value: float | None = 0.5, number: int = 0) -> link.TrialEnded:
    return link.TrialEnded(number, attempt, reason, value, None if value is not None else "it broke", {"size": 1})


def lost(attempt: int, number: int = 0) -> link.AttemptLost:
    return link.AttemptLost(number, attempt, "worker_died", "SIGKILL")


def say(ledger: RunWriter, message: link.Message) -> bool:
    return TrialWriter(ledger.store, ledger.run_id).handle(E, message)


def hear(ledger: RunWriter, *messages: link.Message) -> list[str]:
    """The names of the events that these messages left."""
    before = last_seq(ledger)
    for message in messages:
        say(ledger, message)
    return [event.name for event in ledger.store.events_after(before)]


def last_seq(ledger: RunWriter) -> int:
    return int(ledger.store.rows("SELECT coalesce(max(seq), 0) FROM event")[0][0])


def trial(ledger: RunWriter, number: int = 0) -> dict[str, Any]:
    return dict(ledger.store.rows("SELECT * FROM trial WHERE number = ?", number)[0])


def test_a_trials_life_leaves_one_event_for_each_change(ledger: RunWriter) -> None:
    names = hear(
        ledger, added(), started(1), reported(1, 1), held(1, "PAUSED"), held(1, "RUNNING"), lost(1),
        started(2), reported(2, 2), ended(2),
    )  # fmt: skip
    assert names == [
        "trial.added", "trial.started", "trial.reported", "trial.paused", "trial.resumed", "trial.requeued",
        "trial.started", "trial.reported", "trial.finished",
    ]  # fmt: skip
    row = trial(ledger)
    assert (row["state"], row["end_reason"], row["value"], row["attempt"]) == ("TERMINATED", "finished", 0.5, 2)
    assert (row["checkpoint"], row["checkpoint_step"], row["record"]) == ("checkpoint-2.pt", 2, '{"size": 1}')
    causes = ledger.store.rows("SELECT cause, ended_wall IS NULL AS live FROM attempt ORDER BY attempt")
    assert [tuple(row) for row in causes] == [("worker_died", 0), ("finished", 0)]


@pytest.mark.parametrize("reason", list(EndReason))
def test_only_an_end_that_succeeded_keeps_its_value(ledger: RunWriter, reason: EndReason) -> None:
    hear(ledger, added(), started(1))
    names = hear(ledger, link.TrialEnded(0, 1, reason.value, 0.25, "why"))
    good = reason in (EndReason.FINISHED, EndReason.EARLY_STOPPED, EndReason.PRUNED)
    assert names == ["trial.finished" if good else "trial.failed"]
    assert trial(ledger)["value"] == (0.25 if good else None)
    assert trial(ledger)["state"] == ("TERMINATED" if good else "ERROR")


@pytest.mark.parametrize(
    ("story", "late", "why"),
    [
        ([], reported(1, 1), "no such trial"),
        ([], started(1), "no such trial"),
        ([added()], reported(1, 1), "has not started"),
        ([added()], held(1, "PAUSED"), "has not started"),
        ([added(), started(1)], started(1), "started before"),
        ([added(), started(2)], started(1), "started before"),
        ([added(), started(1), started(2)], reported(1, 1), "attempt 2 speaks"),
        ([added(), started(1), started(2)], ended(1), "attempt 2 speaks"),
        ([added(), started(1), lost(1)], reported(1, 1), "was lost"),
        ([added(), started(1), lost(1)], held(1, "PAUSED"), "was lost"),
        ([added(), started(1), lost(1)], held(1, "RUNNING"), "was lost"),
        ([added(), started(1), lost(1)], ended(1), "was lost"),
        ([added(), started(1), lost(1)], lost(1), "was lost"),
        ([added(), started(1), ended(1)], reported(1, 1), "has ended"),
        ([added(), started(1), ended(1)], ended(1, "error", None), "has ended"),
        ([added(), started(1), ended(1)], started(2), "has ended"),
        ([added(), started(1), ended(1)], lost(1), "has ended"),
    ],
)
def test_a_message_out_of_its_time_changes_nothing_but_leaves_an_event(
    ledger: RunWriter, story: list[link.Message], late: link.Message, why: str
) -> None:
    hear(ledger, *story)
    before = [tuple(row) for row in ledger.store.rows("SELECT * FROM trial")]
    seq = last_seq(ledger)
    hear(ledger, late)
    (refusal,) = ledger.store.events_after(seq)
    assert refusal.name == "result.refused"
    assert why in refusal.fields["reason"]
    assert refusal.fields["message"] == type(late).__name__
    assert [tuple(row) for row in ledger.store.rows("SELECT * FROM trial")] == before
    assert ledger.store.rows("SELECT * FROM result") == []


def test_a_new_attempt_ends_the_one_before_even_if_that_was_paused(ledger: RunWriter) -> None:
    hear(ledger, added(), started(1), held(1, "PAUSED"))
    assert hear(ledger, started(2)) == ["trial.requeued", "trial.started"]
    live = ledger.store.rows("SELECT attempt FROM attempt WHERE ended_wall IS NULL")
    assert [row["attempt"] for row in live] == [2]
    assert (trial(ledger)["state"], trial(ledger)["held_for"]) == ("RUNNING", None)


def test_a_trial_that_could_not_be_built_ends_without_having_started(ledger: RunWriter) -> None:
    hear(ledger, added())
    assert hear(ledger, ended(1, "error", None)) == ["trial.failed"]
    assert (trial(ledger)["state"], trial(ledger)["error"]) == ("ERROR", "it broke")


def test_a_result_said_twice_counts_once_and_the_first_stays(ledger: RunWriter) -> None:
    hear(ledger, added(), started(1), reported(1, 1, 0.5))
    assert hear(ledger, reported(1, 1, 0.9)) == []
    hear(ledger, lost(1), started(2))
    assert hear(ledger, reported(2, 1, 0.7)) == ["trial.repeated"], "an epoch trained again is told, but counts once"
    assert [row["value"] for row in ledger.store.rows("SELECT value FROM result")] == [0.5]


def test_a_result_that_comes_again_late_does_not_bring_an_older_checkpoint_back(ledger: RunWriter) -> None:
    hear(ledger, added(), started(1), reported(1, 1), reported(1, 2))
    assert hear(ledger, reported(1, 1)) == []
    assert ledger.store.rows("SELECT checkpoint FROM trial")[0]["checkpoint"] == "checkpoint-2.pt"
    # Another attempt may have had to go back to it.
    assert hear(ledger, started(2), reported(2, 1)) == ["trial.requeued", "trial.started", "trial.repeated"]
    assert ledger.store.rows("SELECT checkpoint FROM trial")[0]["checkpoint"] == "checkpoint-1.pt"


def test_an_adopted_trial_keeps_its_first_parameters(ledger: RunWriter) -> None:
    hear(ledger, added())
    assert hear(ledger, link.TrialAdded(0, {"lr": 99.0}, "enqueued")) == []
    assert (trial(ledger)["params"], trial(ledger)["source"]) == ('{"lr": 0.1}', "sampled")


def test_what_is_not_about_a_trial_is_a_bug_of_the_caller(ledger: RunWriter) -> None:
    with pytest.raises(ValueError, match="expected a message about a trial, found a Heartbeat"):
        say(ledger, link.Heartbeat(1))


def test_recover_stops_what_lived_and_requeues_running_and_paused_trials(ledger: RunWriter) -> None:
    ledger.move_run(ProcessState.STARTING)
    ledger.record("run.started")
    ledger.move_experiment(E, ProcessState.STARTING)
    ledger.record("experiment.started", experiment=E, max_trials=3)
    hear(ledger, added(0), started(1), added(1), started(1, 1), held(1, "PAUSED", 1), added(2))
    seq = last_seq(ledger)
    assert ledger.recover() == 2
    assert [event.name for event in ledger.store.events_after(seq)] == [
        "trial.requeued", "trial.requeued", "daemon.recovered",
    ]  # fmt: skip
    assert (ledger.run_state(), ledger.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.STOPPED)
    assert [row["state"] for row in ledger.store.rows("SELECT state FROM trial")] == ["PENDING"] * 3
    seq = last_seq(ledger)
    assert ledger.recover() == 0, "a second time there is nothing to do"
    assert last_seq(ledger) == seq


def test_recover_makes_a_fatal_run_startable_and_leaves_ended_experiments_alone(ledger: RunWriter) -> None:
    ledger.record("experiment.skipped", experiment=E, reason="too large")
    ledger.move_run(ProcessState.STARTING)
    ledger.record("run.failed", error="no Ray")
    ledger.recover()
    assert (ledger.run_state(), ledger.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.SKIPPED)
    assert ledger.store.rows("SELECT ended_wall FROM run")[0]["ended_wall"] is None


def test_what_an_ended_experiment_leaves_undone_ends_and_a_lost_attempt_keeps_its_own_end(ledger: RunWriter) -> None:
    hear(ledger, added(0), started(1), lost(1), added(1), started(1, 1), ended(1, number=1), added(2), started(1, 2))
    before = tuple(ledger.store.rows("SELECT * FROM attempt WHERE trial = 0")[0])
    assert ledger.end_unfinished_trials(E, "max_hours reached") == 2
    assert tuple(ledger.store.rows("SELECT * FROM attempt WHERE trial = 0")[0]) == before
    ends = [(row["end_reason"], row["error"]) for row in ledger.store.rows("SELECT * FROM trial ORDER BY number")]
    assert ends == [("operator", "max_hours reached"), ("finished", None), ("operator", "max_hours reached")]
    assert ledger.store.rows("SELECT * FROM attempt WHERE ended_wall IS NULL") == []


def test_requeue_counts_only_live_trials_of_its_experiment(ledger: RunWriter) -> None:
    hear(ledger, added(0), started(1), added(1), started(1, 1), ended(1, number=1), added(2))
    assert ledger.requeue_live_trials(E, "driver_died") == 1
    assert ledger.requeue_live_trials("another", "driver_died") == 0
    assert [row["state"] for row in ledger.store.rows("SELECT state FROM trial ORDER BY number")] == [
        "PENDING", "TERMINATED", "PENDING",
    ]  # fmt: skip


def test_a_move_that_lifecycle_forbids_changes_nothing_and_leaves_no_event(ledger: RunWriter) -> None:
    seq = last_seq(ledger)
    with pytest.raises(ValueError, match="cannot go from STOPPED to RUNNING"):
        ledger.record("run.started")
    with pytest.raises(ValueError, match="cannot go from STOPPED to EXITED"):
        ledger.move_experiment(E, ProcessState.EXITED)
    assert (ledger.run_state(), ledger.experiment_state(E)) == (ProcessState.STOPPED, ProcessState.STOPPED)
    assert last_seq(ledger) == seq


def test_an_operators_command_survives_reopening_until_it_is_dropped(tmp_path: Path) -> None:
    ledger = make_ledger(tmp_path / "sweep.db")
    hold = Command(Action.HOLD, Origin.OPERATOR, "visitors", since_wall=5.0, who="ann")
    pause = Command(Action.PAUSE, Origin.OPERATOR, "visitors stay", since_wall=6.0, who="ann")
    ledger.put_command(hold, "after running trials")
    ledger.put_command(pause, "now")
    ledger.store.close()
    again = RunWriter(Store(tmp_path / "sweep.db", CountingClock()), "r")
    assert again.commands() == [pause], "the later of one scope takes the place of the earlier"
    assert again.drop_command("all", "bob") is True
    assert again.drop_command("all", "bob") is False
    assert again.commands() == []
    names = [event.name for event in again.store.events_after(1)]
    assert names == ["run.paused", "run.paused", "run.resumed"]


def test_what_the_operator_wants_is_written_with_its_event(ledger: RunWriter) -> None:
    ledger.record("run.stopped", who="ann")
    assert ledger.store.rows("SELECT desired FROM run")[0]["desired"] == "stop"
    assert ledger.store.events_after(1)[0].fields == {"who": "ann"}


def test_a_drill_is_told_by_its_name(ledger: RunWriter) -> None:
    """The event has a field called `name`, like the parameter of `tell` itself."""
    ledger.record("drill.started", name="heat", duration_s=5.0, node=None, drill=True)
    assert ledger.store.events_after(1)[0].fields["name"] == "heat"


def test_starts_of_a_driver_are_counted_and_the_first_start_time_stays(ledger: RunWriter) -> None:
    for _ in range(2):
        ledger.move_experiment(E, ProcessState.STARTING)
        ledger.move_experiment(E, ProcessState.BACKOFF)
    row = ledger.store.rows("SELECT driver_starts, started_wall, ended_wall FROM experiment")[0]
    first = row["started_wall"]
    ledger.record("experiment.failed", experiment=E, reason="x", error="x", seconds=1.0)
    row = ledger.store.rows("SELECT * FROM experiment")[0]
    assert (row["driver_starts"], row["started_wall"], row["reason"]) == (2, first, "x")
    assert row["ended_wall"] > first


NUMBERS = st.integers(0, 1)
DRIFTS = st.sampled_from([0, 0, 0, 1, 1, -1, 2])
"""How far from the attempt that may speak a message's attempt is: mostly its own or the next, else late or early."""
VALUES = st.one_of(st.none(), st.floats(-5, 5))
ENDS = st.sampled_from([reason.value for reason in EndReason])
STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("added"), NUMBERS, DRIFTS),
        st.tuples(st.just("started"), NUMBERS, DRIFTS),
        st.tuples(st.just("reported"), NUMBERS, DRIFTS, st.integers(1, 4), VALUES),
        st.tuples(st.just("held"), NUMBERS, DRIFTS, st.sampled_from(["RUNNING", "PAUSED"])),
        st.tuples(st.just("lost"), NUMBERS, DRIFTS),
        st.tuples(st.sampled_from(["ended", "ended", "recover", "requeue", "close"]), NUMBERS, DRIFTS, ENDS, VALUES),
    ),
    min_size=1,
    max_size=60,
)


def message_of(ledger: RunWriter, step: tuple[Any, ...]) -> link.Message:
    kind, number, drift, *rest = step
    row = ledger.store.row("SELECT attempt FROM trial WHERE number = ?", number)
    attempt = max(0, (0 if row is None else row["attempt"]) + drift)
    match kind:
        case "added":
            return added(number)
        case "started":
            return started(attempt, number)
        case "reported":
            return reported(attempt, rest[0], rest[1], number)
        case "held":
            return held(attempt, rest[0], number)
        case "lost":
            return lost(attempt, number)
    return ended(attempt, rest[0], rest[1], number)


Facts = dict[tuple[Any, ...], tuple[Any, ...]]


def facts(ledger: RunWriter) -> tuple[Facts, Facts, Facts]:
    """What never changes again: results by trial and step, ended trials, ended attempts by trial and number."""
    results = {(r["trial"], r["step"]): tuple(r) for r in ledger.store.rows("SELECT * FROM result")}
    over = {(r["number"],): tuple(r) for r in ledger.store.rows("SELECT * FROM trial WHERE end_reason IS NOT NULL")}
    tries = {
        (r["trial"], r["attempt"]): tuple(r)
        for r in ledger.store.rows("SELECT * FROM attempt WHERE ended_wall IS NOT NULL")
    }
    return results, over, tries


def states(ledger: RunWriter) -> list[tuple[Any, ...]]:
    trials = ledger.store.rows("SELECT number, state, attempt, end_reason, value FROM trial")
    return [tuple(row) for row in (*trials, *ledger.store.rows("SELECT * FROM attempt"))]


def check_consistent(ledger: RunWriter) -> None:
    for row in ledger.store.rows("SELECT * FROM trial"):
        attempts = ledger.store.rows("SELECT * FROM attempt WHERE trial = ? AND ended_wall IS NULL", row["number"])
        live = [attempt["attempt"] for attempt in attempts]
        if row["state"] in ("RUNNING", "PAUSED"):
            assert live == [row["attempt"]], "one live attempt, and it is the one that may speak"
        else:
            assert live == [], "no attempt lives of a trial that waits or is over"
        assert (row["end_reason"] is not None) == (row["state"] in ("TERMINATED", "ERROR"))
        assert (row["ended_wall"] is not None) == (row["end_reason"] is not None)
        assert row["held_for"] is None or row["state"] == "PAUSED"


@settings(max_examples=150, deadline=None)
@given(steps=STEPS)
def test_no_order_of_late_doubled_and_lost_messages_breaks_the_ledger(steps: list[Any]) -> None:
    """Never two live attempts; results never change or vanish; an ended trial never changes; a change has its event."""
    ledger = make_ledger(":memory:")
    results, over, tries = facts(ledger)
    for step in steps:
        seq, before = last_seq(ledger), states(ledger)
        if step[0] == "recover":
            ledger.recover()
        elif step[0] == "requeue":
            ledger.requeue_live_trials(E, "driver_died")
        elif step[0] == "close":
            ledger.end_unfinished_trials(E, "max_hours reached")
        else:
            say(ledger, message_of(ledger, step))
            assert last_seq(ledger) > seq or step[0] in ("added", "reported", "held"), "a refusal leaves an event, too"
        assert states(ledger) == before or last_seq(ledger) > seq, "no change without an event"
        now = facts(ledger)
        assert results.items() <= now[0].items()
        assert over.items() <= now[1].items()
        assert tries.items() <= now[2].items()
        results, over, tries = now
        check_consistent(ledger)
    told = [event.name for event in ledger.store.events_after(0)]
    assert told.count("trial.reported") == len(results)
    assert told.count("trial.finished") + told.count("trial.failed") == len(over)
    assert told.count("trial.added") == ledger.store.rows("SELECT count(*) FROM trial")[0][0]
    assert told.count("trial.started") == ledger.store.rows("SELECT count(*) FROM attempt")[0][0]


def test_what_a_trial_is_given_after_its_memory_ran_out_is_told_and_reaches_the_next_driver(ledger: RunWriter) -> None:
    """The last word counts, whatever else its attempts are lost by; a refused one counts nothing."""
    half, quarter = ({"micro_batch": size, "checkpoint_activations": False} for size in (32, 16))

    def given() -> list[Any]:
        return [trial["memory"] for trial in for_begin(ledger.store.connection, "r", E)]

    for number in (0, 1):
        say(ledger, added(number))
        say(ledger, started(1, number))
    assert given() == [None, None]
    say(ledger, link.AttemptLost(0, 1, "oom", "it ran out", memory=half))
    say(ledger, link.AttemptLost(1, 1, "worker_died", None))
    assert given() == [half, None]
    assert not say(ledger, link.AttemptLost(0, 1, "oom", "again", memory=quarter))
    say(ledger, started(2))
    say(ledger, link.AttemptLost(0, 2, "memory", None, memory=quarter))
    say(ledger, started(3))
    say(ledger, link.AttemptLost(0, 3, "released", None))
    assert given() == [quarter, None]
    rows = ledger.store.rows("SELECT attempt, fields FROM event WHERE name = 'trial.reduced' ORDER BY seq")
    assert [(row["attempt"], json.loads(row["fields"])["memory"]) for row in rows] == [(1, half), (2, quarter)]


def test_a_trials_pause_ends_with_the_trial_and_not_with_an_attempt_that_no_longer_speaks_for_it(
    ledger: RunWriter,
) -> None:
    pause = Command(Action.PAUSE, Origin.OPERATOR, "visitors", f"{E}/0", 1.0, who="ann")
    hear(ledger, added(), started(1), lost(1), started(2))
    ledger.put_command(pause, "at its next report")
    assert hear(ledger, ended(1)) == ["result.refused"]
    assert ledger.commands() == [pause]
    assert hear(ledger, ended(2)) == ["trial.finished", "run.resumed"]
    assert ledger.commands() == []
