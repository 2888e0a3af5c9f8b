"""A message about a trial is believed from its current attempt only, and every change has its event."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.domain import messages as link
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import after_search
from supervisor.domain.lifecycle import EndReason
from supervisor.store import lookups
from supervisor.store.queries import for_begin, trials_of
from supervisor.store.run_writer import RunWriter
from tests.unit.store.writers import (
    E,
    added,
    commit,
    ended,
    held,
    last_seq,
    lost,
    make_writer,
    reported,
    say,
    started,
    trial,
)  # fmt: skip


def test_a_trials_life_leaves_one_event_for_each_change(writer: RunWriter) -> None:
    names = commit(
        writer, added(), started(1), reported(1, 1), held(1, "PAUSED"), held(1, "RUNNING"), lost(1),
        started(2), reported(2, 2), ended(2),
    )  # fmt: skip
    assert names == [
        "trial.added", "trial.started", "trial.reported", "trial.paused", "trial.resumed", "trial.requeued",
        "trial.started", "trial.reported", "trial.finished",
    ]  # fmt: skip
    row = trial(writer)
    assert (row["state"], row["end_reason"], row["value"], row["attempt"]) == ("TERMINATED", "finished", 0.5, 2)
    assert (row["checkpoint"], row["checkpoint_step"], row["record"]) == ("checkpoint-2.pt", 2, '{"size": 1}')
    causes = writer.store.rows("SELECT cause, ended_wall IS NULL AS live FROM attempt ORDER BY attempt")
    assert [tuple(row) for row in causes] == [("worker_died", 0), ("finished", 0)]


@pytest.mark.parametrize("reason", list(EndReason))
def test_only_an_end_that_succeeded_keeps_its_value(writer: RunWriter, reason: EndReason) -> None:
    commit(writer, added(), started(1))
    names = commit(writer, link.TrialEnded(0, 1, reason.value, 0.25, "why"))
    good = reason in (EndReason.FINISHED, EndReason.EARLY_STOPPED, EndReason.PRUNED)
    assert names == ["trial.finished" if good else "trial.failed"]
    assert trial(writer)["value"] == (0.25 if good else None)
    assert trial(writer)["state"] == ("TERMINATED" if good else "ERROR")


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
    writer: RunWriter, story: list[link.Message], late: link.Message, why: str
) -> None:
    commit(writer, *story)
    before = [tuple(row) for row in writer.store.rows("SELECT * FROM trial")]
    seq = last_seq(writer)
    commit(writer, late)
    (refusal,) = writer.store.events_after(seq)
    assert refusal.name == "result.refused"
    assert why in refusal.fields["reason"]
    assert refusal.fields["message"] == type(late).__name__
    assert [tuple(row) for row in writer.store.rows("SELECT * FROM trial")] == before
    assert writer.store.rows("SELECT * FROM result") == []


def test_a_new_attempt_ends_the_one_before_even_if_that_was_paused(writer: RunWriter) -> None:
    commit(writer, added(), started(1), held(1, "PAUSED"))
    assert commit(writer, started(2)) == ["trial.requeued", "trial.started"]
    live = writer.store.rows("SELECT attempt FROM attempt WHERE ended_wall IS NULL")
    assert [row["attempt"] for row in live] == [2]
    assert (trial(writer)["state"], trial(writer)["held_for"]) == ("RUNNING", None)


def test_a_trial_that_could_not_be_built_ends_without_having_started(writer: RunWriter) -> None:
    commit(writer, added())
    assert commit(writer, ended(1, "error", None)) == ["trial.failed"]
    assert (trial(writer)["state"], trial(writer)["error"]) == ("ERROR", "it broke")


def test_a_result_said_twice_counts_once_and_the_last_attempts_stands(writer: RunWriter) -> None:
    commit(writer, added(), started(1), reported(1, 1, 0.5))
    assert commit(writer, reported(1, 1, 0.9)) == []
    commit(writer, lost(1), started(2))
    assert commit(writer, reported(2, 1, 0.7)) == ["trial.repeated"], "an epoch trained again is named, and counts once"
    assert commit(writer, reported(2, 1, 0.7)) == []
    assert [tuple(row) for row in writer.store.rows("SELECT attempt, value, metrics FROM result")] == [
        (2, 0.7, '{"loss": 0.7}')
    ]


def test_a_result_may_name_the_checkpoint_of_an_earlier_epoch(writer: RunWriter) -> None:
    """It was written while the trial went on."""
    commit(writer, added(), started(1), reported(1, 1), link.ResultReported(0, 1, 5, 0.5, {}, "/r/checkpoint-3.pt"))
    assert (trial(writer)["checkpoint"], trial(writer)["checkpoint_step"]) == ("/r/checkpoint-3.pt", 3)


def test_a_result_that_comes_again_late_does_not_bring_an_older_checkpoint_back(writer: RunWriter) -> None:
    commit(writer, added(), started(1), reported(1, 1), reported(1, 2))
    assert commit(writer, reported(1, 1)) == []
    assert writer.store.rows("SELECT checkpoint FROM trial")[0]["checkpoint"] == "checkpoint-2.pt"
    # Another attempt may have had to go back to it.
    assert commit(writer, started(2), reported(2, 1)) == ["trial.requeued", "trial.started", "trial.repeated"]
    assert writer.store.rows("SELECT checkpoint FROM trial")[0]["checkpoint"] == "checkpoint-1.pt"


def test_an_adopted_trial_keeps_its_first_parameters(writer: RunWriter) -> None:
    commit(writer, added())
    assert commit(writer, link.TrialAdded(0, {"lr": 99.0}, "enqueued")) == []
    assert (trial(writer)["params"], trial(writer)["source"]) == ('{"lr": 0.1}', "sampled")


def test_what_is_not_about_a_trial_is_a_bug_of_the_caller(writer: RunWriter) -> None:
    with pytest.raises(ValueError, match="expected a message about a trial, found a Heartbeat"):
        say(writer, link.Heartbeat())


NUMBERS = st.integers(0, 1)
DRIFTS = st.sampled_from([0, 0, 0, 1, 1, -1, 2])
"""The distances of a message's attempt from the one that may speak: mostly its own or the next, else late or early."""
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


