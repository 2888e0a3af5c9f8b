"""Two thousand random reports: no driver dies, and each trial ends as its author could explain."""

from __future__ import annotations

import pytest

from actors.driver.trial_registry import NOT_FINITE_IN_A_ROW
from supervisor.domain.messages import ResultReported
from tests.integration.fuzzed_trainables import NOT_FINITE, NUMBERS, ODD, REPORTS, metric_kinds, number

TRIALS = 100


def expected(seed):
    """Return the end of a trial by the kinds of its metric: end reason, value and number of reports."""
    finite, last_is_finite, reports, in_a_row = [], None, 0, 0
    for place, kind in enumerate(metric_kinds(seed)):
        reports += 1
        if kind in NUMBERS:
            finite.append(number(seed, place) * (4 if kind == "int" else 1))
            last_is_finite, in_a_row = True, 0
        elif kind in NOT_FINITE:
            last_is_finite, in_a_row = False, in_a_row + 1
            if in_a_row == NOT_FINITE_IN_A_ROW:
                break
        elif kind in ODD and last_is_finite is None:
            return "error", None, reports
    if last_is_finite is None:
        return "error", None, reports
    return ("finished", min(finite), reports) if last_is_finite else ("diverged", None, reports)


@pytest.mark.slow
@pytest.mark.parametrize("trainable", ["fuzzed", "Fuzzed"])
def test_random_reports_end_each_trial_as_its_metric_says(drive, spec, trainable):
    daemon = drive(
        spec(
            trainable=f"fuzzed_trainables:{trainable}",
            space={"n": {"type": "int", "low": 0, "high": TRIALS - 1, "step": 1, "log": False}},
            enqueue=[{"n": n} for n in range(TRIALS)],
            max_trials=TRIALS,
            max_epochs=REPORTS,
            concurrency=2,
            resources={"cpu": 0.5, "gpu": 0.0},
            sampler={"kind": "random", "startup_trials": 0},
        )
    )
    assert daemon.end(600) == 0, daemon.log.read_text()[-4000:]
    ends = {row.params["n"]: (row.end_reason, row.value, len(row.results)) for row in daemon.store.rows.values()}
    assert ends == {n: expected(n) for n in range(TRIALS)}
    assert all(row.attempt == 1 for row in daemon.store.rows.values())
    assert all(row.error for row in daemon.store.rows.values() if row.end_reason != "finished")
    plain = (bool, int, float, str, type(None))
    assert all(isinstance(value, plain) for message in daemon.all(ResultReported) for value in message.metrics.values())
