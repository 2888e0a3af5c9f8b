"""Compares the ladder with switches on a simulated machine that is too weak for the whole plan."""

from __future__ import annotations

import pytest

from benchmarks.heat_simulation import ON_OFF, Ladder, Unchecked, simulate
from supervisor.governor.policy import Policy


@pytest.mark.slow
def test_the_ladder_never_stops_the_work_and_does_half_as_much_more_than_the_best_switch() -> None:
    ladder = simulate(Ladder(Policy()))
    switches = [simulate(switch()) for switch in ON_OFF.values()]
    best = max(switches, key=lambda story: story.throughput)
    assert ladder.stops == 0
    assert ladder.share_above_slowing == 0.0
    assert ladder.share_above_soft < 0.02
    assert best.stops > 0
    assert ladder.throughput >= 1.5 * best.throughput


def test_the_simulated_machine_slows_without_a_controller() -> None:
    """Otherwise the machine of the comparison would not need a governor."""
    unchecked = simulate(Unchecked(), hours=2)
    assert unchecked.share_above_slowing > 0.5
    assert unchecked.throughput < 1.0