def message_of(writer: RunWriter, step: tuple[Any, ...]) -> link.Message:
    kind, number, drift, *rest = step
    row = writer.store.row("SELECT attempt FROM trial WHERE number = ?", number)
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


def facts(writer: RunWriter) -> tuple[Facts, Facts, Facts]:
    """Return the rows that stay: results, which a later attempt may replace, ended trials, ended attempts."""
    results = {(r["trial"], r["step"]): tuple(r) for r in writer.store.rows("SELECT * FROM result")}
    over = {(r["number"],): tuple(r) for r in writer.store.rows("SELECT * FROM trial WHERE end_reason IS NOT NULL")}
    tries = {
        (r["trial"], r["attempt"]): tuple(r)
        for r in writer.store.rows("SELECT * FROM attempt WHERE ended_wall IS NOT NULL")
    }
    return results, over, tries


def states(writer: RunWriter) -> list[tuple[Any, ...]]:
    trials = writer.store.rows("SELECT number, state, attempt, end_reason, value FROM trial")
    return [tuple(row) for row in (*trials, *writer.store.rows("SELECT * FROM attempt"))]


def check_consistent(writer: RunWriter) -> None:
    for row in writer.store.rows("SELECT * FROM trial"):
        attempts = writer.store.rows("SELECT * FROM attempt WHERE trial = ? AND ended_wall IS NULL", row["number"])
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
def test_no_order_of_late_doubled_and_lost_messages_breaks_a_promise(steps: list[Any]) -> None:
    """Never two live attempts; only a later attempt replaces a result; an ended trial stays; a change has its event."""
    writer = make_writer(":memory:")
    results, over, tries = facts(writer)
    for step in steps:
        seq, before = last_seq(writer), states(writer)
        if step[0] == "recover":
            writer.recover()
        elif step[0] == "requeue":
            writer.requeue_live_trials(E, "driver_died")
        elif step[0] == "close":
            writer.end_unfinished_trials(E, "max_hours reached")
        else:
            say(writer, message_of(writer, step))
            assert last_seq(writer) > seq or step[0] in ("added", "reported", "held"), "a refusal leaves an event, too"
        assert states(writer) == before or last_seq(writer) > seq, "no change without an event"
        now = facts(writer)
        # The fifth column is the attempt.
        assert all(now[0].get(key) == row or now[0][key][4] > row[4] for key, row in results.items())
        assert over.items() <= now[1].items()
        assert tries.items() <= now[2].items()
        results, over, tries = now
        check_consistent(writer)
    names = [event.name for event in writer.store.events_after(0)]
    assert names.count("trial.reported") == len(results)
    assert names.count("trial.finished") + names.count("trial.failed") == len(over)
    assert names.count("trial.added") == writer.store.rows("SELECT count(*) FROM trial")[0][0]
    assert names.count("trial.started") == writer.store.rows("SELECT count(*) FROM attempt")[0][0]


