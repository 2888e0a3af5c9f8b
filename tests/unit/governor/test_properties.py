"""Test properties of any trace of hot, cool, lost, parked and jumping sensors."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from supervisor.clock import Now
from supervisor.domain.command import Action, Command, Origin, strictest
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind, Limits, Quality, Reading

LIMITS = Limits(soft=92.0, pause=99.0, critical=105.0)
POLICY = Policy(min_off_s=60.0, ease_after_s=20.0, soft_dwell_s=10.0, pause_dwell_s=5.0, lost_pause_s=40.0)

values = st.one_of(
    st.none(),
    st.floats(20.0, 125.0, allow_nan=False),
    st.sampled_from([50.0, 85.9, 91.9, 92.0, 98.9, 99.0, 104.9, 105.0, 120.0]),
)


@dataclass(frozen=True)
class Moment:
    """One pass: seconds since the last, a jump of the wall clock, two temperatures, memory in use."""

    after_s: float
    jump_s: float
    first: float | None
    second: float | None
    parked: bool
    memory_percent: float


moments = st.builds(
    Moment,
    after_s=st.sampled_from([1.0, 5.0, 5.0, 5.0, 20.0, 60.0]),
    jump_s=st.sampled_from([0.0] * 12 + [3600.0, -60.0]),
    first=values,
    second=values,
    parked=st.booleans(),
    memory_percent=st.sampled_from([30.0] * 8 + [89.0, 96.0]),
)
# Each moment is repeated: otherwise no generated trace is long enough for a pause to end.
traces = st.lists(st.tuples(moments, st.integers(1, 12)), min_size=1, max_size=25).map(
    lambda parts: [moment for moment, times in parts for _ in range(times)]
)


def temperature(sensor_id: str, value: float | None, now: Now, *, parked: bool = False) -> Reading:
    quality = Quality.OK if value is not None else Quality.PARKED if parked else Quality.ERROR
    return Reading(
        sensor_id=sensor_id,
        kind=Kind.TEMPERATURE,
        component="cpu",
        value=value,
        unit="celsius",
        mono_s=now.mono_s,
        wall_s=now.wall_s,
        source="test",
        quality=quality,
        limits=LIMITS,
    )


def readings_of(moment: Moment, now: Now) -> list[Reading]:
    memory = replace(
        temperature("host:memory.used", moment.memory_percent, now),
        kind=Kind.MEMORY,
        component="host",
        unit="percent",
        limits=Limits(),
    )
    return [
        temperature("t:die/a", moment.first, now, parked=moment.parked),
        temperature("t:die/b", moment.second, now),
        memory,
    ]


@dataclass(frozen=True)
class Decision:
    now: Now
    readings: Sequence[Reading]
    before: GovernorState
    command: Command
    after: GovernorState


def play(trace: Sequence[Moment], policy: Policy = POLICY) -> list[Decision]:
    state, decisions = GovernorState(), []
    mono_s, wall_s = 100.0, 1.7e9
    for moment in trace:
        mono_s += moment.after_s
        wall_s += moment.after_s + moment.jump_s
        now = Now(mono_s, wall_s)
        readings = readings_of(moment, now)
        command, after, _ = decide(readings, policy, state, now)
        decisions.append(Decision(now, readings, state, command, after))
        state = after
    return decisions


@given(traces)
def test_above_critical_the_work_is_always_paused(trace: list[Moment]) -> None:
    """Also just after an operator has resumed with force."""
    for decision in play(trace):
        if any(r.value is not None and r.kind is Kind.TEMPERATURE and r.value >= 105.0 for r in decision.readings):
            assert decision.command.action >= Action.PAUSE
            forced, _, _ = decide(decision.readings, POLICY, decision.before.forced(decision.now), decision.now)
            assert forced.action >= Action.PAUSE


@given(traces)
def test_a_pause_never_ends_on_an_unknown_or_hot_sensor(trace: list[Moment]) -> None:
    """Every known thermometer must be cool or parked when the work resumes."""
    for decision in play(trace):
        if decision.before.action is Action.PAUSE and decision.command.action < Action.PAUSE:
            # A thermometer that was retired before the pause does not count.
            retired = {key for key, sensor in decision.after.sensors.items() if sensor.status == "retired"}
            for reading in decision.readings:
                if reading.sensor_id in decision.after.sensors and reading.sensor_id not in retired:
                    assert reading.quality in (Quality.OK, Quality.PARKED)
                if reading.kind is Kind.TEMPERATURE and reading.value is not None:
                    assert reading.value <= 87.0
            assert len(retired) < 2


@given(traces)
def test_the_actions_are_left_one_at_a_time(trace: list[Moment]) -> None:
    actions = [Action.RUN, *(decision.command.action for decision in play(trace))]
    for before, after in pairwise(actions):
        assert after >= before - 1


@given(traces, st.floats(0.0, 40.0))
def test_a_stricter_reading_never_gives_a_looser_command(trace: list[Moment], hotter: float) -> None:
    """Hotter, or with more memory in use, from the same state, at any moment of any trace."""
    for decision in play(trace):
        raised = [
            replace(reading, value=reading.value + hotter) if reading.value is not None else reading
            for reading in decision.readings
        ]
        command, _, _ = decide(raised, POLICY, decision.before, decision.now)
        assert strictness(command) >= strictness(decision.command)


def strictness(command: Command) -> tuple[int, float, int]:
    return command.action, command.throttle_share, command.shed_trials


hot_then_cool = st.tuples(st.sampled_from([95.0, 101.0, 106.0]), st.integers(1, 6), st.integers(1, 40)).map(
    lambda part: [(part[0], part[1]), (60.0, part[2])]
)


@given(st.lists(hot_then_cool, max_size=40).map(lambda parts: [step for part in parts for step in part]))
def test_no_trace_pauses_more_often_in_an_hour_than_the_policy_allows(story: list[tuple[float, int]]) -> None:
    policy = replace(POLICY, min_off_s=5.0, ease_after_s=5.0, max_pauses_per_hour=4, stop_after_critical_s=86400.0)
    trace = [Moment(5.0, 0.0, celsius, None, False, 30.0) for celsius, times in story for _ in range(times)]
    decisions = play(trace, policy)
    pauses = [
        decision.now.mono_s
        for decision in decisions
        if decision.command.action is Action.PAUSE and decision.before.action is not Action.PAUSE
    ]
    assert all(sum(at <= other < at + 3600 for other in pauses) <= 4 for at in pauses)


@given(traces)
def test_a_watchdog_that_restarts_from_its_state_decides_the_same(trace: list[Moment]) -> None:
    for decision in play(trace)[-5:]:
        state = GovernorState.from_json(json.loads(json.dumps(decision.before.to_json())))
        command, after, _ = decide(decision.readings, POLICY, state, decision.now)
        assert (command, after) == (decision.command, decision.after)


@given(st.lists(st.tuples(st.sampled_from([40.0, 80.0, 95.0, 101.0, 106.0]), st.integers(1, 60)), max_size=40))
def test_no_trace_changes_the_concurrency_more_often_than_dwell_times_allow(story: list[tuple[float, int]]) -> None:
    """Easing back takes 180 s at least, so in an hour 20 steps down, and as many up plus the ladder's five."""
    trace = [Moment(5.0, 0.0, celsius, None, False, 30.0) for celsius, times in story for _ in range(times)]
    decisions = play(trace, Policy())
    changes = [decision.now.mono_s for decision in decisions if decision.after.step != decision.before.step]
    assert all(sum(at <= other < at + 3600 for other in changes) <= 45 for at in changes)


@given(traces)
def test_no_cooling_lifts_an_operators_pause_and_no_resume_a_governors(trace: list[Moment]) -> None:
    pause, resume = (Command(action, Origin.OPERATOR, "by hand") for action in (Action.PAUSE, Action.RUN))
    for decision in play(trace):
        assert strictest([pause, decision.command]).action >= Action.PAUSE
        assert strictest([resume, decision.command]).action is decision.command.action


@given(st.lists(st.one_of(st.none(), st.floats(0.0, 100.0)), min_size=1, max_size=60))
def test_parked_sensors_alone_never_restrain_the_work(loads: list[float | None]) -> None:
    """At any load, and at an unknown one."""
    state = GovernorState()
    for tick, load in enumerate(loads):
        now = Now(100.0 + 5 * tick, 1.7e9 + 5 * tick)
        use = replace(temperature("host:cpu", load, now), kind=Kind.UTILISATION, unit="percent", limits=Limits())
        command, state, notes = decide([temperature("t:die/a", None, now, parked=True), use], POLICY, state, now)
        assert command.action is Action.RUN
        assert not notes
