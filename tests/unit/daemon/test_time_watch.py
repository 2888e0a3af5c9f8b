"""Time that passed for nobody: what two looks at the clocks show, and what of it counts for an experiment's hours."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from supervisor.clock import Clock
from supervisor.daemon.experiment_state import driven_seconds
from supervisor.daemon.upkeep.time_watch import Look, between, uncounted_s

HOUR, DAY = 3600.0, 86400.0


def after(ran_s: float, slept_s: float = 0.0, set_s: float = 0.0, boot: bool = True) -> list[tuple[str, float]]:
    """The events of a time in which this process ran, the machine slept, and the clock was set."""
    before = Look(1e9, 100.0, 100.0 if boot else None)
    now = Look(1e9 + ran_s + slept_s + set_s, 100.0 + ran_s, 100.0 + ran_s + slept_s if boot else None)
    return [(event, round(fields["seconds"], 1)) for event, fields in between(before, now)]


@pytest.mark.parametrize(
    ("told", "passed"),
    [
        ([], after(2.0)),
        ([], after(4.5, slept_s=0.3, set_s=-0.5)),
        ([("machine.slept", HOUR)], after(2.0, slept_s=HOUR)),
        ([("clock.set", -HOUR)], after(2.0, set_s=-HOUR)),
        ([("clock.set", DAY)], after(2.0, set_s=DAY)),
        ([("daemon.stood_still", 58.0)], after(60.0)),
        ([("machine.slept", HOUR), ("clock.set", -HOUR)], after(2.0, slept_s=HOUR, set_s=-HOUR)),
        ([("clock.set", HOUR)], after(2.0, slept_s=HOUR, boot=False)),
    ],
)
def test_sleep_a_stop_and_a_set_clock_are_told_apart(
    told: list[tuple[str, float]], passed: list[tuple[str, float]]
) -> None:
    assert passed == told


def test_a_machine_has_all_three_clocks_or_says_so() -> None:
    look = Look.at(Clock())
    assert look.boot_s is None or look.boot_s >= 0.0
    assert between(look, Look.at(Clock()), meant_s=0.0) == []


@given(st.lists(st.tuples(st.floats(0, 5e4), st.floats(-9e4, 9e4)), min_size=1, max_size=8))
@settings(deadline=None, max_examples=60)
def test_neither_sleep_nor_a_set_clock_counts_for_an_experiments_hours(lives: list[tuple[float, float]]) -> None:
    """Each life: seconds at work, and by how much the wall clock moves beside them."""
    wall, events, worked = 1e9, [], 0.0
    for work_s, moved_s in lives:
        events.append(("driver.started", wall, {}))
        wall += work_s / 2
        events.append(("trial.reported", wall, {}))
        wall += moved_s
        events.append(("machine.slept" if moved_s > 0 else "clock.set", wall, {"seconds": moved_s}))
        wall += work_s / 2
        events.append(("driver.exited", wall, {}))
        worked += work_s
    assert driven_seconds(events) == pytest.approx(worked, abs=1e-3)


def test_only_time_that_passed_for_nobody_is_taken_out() -> None:
    assert uncounted_s("machine.slept", {"seconds": 5.0}) == 5.0
    assert uncounted_s("clock.set", {"seconds": -5.0}) == -5.0
    assert uncounted_s("daemon.stood_still", {"seconds": 5.0}) == 0.0, "its driver went on"
    assert uncounted_s("run.finished", {"seconds": 5.0}) == 0.0