def test_what_a_trial_is_given_after_its_memory_ran_out_is_told_and_reaches_the_next_driver(writer: RunWriter) -> None:
    """The last word counts, whatever else its attempts are lost by; a refused one counts nothing."""
    half, quarter = ({"micro_batch": size, "checkpoint_activations": False} for size in (32, 16))

    def given() -> list[Any]:
        return [trial["memory"] for trial in for_begin(writer.store.connection, "r", E)]

    for number in (0, 1):
        say(writer, added(number))
        say(writer, started(1, number))
    assert given() == [None, None]
    say(writer, link.AttemptLost(0, 1, "oom", "it ran out", memory=half))
    say(writer, link.AttemptLost(1, 1, "worker_died", None))
    assert given() == [half, None]
    assert not say(writer, link.AttemptLost(0, 1, "oom", "again", memory=quarter))
    say(writer, started(2))
    say(writer, link.AttemptLost(0, 2, "memory", None, memory=quarter))
    say(writer, started(3))
    say(writer, link.AttemptLost(0, 3, "released", None))
    assert given() == [quarter, None]
    rows = writer.store.rows("SELECT attempt, fields FROM event WHERE name = 'trial.reduced' ORDER BY seq")
    assert [(row["attempt"], json.loads(row["fields"])["memory"]) for row in rows] == [(1, half), (2, quarter)]


def test_a_trials_pause_ends_with_the_trial_and_not_with_an_attempt_that_no_longer_speaks_for_it(
    writer: RunWriter,
) -> None:
    pause = Command(Action.PAUSE, Origin.OPERATOR, "visitors", f"{E}/0", 1.0, who="ann")
    commit(writer, added(), started(1), lost(1), started(2))
    writer.put_command(pause, "at its next report")
    assert commit(writer, ended(1)) == ["result.refused"]
    assert writer.commands() == [pause]
    assert commit(writer, ended(2)) == ["trial.finished", "run.resumed"]
    assert writer.commands() == []


def test_a_finalist_that_is_certain_is_added_beside_the_last_trials_of_the_search(tmp_path: Path) -> None:
    """Two places, three trials of the search, the last one at work: the best so far is a finalist however it ends."""
    finalize = {"top": 2, "seeds": 1}
    writer = make_writer(tmp_path / "sweep.db", max_trials=5, finalize=finalize, seed=3)
    commit(writer, added(), started(1), ended(1, value=0.5), added(1), started(1, 1), ended(1, value=0.2, number=1))
    commit(writer, added(2), started(1, 2))
    rows = trials_of(writer.store.connection, writer.run_id, E)
    ((number, (source, params)),) = after_search(lookups.spec(writer.store, writer.run_id, E), rows).items()
    assert (number, source) == (3, "finalize")
    other = link.TrialAdded(3, {**params, "lr": 0.1}, source)
    second = link.TrialAdded(4, {"lr": 0.1, "seed": params["seed"]}, source)
    assert [say(writer, one) for one in (other, second)] == [False, False], "the last trial may take that place"
    assert say(writer, link.TrialAdded(number, params, source))
    assert commit(writer, started(1, 3), reported(1, 1, 0.3, 3), ended(1, value=0.3, number=3)) == [
        "trial.started", "trial.reported", "trial.finished",
    ]  # fmt: skip


