"""Memory, swap, disk, battery, stalls, pressure and throttling lead to their actions, as heat does."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import repeat

import pytest

from supervisor.clock import Now
from supervisor.domain.command import Action
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind, Limits, Reading

PERIOD_S = 5.0
MARGIN = Limits(soft=10.0, pause=5.0, critical=0.0)


def reading(
    kind: Kind, unit: str, value: float, component: str = "host", part: str = "", limits: Limits | None = None
) -> Reading:
    return Reading(f"x:{kind.value}{part}", kind, component, value, unit, 0.0, 0.0, "test", limits=limits or Limits())


def rungs(story: Iterable[list[Reading]], policy: Policy | None = None) -> Iterator[Action]:
    """Return the action after each pass of a story, one pass per period."""
    memory, policy = GovernorState(), policy or Policy()
    for tick, readings in enumerate(story):
        now = Now(1000.0 + PERIOD_S * tick, 1.7e9 + PERIOD_S * tick)
        stamped = [replace(one, mono_s=now.mono_s, wall_s=now.wall_s) for one in readings]
        command, memory, _ = decide(stamped, policy, memory, now)
        yield command.action


def last(story: Iterable[list[Reading]], policy: Policy | None = None) -> Action:
    *_, action = rungs(story, policy)
    return action


@pytest.mark.parametrize(
    ("readings", "action"),
    [
        ([reading(Kind.MEMORY, "percent", 90.0)], Action.THROTTLE),
        ([reading(Kind.MEMORY, "percent", 99.0)], Action.PAUSE),
        ([reading(Kind.DISK, "bytes", 3e9, "disk")], Action.HOLD),
        ([reading(Kind.DISK, "bytes", 0.5e9, "disk")], Action.PAUSE),
        ([reading(Kind.SWAP, "percent", 99.0)], Action.RUN),
        ([reading(Kind.SWAP, "percent", 99.0), reading(Kind.MEMORY, "percent", 90.0)], Action.PAUSE),
        ([reading(Kind.BATTERY, "percent", 10.0, "battery")], Action.RUN),
        (
            [reading(Kind.BATTERY, "percent", 10.0, "battery"), reading(Kind.BATTERY, "flag", 1.0, "battery", "d")],
            Action.PAUSE,
        ),
        (
            [reading(Kind.BATTERY, "percent", 40.0, "battery"), reading(Kind.BATTERY, "flag", 1.0, "battery", "d")],
            Action.HOLD,
        ),
        ([reading(Kind.PSI, "percent", 80.0, "memory")], Action.PAUSE),
        ([reading(Kind.PSI, "percent", 80.0, "cpu")], Action.RUN),
        ([reading(Kind.PRESSURE, "level", 1.0)], Action.THROTTLE),
        ([reading(Kind.PRESSURE, "level", 2.0)], Action.PAUSE),
        ([reading(Kind.PRESSURE, "level", 4.0, "memory")], Action.PAUSE),
        ([reading(Kind.THROTTLE, "level", 1.0, "cpu")], Action.THROTTLE),
        ([reading(Kind.THROTTLE, "level", 2.0, "gpu")], Action.PAUSE),
        ([reading(Kind.MARGIN, "celsius", 4.0, "gpu", limits=MARGIN)], Action.PAUSE),
        ([reading(Kind.MARGIN, "celsius", 8.0, "gpu", limits=MARGIN)], Action.THROTTLE),
        ([reading(Kind.TEMPERATURE, "celsius", 200.0)], Action.RUN),
    ],
)
def test_each_cause_leads_to_its_action(readings: list[Reading], action: Action) -> None:
    """Ten minutes of one cause: memory, disk, swap, battery, stalls, pressure, throttling, margin."""
    assert last(repeat(readings, 120)) is action


def test_swap_that_grows_fast_pauses_and_constant_swap_does_not() -> None:
    growing = [[reading(Kind.SWAP, "bytes", 2e8 * step)] for step in range(20)]
    assert last(growing) is Action.PAUSE
    assert last(repeat([reading(Kind.SWAP, "bytes", 5e9)], 120)) is Action.RUN


def test_an_out_of_memory_kill_sheds_at_once() -> None:
    quiet, killed = (reading(Kind.EVENT, "count", kills, "memory") for kills in (0.0, 1.0))
    assert list(rungs([[quiet], [killed]])) == [Action.RUN, Action.SHED]


def test_the_users_limits_have_precedence_over_the_devices() -> None:
    policy = Policy.from_mapping({"limits": {"x:temp*": {"soft": 40, "pause": 45, "critical": 50}}})
    device = Limits(92.0, 99.0, 105.0, "device")
    assert last([[reading(Kind.TEMPERATURE, "celsius", 51.0, limits=device)]], policy) is Action.PAUSE


def test_a_disk_that_fills_holds_new_trials_first_and_its_reason_has_units() -> None:
    """Below the first limit no trial starts, since each writes checkpoints; running trials go on."""
    policy, memory = Policy(), GovernorState()
    found = {}
    for gib in (5.0, 3.9, 3.9):
        sample = replace(reading(Kind.DISK, "bytes", gib * 2**30, "disk"), mono_s=1000.0, wall_s=1.7e9)
        command, memory, _ = decide([sample], policy, memory, Now(1000.0, 1.7e9))
        found[gib] = command
    assert (policy.disk_hold_bytes, policy.disk_pause_bytes) == (4 * 2**30, 2**30)
    assert found[5.0].action is Action.RUN
    assert found[3.9].action is Action.HOLD
    assert found[3.9].reason == "x:disk at 3.9 GiB, hold limit 4.0 GiB"
