"""Test which share of its epochs a trial is expected to train: before a pruner can compare, and while trials run."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from supervisor.domain.eta.shown import shares_shown
from supervisor.domain.eta.trial_work import unjudged
from tests.unit.domain.eta.eta_view import cost, experiment, running

MEDIAN = {"kind": "median", "grace_period": 2, "min_samples_required": 4}
ASHA = {"kind": "asha", "grace_period": 1, "reduction_factor": 4.0, "max_t": 10}


@pytest.mark.parametrize(("pruner", "count"), [({}, 0), ({"kind": "none"}, 0), (ASHA, 1), (MEDIAN, 4)])
def test_the_first_trials_have_nothing_to_be_compared_with(pruner: dict[str, Any], count: int) -> None:
    assert unjudged(pruner) == count


def test_trials_before_the_median_say_nothing_of_those_after() -> None:
    costs = [cost(number, epochs=10) for number in range(4)]
    (found,) = shares_shown([experiment(costs=costs, max_trials=40, pruner=MEDIAN)])
    (fresh,) = shares_shown([experiment(max_trials=40, pruner=MEDIAN)])
    assert found.by_phase[0] == pytest.approx(fresh.by_phase[0])
    assert found.unjudged == pytest.approx(1.0)


def test_a_short_search_trains_a_larger_share_than_a_long_one() -> None:
    for pruner in (MEDIAN, ASHA):
        spec: dict[str, Any] = {"pruner": pruner, "max_epochs": 10, "max_trials": 40}
        (found,) = shares_shown([experiment(**spec)])
        assert found.of_waiting(spec, 0, 5) > found.of_waiting(spec, 0, 40) > found.of_waiting(spec, 20, 20)
        assert found.of_waiting(spec, 0, 1) == pytest.approx(1.0)


def test_the_trials_that_run_are_the_long_ones() -> None:
    """Count running trials too: the pruned ones end first, and alone they would say that all are short."""
    costs = [cost(number, epochs=10) for number in range(4)] + [cost(number, epochs=2) for number in (4, 5, 6)]
    at_work = [running(number, 8) for number in (7, 8, 9)]
    spec: dict[str, Any] = {"max_trials": 40, "concurrency": 3, "pruner": MEDIAN}
    (with_them,), (without,) = (shares_shown([experiment(costs=costs, at_work=one, **spec)]) for one in (at_work, []))
    assert with_them.by_phase[0] > 1.2 * without.by_phase[0]


def test_the_doubt_follows_how_much_the_trials_differ() -> None:
    alike = [cost(number, epochs=5) for number in range(4, 16)]
    apart = [replace(one, epochs=1 if one.number % 2 else 9) for one in alike]
    calm, wild = (shares_shown([experiment(costs=costs, max_trials=40, pruner=MEDIAN)])[0] for costs in (alike, apart))
    assert calm.by_phase[0] == pytest.approx(wild.by_phase[0], rel=0.05)
    assert wild.spread > 2.0 * calm.spread
    assert wild.doubt > 2.0 * calm.doubt