def test_a_trial_whose_number_has_another_part_since_a_person_changed_the_plan_is_refused(tmp_path: Path) -> None:
    """Its driver had not heard of the change when it chose the number."""
    finalize = {"top": 1, "seeds": 2, "folds": 1}
    writer = make_writer(tmp_path / "sweep.db", max_trials=5, finalize=finalize, seed=3)
    searched, follows = link.TrialAdded(3, {}, "sampled"), link.TrialAdded(2, {}, "finalize")
    assert [say(writer, one) for one in (searched, follows)] == [False, False]
    writer.record(
        "plan.changed", who="ann", sets=["max_trials=6"], experiments=[E], specs={E: {"max_trials": 6}}, policy=None,
        plan_text=None, fingerprint=None, source_sha256=None, everywhere=True,
    )  # fmt: skip
    assert say(writer, searched)


def test_a_search_trial_beyond_a_lowered_number_is_refused_also_without_a_finalisation(tmp_path: Path) -> None:
    """Its result could not count, and the next driver would take it for one after the search."""
    writer = make_writer(tmp_path / "sweep.db", max_trials=5)
    assert say(writer, added(3))
    writer.record(
        "plan.changed", who="ann", sets=["max_trials=4"], experiments=[E], specs={E: {"max_trials": 4}}, policy=None,
        plan_text=None, fingerprint=None, source_sha256=None, everywhere=True,
    )  # fmt: skip
    assert not say(writer, added(4))
    assert [row["number"] for row in trials_of(writer.store.connection, writer.run_id, E)] == [3]


def duplicated(number: int = 1, of: int = 0, **params: float) -> link.TrialDuplicated:
    return link.TrialDuplicated(number, params or {"lr": 0.1}, "sampled", of)


@pytest.mark.parametrize("reason", ["finished", "early_stopped", "pruned"])
def test_a_duplicate_has_the_end_of_the_trial_that_it_repeats_and_no_epochs(writer: RunWriter, reason: str) -> None:
    commit(writer, added(), started(1), reported(1, 1), ended(1, reason, 0.25))
    assert commit(writer, duplicated()) == ["trial.added", "trial.duplicated", "trial.finished"]
    row = trial(writer, 1)
    assert (row["state"], row["end_reason"], row["value"], row["attempt"]) == ("TERMINATED", reason, 0.25, 0)
    assert json.loads(row["record"]) == {"duplicate_of": 0}
    first, second = for_begin(writer.store.connection, writer.run_id, E)
    assert "duplicate_of" not in first
    assert (second["duplicate_of"], second["results"]) == (0, [])
    assert commit(writer, duplicated()) == ["result.refused"]


def test_a_duplicate_of_a_trial_whose_end_does_not_hold_waits_to_be_trained(writer: RunWriter) -> None:
    commit(writer, added(), started(1))
    assert commit(writer, duplicated(1)) == ["trial.added"]
    commit(writer, ended(1, "oom", None))
    assert commit(writer, duplicated(2)) == ["trial.added"]
    commit(writer, link.TrialStarted(1, 1, "ray", "node", 4, None), ended(1, "finished", 0.5, 1))
    assert commit(writer, duplicated(2, of=1, lr=0.3)) == []
    writer.record("trial.discarded", experiment=E, trial=1, who="ann")
    assert commit(writer, duplicated(2, of=1)) == []
    assert [trial(writer, number)["state"] for number in range(3)] == ["ERROR", "TERMINATED", "PENDING"]
    writer.record("trial.restored", experiment=E, trial=1, who="ann")
    assert commit(writer, duplicated(2, of=1)) == ["trial.duplicated", "trial.finished"]
