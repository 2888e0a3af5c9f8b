"""The driver's list of trials, and how it judges their ends."""

from __future__ import annotations

import math

import pytest
from hypothesis import given
from hypothesis import strategies as st

from actors.driver.metric_check import MetricCheck
from actors.driver.process_local import current
from actors.driver.trial_registry import TrialRegistry, finite_or_none
from actors.trial.result_keys import CHECKPOINT, END, ERROR, LEFT_OUT, STEP, failure_reason
from supervisor.domain.lifecycle import EndReason


def unfinished(number, results, checkpoint, attempt=2):
    return {
        "number": number, "state": "RUNNING", "end_reason": None, "params": {}, "value": None, "attempt": attempt,
        "results": results, "checkpoint": checkpoint,
    }  # fmt: skip


@pytest.fixture
def registry():
    registry = TrialRegistry("loss", "min", [])
    registry.open("a", 0, {"x": 1})
    return registry


def report(registry, *values):
    for step, value in enumerate(values, 1):
        registry.note("a", {STEP: step, "loss": value})


def test_the_value_of_a_finished_trial_is_its_best_finite_one(registry):
    report(registry, 3.0, 1.0, 2.0)
    verdict = registry.verdict("a", {})
    assert (verdict.end_reason, verdict.value, verdict.succeeded) == (EndReason.FINISHED, 1.0, True)


def test_the_best_of_a_maximised_metric_is_the_largest():
    registry = TrialRegistry("accuracy", "max", [])
    registry.open("a", 0, {})
    for step, value in enumerate((0.1, 0.9, 0.5), 1):
        registry.note("a", {STEP: step, "accuracy": value})
    assert registry.verdict("a", {}).value == 0.9


@pytest.mark.parametrize("last", [math.nan, math.inf])
def test_a_trial_whose_last_number_is_not_finite_diverged(registry, last):
    report(registry, 1.0, last, None)
    verdict = registry.verdict("a", {})
    assert (verdict.end_reason, verdict.value, verdict.succeeded) == (EndReason.DIVERGED, None, False)


def looks(registry, *values):
    """Let the scheduler and then the recorder look at each value, as Tune does; return what the scheduler heard."""
    found = []
    for step, value in enumerate(values, 1):
        found.append(registry.look("a", {STEP: step, "loss": value}))
        registry.note("a", {STEP: step, "loss": value})
    return found


def test_a_trial_ends_at_the_third_number_in_a_row_that_is_not_finite():
    registry = TrialRegistry("loss", "min", [], MetricCheck("loss", enough=1))
    registry.open("a", 0, {})
    values = (1.0, math.nan, math.nan, 2.0, math.inf, None, math.nan, -math.inf)
    assert looks(registry, *values) == [False] * 7 + [True]
    assert registry.verdict("a", {}).end_reason is EndReason.DIVERGED


def test_a_metric_that_comes_at_the_end_may_be_nan_before():
    registry = TrialRegistry("loss", "min", [], MetricCheck("loss", enough=1, at_end=True))
    registry.open("a", 0, {})
    assert looks(registry, *[math.nan] * 9, 1.0) == [False] * 10


@pytest.mark.parametrize("last", [None, "text", True])
def test_a_last_report_without_a_number_leaves_the_best_one(registry, last):
    report(registry, 1.0, 2.0, last)
    assert not registry.look("a", {STEP: 3, "loss": last})
    assert (registry.verdict("a", {}).end_reason, registry.verdict("a", {}).value) == (EndReason.FINISHED, 1.0)


def test_a_metric_that_was_never_a_number_is_an_error_that_says_what_it_was(registry):
    registry.note("a", {STEP: 1, "los": 1.0})
    assert "it reported los; did you mean los?" in registry.verdict("a", {}).error
    registry.note("a", {STEP: 2, "los": 1.0, LEFT_OUT: (("loss", "a value of type list with 2 entries"),)})
    verdict = registry.verdict("a", {})
    assert verdict.end_reason is EndReason.ERROR
    assert "it reported a value of type list with 2 entries as 'loss'" in verdict.error


def test_a_trial_that_reported_nothing_is_an_error_that_says_so(registry):
    verdict = registry.verdict("a", {})
    assert verdict.end_reason is EndReason.ERROR
    assert "without reporting 'loss'" in verdict.error


def test_a_pruned_trial_is_known_by_its_entry(registry):
    report(registry, 1.0)
    registry.entry("a").pruned = True
    assert registry.verdict("a", {}).end_reason is EndReason.PRUNED


def test_the_trainables_own_end_reason_wins(registry):
    """Also over the pruner's: a trial that ended by itself at a rung was not pruned."""
    report(registry, 1.0)
    registry.entry("a").pruned = True
    assert registry.verdict("a", {END: "early_stopped"}).end_reason is EndReason.EARLY_STOPPED
    failed = registry.verdict("a", {END: "diverged", ERROR: "x" * 9000})
    assert (failed.value, len(failed.error)) == (None, 4000)


def test_an_unfinished_trial_keeps_the_results_up_to_the_checkpoint_that_it_resumes_from():
    """Results past it run again: the value of an epoch whose weights are gone must not be the trial's."""
    results = [[1, 3.0], [2, 2.0], [3, 1.0]]
    registry = TrialRegistry("loss", "min", [unfinished(0, results, "/run/0/checkpoint-1.pt")])
    entry = registry.open("a", 0, {})
    assert (entry.attempt, entry.resumed_step, entry.reported_step) == (3, 1, 3)
    # Its worker found a newer one, which no result had named yet.
    registry.resume("a", 2)
    assert (entry.best, entry.results) == (2.0, [(1, 3.0), (2, 2.0)])


def test_an_unfinished_trial_that_resumes_from_nothing_has_no_results():
    registry = TrialRegistry("loss", "min", [unfinished(0, [[1, 3.0]], None)])
    entry = registry.open("a", 0, {})
    registry.resume("a", None)
    assert (entry.resumed_step, entry.best, entry.results) == (None, None, [])


def test_a_trial_that_was_never_tried_or_is_retried_begins_anew(registry):
    """Its folder may hold a checkpoint of its failed life, even one of its first epoch."""
    assert registry.entry("a").reported_step is None
    retried, lost = unfinished(0, [], None), {**unfinished(1, [], None), "lost": ["worker_died"]}
    registry = TrialRegistry("loss", "min", [retried, lost])
    assert [registry.open(str(n), n, {}).reported_step for n in (0, 1)] == [None, 0]


def test_the_newest_checkpoint_that_was_reported_is_kept(registry):
    registry.note("a", {STEP: 1, "loss": 1.0, CHECKPOINT: "/run/0/checkpoint-1.pt"})
    registry.note("a", {STEP: 2, "loss": 1.0})
    assert registry.entry("a").resumed_step == 1


@given(st.floats(allow_nan=True, allow_infinity=True))
def test_a_float_is_taken_exactly_when_it_is_finite(value):
    taken = finite_or_none(value)
    assert (taken == value) if math.isfinite(value) else taken is None


def test_memory_errors_are_recognised_by_their_text():
    assert failure_reason("torch.OutOfMemoryError: CUDA out of memory") is EndReason.OOM
    assert failure_reason("ValueError: no") is EndReason.ERROR


def test_objects_of_a_process_are_found_by_their_class(registry):
    """Pickling one asks this process for its own."""
    assert registry.__reduce__() == (current, (TrialRegistry,))
    assert current(TrialRegistry) is registry
    with pytest.raises(LookupError, match="only a driver makes one"):
        current(int)
