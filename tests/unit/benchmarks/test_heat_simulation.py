"""Twelve simulated hours on a machine that cannot bear the whole plan: the ladder against switches and nothing."""

from __future__ import annotations

import pytest

from benchmarks.heat_simulation import ON_OFF, Ladder, Unchecked, rehearse
from supervisor.governor.policy import Policy


@pytest.mark.slow
def test_the_ladder_never_stops_the_work_and_does_half_as_much_again_as_the_best_switch() -> None:
    ladder = rehearse(Ladder(Policy()))
    switches = [rehearse(switch()) for switch in ON_OFF.values()]
    best = max(switches, key=lambda story: story.throughput)
    assert ladder.stops == 0
    assert ladder.share_above_slowing == 0.0
    assert ladder.share_above_soft < 0.02
    assert best.stops > 0
    assert ladder.throughput >= 1.5 * best.throughput


def test_the_simulated_machine_slows_when_nobody_looks() -> None:
    """Else the comparison would be with a machine that needs no governor."""
    unchecked = rehearse(Unchecked(), hours=2)
    assert unchecked.share_above_slowing > 0.5
    assert unchecked.throughput < 1.0
