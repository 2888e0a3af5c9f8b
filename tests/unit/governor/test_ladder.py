"""The governor's decisions on short stories, one claim per test."""

from __future__ import annotations

import json

import pytest

from supervisor.clock import Now
from supervisor.domain.command import Action, Command, Origin, strictest
from supervisor.governor.ladder import next_period_s
from supervisor.governor.policy import Policy
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind
from tests.unit.governor.story import Story, reading
from tests.unit.governor.test_failing_sensors import load


def test_a_cool_machine_runs() -> None:
    story = Story()
    assert story.show(60.0, for_s=600) is Action.RUN
    assert not story.notes
    assert story.state.protected


def test_soft_holds_new_trials_at_once_and_sheds_after_its_dwell() -> None:
    story = Story()
    story.show(60.0, for_s=20)
    assert story.show(93.0) is Action.HOLD
    assert story.show(93.0, for_s=15) is Action.HOLD
    assert story.show(93.0) is Action.SHED
    assert story.command is not None
    assert story.command.shed_trials == 1


def test_the_ladder_climbs_one_step_per_dwell_up_to_its_largest_rest_share() -> None:
    story = Story()
    story.show(93.0, for_s=300)
    assert story.command is not None
    assert story.command.action is Action.THROTTLE
    assert story.command.throttle_share == 0.75
    assert story.command.shed_trials == 2
    steps = [(note.facts["action"], note.facts["shed_trials"], note.facts["throttle_share"])
             for note in story.noted("action.changed")]  # fmt: skip
    assert steps == [
        ("HOLD", 0, 0.0), ("SHED", 1, 0.0), ("SHED", 2, 0.0), ("THROTTLE", 2, 0.25), ("THROTTLE", 2, 0.5),
        ("THROTTLE", 2, 0.75),
    ]  # fmt: skip


def test_shed_returns_one_step_after_180_s_below_soft_less_6_and_not_above() -> None:
    story = Story()
    story.show(93.0, for_s=25)
    assert story.show(87.0, for_s=600) is Action.SHED
    assert story.show(85.0, for_s=175) is Action.SHED
    assert story.show(85.0, for_s=15) is Action.HOLD
    assert story.show(85.0, for_s=20) is Action.RUN


def test_easing_that_does_not_hold_waits_twice_as_long_next_time() -> None:
    story = Story()
    story.show(93.0, for_s=25)
    story.show(80.0, for_s=200)
    assert story.state.step == 0
    story.show(93.0, for_s=30)
    assert story.state.step == 1
    story.show(80.0, for_s=300)
    assert story.state.step == 1
    story.show(80.0, for_s=100)
    assert story.state.step == 0


def test_pause_needs_its_dwell_and_critical_does_not() -> None:
    story = Story()
    story.show(60.0, for_s=60)
    assert story.show(100.0) is not Action.PAUSE
    assert story.show(100.0, for_s=10) is Action.PAUSE
    other = Story()
    other.show(60.0, for_s=60)
    assert other.show(106.0) is Action.PAUSE


def test_a_pause_lasts_its_minimum_even_on_a_die_that_cools_in_seconds() -> None:
    story = Story()
    story.show(106.0)
    assert story.show(50.0, for_s=290) is Action.PAUSE
    assert story.show(50.0, for_s=15) is Action.THROTTLE


def test_a_pause_does_not_end_between_resume_and_pause_thresholds() -> None:
    story = Story()
    story.show(106.0)
    assert story.show(88.0, for_s=3600) is Action.PAUSE
    assert story.show(87.0, for_s=10) is Action.THROTTLE


def test_after_a_pause_the_work_comes_back_one_action_at_a_time() -> None:
    story = Story()
    story.show(106.0)
    story.show(50.0, for_s=3600)
    rungs = [note.facts["action"] for note in story.noted("action.changed")]
    assert rungs == ["PAUSE", "THROTTLE", "SHED", "SHED", "HOLD", "RUN"]


def test_still_critical_after_a_long_pause_stops_and_only_force_ends_it() -> None:
    story = Story()
    assert story.show(106.0, for_s=400) is Action.STOP
    assert story.show(40.0, for_s=7200) is Action.STOP
    story.state = story.state.forced(Now(story.mono_s, story.wall_s))
    assert story.show(40.0, for_s=10) is Action.THROTTLE


