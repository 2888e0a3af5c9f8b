"""Test how true the ETA is, on a few of the simulated runs of benchmarks/eta.py."""

from __future__ import annotations

from functools import cache
from itertools import pairwise

from benchmarks.eta import SHARES, Asked, asked
from benchmarks.stages.eta_runs import simulated

RUNS = range(20)


@cache
def said() -> list[list[Asked]]:
    """Return the ETA's answers in each run."""
    return [asked(simulated(seed)) for seed in RUNS]


def test_a_simulated_log_is_in_order_and_goes_from_the_creation_to_the_end() -> None:
    for seed in RUNS:
        events = simulated(seed)
        assert events[0].name == "run.created"
        assert events[-1].name == "run.finished"
        assert all(one.wall_s <= other.wall_s and one.seq < other.seq for one, other in pairwise(events))
        assert simulated(seed) == events


def test_the_interval_holds_most_ends_and_the_median_is_near() -> None:
    """The goal is 70 to 90 % and 80 %; of so few runs a few percent more or less are chance."""
    found = [one for run in said() for one in run]
    assert len(found) > 50
    assert 0.62 <= sum(one.held for one in found) / len(found) <= 0.93
    for share in SHARES:
        at = [one for one in found if one.share == share]
        assert sum(one.near for one in at) / len(at) >= 0.75


def test_the_interval_gets_narrower_as_the_run_goes_on() -> None:
    widths = [[one.high_s - one.low_s for one in run] for run in said() if len(run) == len(SHARES)]
    assert sum(width[-1] < width[0] for width in widths) > 0.8 * len(widths)
