"""Test what a start opens again of a run that has failed or ended."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from supervisor.control.handshake import StartRequest
from supervisor.daemon.run_selection import choose_run
from supervisor.domain import finalists, messages
from supervisor.domain.lifecycle import EndReason, ProcessState
from supervisor.errors import Conflict, NotFound, PlanChanged
from supervisor.store import lookups, queries
from supervisor.store.database import Store
from supervisor.store.evaluation_writer import EvaluationWriter
from supervisor.store.run_writer import RunWriter
from supervisor.store.trial_writer import TrialWriter
from tests.unit.daemon.test_run_selection import SPECS, StillClock, choose, end, events
from tests.unit.store.evaluation_stage import OPENING, RESULT


@pytest.fixture
def store(tmp_path: Path) -> Store:
    return Store(tmp_path / "sweep.db", StillClock())


def failed_run(store: Store) -> str:
    """Make a run that has ended, and whose only experiment failed."""
    run = choose(store, "smoke")
    writer = RunWriter(store, run)
    writer.move_run(ProcessState.STARTING)
    writer.record("experiment.failed", experiment="x", reason="a missing module", error="a missing module", seconds=1.0)
    writer.move_run(ProcessState.RUNNING)
    writer.move_run(ProcessState.EXITED)
    return run


def retry(store: Store, plan: str | None, fingerprint: str = "f") -> str:
    return choose_run(store, StartRequest(plan=plan, fingerprint=fingerprint, specs=SPECS, retry=True), StillClock())


@pytest.mark.parametrize("plan", ["smoke", None])
def test_retry_opens_the_last_run_again_for_its_failures(store: Store, plan: str | None) -> None:
    run = failed_run(store)
    assert retry(store, plan) == run
    writer = RunWriter(store, run)
    assert (writer.run_state(), writer.experiment_state("x")) == (ProcessState.STOPPED, ProcessState.STOPPED)
    ended = store.row("SELECT ended_wall FROM run")
    assert ended is not None
    assert ended["ended_wall"] is None


def test_retry_without_a_failure_or_with_another_plan_is_refused(store: Store) -> None:
    with pytest.raises(NotFound, match="no run"):
        retry(store, "smoke")
    failed_run(store)
    before = events(store)
    with pytest.raises(PlanChanged, match="has changed since"):
        retry(store, "smoke", "g")
    assert events(store) == before
    retry(store, "smoke")
    before = events(store)
    with pytest.raises(Conflict, match="nothing failed in run"):
        retry(store, "smoke")
    assert events(store) == before


def test_retry_takes_in_again_what_a_person_left_out(store: Store) -> None:
    run = failed_run(store)
    writer = RunWriter(store, run)
    writer.record("experiment.skip_asked", experiment="x", who="ann")
    assert retry(store, "smoke") == run
    assert lookups.experiment(store, run, "x")["state"] == ProcessState.STOPPED
    assert lookups.spec(store, run, "x")["left_out"] is None
    assert "experiment.skip_revoked" in events(store)


def test_retry_makes_a_stopped_run_wanted_again(store: Store) -> None:
    run = failed_run(store)
    RunWriter(store, run).record("run.stopped", who="me")
    retry(store, "smoke")
    assert events(store)[-1] == "run.wanted"


def source_of(spec: dict[str, Any], number: int) -> str:
    if not finalists.is_final(spec, number):
        return "sampled"
    return finalists.AFTER_SEARCH[number >= spec["max_trials"] - finalists.walk_forward_trials(spec)]


def ended_run(store: Store, *ends: EndReason, test: bool | None = None, **spec: Any) -> str:
    """Make a run that has ended well, with trials of these ends; `test` says whether its test failed from outside."""
    own = {**SPECS[0], "max_trials": len(ends), **spec}
    run = choose_run(store, StartRequest(plan="smoke", fingerprint="f", specs=[own]), StillClock())
    writer, trials = RunWriter(store, run), TrialWriter(store, run)
    writer.move_run(ProcessState.STARTING)
    writer.move_experiment("x", ProcessState.STARTING)
    for number, end_reason in enumerate(ends):
        trials.handle("x", messages.TrialAdded(number, {"lr": number}, source_of(own, number)))
        trials.handle("x", messages.TrialStarted(number, 1, "ray", "node", 1, None))
        trials.handle("x", messages.ResultReported(number, 1, 1, 0.5, {}, "checkpoint-1.pt"))
        trials.handle("x", messages.TrialEnded(number, 1, end_reason, 0.5, "n is three", {"n": 1}))
    if test is not None:
        evaluations = EvaluationWriter(store, run)
        evaluations.open_test("x", OPENING)
        evaluations.record_failure("x", "no disk", outside=test)
    writer.record("experiment.finished", experiment="x", best=0.5, best_trial=0, trials=2, failed=1, seconds=1.0)
    writer.move_run(ProcessState.EXITED)
    return run


@pytest.mark.parametrize("reason", [EndReason.ERROR, EndReason.OOM, EndReason.HUNG])
def test_retry_begins_the_failed_trials_of_a_run_that_ended_well_anew(store: Store, reason: EndReason) -> None:
    run = ended_run(store, EndReason.FINISHED, reason, EndReason.DIVERGED)
    assert retry(store, "smoke") == run
    rows = store.rows("SELECT * FROM trial ORDER BY number")
    assert [row["state"] for row in rows] == ["TERMINATED", "PENDING", "ERROR"]
    assert [rows[1][key] for key in ("end_reason", "error", "value", "checkpoint", "attempt")] == [None] * 4 + [1]
    assert [row["trial"] for row in store.rows("SELECT trial FROM result ORDER BY trial")] == [0, 2]
    begin = queries.for_begin(store.connection, run, "x")[1]
    assert (begin["results"], begin["lost"], begin["attempt"]) == ([], [], 1), "its deaths count no more"
    assert not TrialWriter(store, run).handle("x", messages.ResultReported(1, 1, 2, 0.5, {}, None)), "the old attempt"
    assert RunWriter(store, run).experiment_state("x") is ProcessState.STOPPED


@pytest.mark.parametrize(
    ("ends", "spec", "why"),
    [
        ([EndReason.FINISHED, EndReason.DIVERGED], {}, "nothing failed in run"),
        ([EndReason.ERROR, EndReason.FINISHED], {"max_hours": 0.0}, "trial 0 of x: the max_hours"),
        (
            [EndReason.ERROR, EndReason.FINISHED, EndReason.FINISHED],
            {"finalize": {"top": 1, "seeds": 1}, "seed": 1},
            "trial 0 of x: the finalisation has chosen",
        ),
        (
            [EndReason.FINISHED, EndReason.FINISHED, EndReason.ERROR, EndReason.FINISHED, EndReason.FINISHED],
            {"finalize": {"top": 2, "seeds": 1, "folds": 2}, "seed": 1},
            "trial 2 of x: the walk-forward trains what the finalisation has chosen",
        ),
        (
            [EndReason.FINISHED, EndReason.DIVERGED],
            {"finalize": {"top": 1, "seeds": 1}, "seed": 1},
            "x has no finalised configuration",
        ),
    ],
)
def test_retry_says_why_a_trial_is_not_tried_again_and_changes_nothing(
    store: Store, ends: list[EndReason], spec: dict[str, Any], why: str
) -> None:
    ended_run(store, *ends, **spec)
    before = events(store)
    with pytest.raises(Conflict, match=why):
        retry(store, "smoke")
    assert events(store) == before


def test_no_trial_is_tried_again_once_the_test_was_read(store: Store) -> None:
    run = ended_run(store, EndReason.FINISHED, EndReason.HUNG)
    EvaluationWriter(store, run).open_test("x", OPENING)
    EvaluationWriter(store, run).keep_result("x", RESULT)
    with pytest.raises(Conflict, match="trial 1 of x: the test of its experiment was read"):
        retry(store, "smoke")


def test_a_failed_experiment_without_a_trial_to_try_is_not_started_for_its_old_error(store: Store) -> None:
    run = ended_run(store, EndReason.DIVERGED)
    RunWriter(store, run).move_experiment("x", ProcessState.STOPPED)
    RunWriter(store, run).record("experiment.failed", experiment="x", reason="no value", error="no value", seconds=1.0)
    with pytest.raises(Conflict, match="x: all its trials have ended"):
        retry(store, "smoke")


@pytest.mark.parametrize("plan", ["smoke", None])
def test_the_next_start_opens_a_test_again_that_failed_from_outside(store: Store, plan: str | None) -> None:
    run = ended_run(store, EndReason.FINISHED, test=True)
    assert choose(store, plan) == run
    assert RunWriter(store, run).experiment_state("x") is ProcessState.STOPPED
    assert "test.retried" not in events(store), "only a person's request begins the count anew"


def test_the_next_start_leaves_a_refused_test_and_one_of_three_openings_to_a_person(store: Store) -> None:
    first = ended_run(store, EndReason.FINISHED, test=False)
    second = choose(store, "smoke", new=True)
    assert second != first
    end(store, second, ProcessState.EXITED)
    run = ended_run(store, EndReason.FINISHED, test=True)
    for _ in range(2):
        EvaluationWriter(store, run).open_test("x", OPENING)
        EvaluationWriter(store, run).record_failure("x", "no disk", outside=True)
    with pytest.raises(NotFound):
        choose(store, None)
    assert retry(store, "smoke") == run
    assert EvaluationWriter(store, run).open_test("x", OPENING)["openings"] == 4


def test_a_run_that_has_ended_is_opened_again_to_extend_one_of_its_experiments(store: Store) -> None:
    run = choose(store, "smoke")
    name = SPECS[0]["name"]
    writer = RunWriter(store, run)
    for state in (ProcessState.STARTING, ProcessState.RUNNING, ProcessState.EXITED):
        writer.move_experiment(name, state)
    end(store, run, ProcessState.EXITED)
    request = StartRequest("smoke", "f", specs=SPECS, extend={name: 5})
    assert choose_run(store, request, StillClock()) == run
    row = store.rows("SELECT state FROM run")[0]
    spec = lookups.spec(store, run, name)
    assert (row["state"], lookups.experiment(store, run, name)["state"]) == ("STOPPED", "STOPPED")
    assert spec["max_trials"] == SPECS[0]["max_trials"] + 5
    with pytest.raises(NotFound, match="no experiment 'x9'"):
        choose_run(store, StartRequest("smoke", "f", specs=SPECS, extend={"x9": 5}), StillClock())


def test_a_run_that_has_ended_is_opened_again_to_extend_one_of_its_trials(store: Store) -> None:
    run = choose(store, "smoke")
    name = SPECS[0]["name"]
    writer, trials = RunWriter(store, run), TrialWriter(store, run)
    for state in (ProcessState.STARTING, ProcessState.RUNNING):
        writer.move_experiment(name, state)
    for message in (
        messages.TrialAdded(0, {}, "sampled"), messages.TrialStarted(0, 1, "ray", "node", 1, None),
        messages.ResultReported(0, 1, 1, 0.5, {}, None), messages.TrialEnded(0, 1, "pruned", 0.5, None),
    ):  # fmt: skip
        trials.handle(name, message)
    writer.move_experiment(name, ProcessState.EXITED)
    end(store, run, ProcessState.EXITED)
    asked = StartRequest("smoke", "f", specs=SPECS, extend={f"{name}/0": 5})
    with pytest.raises(Conflict, match="no checkpoint of it is left; with --anew it trains from epoch 0 to 6"):
        choose_run(store, asked, StillClock())
    assert store.rows("SELECT state FROM run")[0]["state"] == "EXITED"
    assert choose_run(store, replace(asked, anew=True), StillClock()) == run
    row = lookups.trial(store, run, name, 0)
    assert row is not None
    states = (store.rows("SELECT state FROM run")[0]["state"], lookups.experiment(store, run, name)["state"])
    assert (*states, row["state"]) == ("STOPPED", "STOPPED", "PENDING")
    with pytest.raises(NotFound, match="no experiment 'x9'"):
        choose_run(store, replace(asked, extend={"x9/0": 5}), StillClock())
    with pytest.raises(Conflict, match="there is no such trial"):
        choose_run(store, replace(asked, extend={f"{name}/7": 5}), StillClock())