def test_a_steep_rise_holds_before_the_soft_limit_but_never_pauses() -> None:
    story = Story()
    for celsius in (60.0, 64.0, 68.0, 72.0, 76.0, 80.0):
        story.show(celsius)
    assert story.actions[-1] is Action.HOLD
    for _ in range(12):
        story.show(91.0)
    assert Action.PAUSE not in story.actions


def test_the_jump_of_a_die_when_work_starts_sheds_nothing() -> None:
    """35 degrees within seconds are normal; only a lasting rise is extrapolated."""
    story = Story()
    story.show(45.0, for_s=60)
    for celsius in (74.0, 79.0, *[80.0] * 40):
        story.show(celsius)
    assert max(story.actions) is Action.HOLD
    assert story.actions[-1] is Action.RUN


def test_flap_control_comes_back_with_fewer_trials_after_three_pauses_in_an_hour() -> None:
    story = Story(Policy(min_off_s=60.0, ease_after_s=5.0, hold_min_s=0.0))
    for _ in range(3):
        story.show(106.0)
        story.show(50.0, for_s=300)
    assert story.state.floor_step == 1
    assert story.actions[-1] is Action.SHED
    story.show(50.0, for_s=3700)
    assert story.actions[-1] is Action.RUN


def test_after_too_many_pauses_the_work_waits_until_the_hour_is_over() -> None:
    story = Story(Policy(min_off_s=10.0, ease_after_s=5.0, max_pauses_per_hour=4))
    for _ in range(100):
        story.show(106.0)
        story.show(50.0, for_s=30)
    pauses = [note for note in story.noted("action.changed") if note.facts["action"] == "PAUSE"]
    assert len(pauses) == 4
    assert "pauses within the hour" in story.state.reason


# --- clocks ----------------------------------------------------------------------------------------------------------


def test_sleep_drops_all_samples_and_needs_two_fresh_ones_to_resume() -> None:
    story = Story(Policy(min_off_s=0.0))
    story.show(106.0)
    story.wall_s += 3600
    assert story.show(50.0) is Action.PAUSE
    assert story.show(50.0) is Action.THROTTLE
    assert len(story.noted("clock.jumped")) == 1


def test_a_reboot_keeps_the_time_that_a_pause_has_lasted() -> None:
    story = Story()
    story.show(106.0)
    story.show(50.0, for_s=200)
    story.state = GovernorState.from_json(json.loads(json.dumps(story.state.to_json())))
    story.mono_s = 10.0
    assert story.show(50.0) is Action.PAUSE
    assert story.show(50.0, for_s=80) is Action.PAUSE
    assert story.show(50.0, for_s=25) is Action.THROTTLE


def test_the_state_survives_json_exactly() -> None:
    story = Story()
    story.show([reading(93.0), load(50.0), reading(97.0, "host:memory.used", Kind.MEMORY, "host", "percent")], for_s=60)
    assert GovernorState.from_json(json.loads(json.dumps(story.state.to_json()))) == story.state


def test_a_state_of_another_schema_is_refused() -> None:
    with pytest.raises(ValueError, match="of schema 1, found 99"):
        GovernorState.from_json({**GovernorState().to_json(), "schema": 99})


# --- who may lift what -----------------------------------------------------------------------------------------------


def test_cooling_never_lifts_an_operators_pause_nor_an_operators_resume_the_governors() -> None:
    story = Story()
    operator = Command(Action.PAUSE, Origin.OPERATOR, "by hand")
    story.show(50.0, for_s=600)
    assert story.command is not None
    assert strictest([operator, story.command]) == operator
    story.show(106.0)
    resumed = Command(Action.RUN, Origin.OPERATOR, "go on")
    assert strictest([resumed, story.command]).action is Action.PAUSE


def test_force_ends_a_pause_but_not_a_critical_temperature() -> None:
    story = Story()
    story.show(100.0, for_s=30)
    assert story.actions[-1] is Action.PAUSE
    story.state = story.state.forced(Now(story.mono_s, story.wall_s))
    assert story.show(100.0) is Action.THROTTLE
    assert story.show(106.0) is Action.PAUSE
    assert story.show(100.0, for_s=700) is Action.PAUSE


def test_the_sensors_are_read_faster_near_a_limit_and_while_work_is_eased() -> None:
    story = Story()
    story.show(60.0)
    assert next_period_s([reading(60.0)], story.policy, story.state) == 5.0
    assert next_period_s([reading(92.0)], story.policy, story.state) == 1.0
    story.show(106.0)
    assert next_period_s([reading(60.0)], story.policy, story.state) == 1.0
