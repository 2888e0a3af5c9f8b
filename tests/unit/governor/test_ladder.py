"""The governor's decisions on short stories, one claim per test."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass, field, replace

import pytest

from supervisor.clock import Now
from supervisor.domain.command import Action, Command, Origin, strictest
from supervisor.governor.ladder import decide, next_period_s
from supervisor.governor.policy import Policy
from supervisor.governor.sensor_health import Note
from supervisor.governor.state import GovernorState
from supervisor.sensors.reading import Kind, Limits, Quality, Reading

LIMITS = Limits(soft=92.0, pause=99.0, critical=105.0)


def reading(
    value: float | None,
    sensor_id: str = "t:die/a",
    kind: Kind = Kind.TEMPERATURE,
    component: str = "cpu",
    unit: str = "celsius",
    *,
    quality: Quality = Quality.ERROR,
    detail: str | None = None,
    limits: Limits = LIMITS,
) -> Reading:
    return Reading(
        sensor_id=sensor_id,
        kind=kind,
        component=component,
        value=value,
        unit=unit,
        mono_s=0.0,
        wall_s=0.0,
        source="test",
        quality=Quality.OK if value is not None else quality,
        detail=detail,
        limits=limits if kind in (Kind.TEMPERATURE, Kind.MARGIN) else Limits(),
    )


@dataclass
class Story:
    """A governor on its own clock; each `show` is one reading of the sensors."""

    policy: Policy = field(default_factory=Policy)
    state: GovernorState = field(default_factory=GovernorState)
    mono_s: float = 1000.0
    wall_s: float = 1.7e9
    notes: list[Note] = field(default_factory=list)
    actions: list[Action] = field(default_factory=list)
    command: Command | None = None

    def show(self, readings: Sequence[Reading] | float | None, for_s: float = 0.0, every_s: float = 5.0) -> Action:
        """Show the same readings every `every_s` until `for_s` have passed; at least once."""
        for _ in range(max(1, round(for_s / every_s))):
            given = [reading(readings)] if readings is None or isinstance(readings, int | float) else readings
            self.mono_s += every_s
            self.wall_s += every_s
            stamped = [replace(one, mono_s=self.mono_s, wall_s=self.wall_s) for one in given]
            self.command, self.state, notes = decide(stamped, self.policy, self.state, Now(self.mono_s, self.wall_s))
            self.notes += notes
            self.actions.append(self.command.action)
        return self.actions[-1]

    def noted(self, kind: str) -> list[Note]:
        return [note for note in self.notes if note.kind == kind]


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


# --- sensors that fail -----------------------------------------------------------------------------------------------


def test_without_any_thermal_sensor_the_work_runs_unprotected_and_memory_still_counts() -> None:
    story = Story()
    plenty = reading(40.0, "host:memory.used", Kind.MEMORY, "host", "percent")
    assert story.show([plenty], for_s=600) is Action.RUN
    assert not story.state.protected
    full = replace(plenty, value=95.0)
    assert story.show([full], for_s=15) is Action.PAUSE


def test_a_plan_may_require_a_thermal_sensor() -> None:
    story = Story(Policy(required=True))
    assert story.show([], for_s=30) is Action.PAUSE
    assert "requires" in story.state.reason


def test_a_lost_sensor_sheds_after_three_periods_and_pauses_after_two_minutes() -> None:
    story = Story()
    story.show(60.0, for_s=30)
    assert story.show(None, for_s=10) is Action.RUN
    assert story.show(None) is Action.SHED
    assert story.show(None, for_s=105) is Action.SHED
    assert story.show(None, for_s=10) is Action.PAUSE
    assert [note.facts["sensor"] for note in story.noted("sensor.lost")] == ["t:die/a"]


def test_a_pause_never_ends_on_an_unknown_sensor_and_ends_when_it_is_back() -> None:
    story = Story()
    story.show(106.0)
    assert story.show(None, for_s=7200) is Action.PAUSE
    assert story.show([], for_s=7200) is Action.PAUSE
    story.show(50.0)
    assert story.actions[-1] is Action.PAUSE, "one fresh sample is not two"
    assert story.show(50.0) is Action.THROTTLE
    assert len(story.noted("sensor.recovered")) == 1


def test_a_drives_lost_thermometer_eases_for_a_while_and_never_pauses() -> None:
    story = Story()
    drive = reading(50.0, "hwmon:0000:01:00.0/nvme/Composite", component="ssd")
    story.show([drive], for_s=30)
    assert story.show([], for_s=60) is Action.SHED
    assert story.show([], for_s=600) is Action.RUN
    assert max(story.actions) is Action.SHED


def test_thermal_pressure_stands_in_for_a_lost_cpu_sensor() -> None:
    story = Story()
    pressure = reading(0.0, "notify:thermalpressure", Kind.PRESSURE, "host", "level")
    story.show([reading(60.0), pressure], for_s=30)
    story.show([pressure], for_s=700)
    assert max(story.actions) is Action.SHED
    assert story.actions[-1] is Action.RUN


def test_a_lost_sensor_is_retired_if_another_stands_in_for_it() -> None:
    story = Story()
    both = [reading(60.0), reading(55.0, "t:other/b")]
    story.show(both, for_s=30)
    story.show([both[1]], for_s=125)
    assert Action.PAUSE not in story.actions
    assert story.show([both[1]], for_s=400) is Action.RUN


def test_a_second_gpu_does_not_stand_in_for_the_first() -> None:
    story = Story()
    cards = [reading(60.0, "nvml:GPU-1/core", component="gpu"), reading(55.0, "nvml:GPU-2/core", component="gpu")]
    story.show(cards, for_s=30)
    assert story.show([cards[1]], for_s=130) is Action.PAUSE


def test_a_stale_reading_counts_as_unknown() -> None:
    story = Story()
    story.show(60.0, for_s=30)
    old = replace(reading(60.0), mono_s=story.mono_s)
    for _ in range(10):
        story.mono_s += 5
        story.wall_s += 5
        _, story.state, notes = decide([old], story.policy, story.state, Now(story.mono_s, story.wall_s))
        story.notes += notes
    assert story.state.action is Action.SHED
    assert "stale" in story.noted("sensor.lost")[0].facts["why"]


def load(percent: float, sensor_id: str = "host:cpu", component: str = "cpu") -> Reading:
    return reading(percent, sensor_id, Kind.UTILISATION, component, "percent")


def test_a_second_gpus_load_does_not_make_the_first_ones_sensor_stuck() -> None:
    story = Story()
    core = reading(61.375, "nvml:GPU-1/core", component="gpu")
    for tick in range(60):
        idle, busy = (
            load(5.0, "nvml:GPU-1/utilisation", "gpu"),
            load(99.0 * (tick % 2), "nvml:GPU-2/utilisation", "gpu"),
        )
        story.show([core, idle, busy])
    assert not story.notes


def test_a_folder_that_is_not_watched_any_more_is_not_lost() -> None:
    story = Story()
    folder = reading(5e10, "disk:/old", Kind.DISK, "disk", "bytes")
    story.show([folder, reading(50.0)], for_s=30)
    assert story.show([reading(50.0)], for_s=600) is Action.RUN
    assert not story.notes


def test_a_folder_that_cannot_be_read_any_more_pauses() -> None:
    story = Story()
    folder = reading(5e10, "disk:/old", Kind.DISK, "disk", "bytes")
    story.show([folder], for_s=30)
    assert story.show([replace(folder, value=None, quality=Quality.ERROR)], for_s=130) is Action.PAUSE


@pytest.mark.parametrize(("value", "patience_s"), [(61.375, 120), (61.0, 600)])
def test_an_unchanged_value_while_the_load_changes_is_stuck(value: float, patience_s: int) -> None:
    """Whole degrees repeat without a fault, so they get ten minutes."""
    story = Story()
    story.show([reading(value), load(5.0)])
    story.show([reading(value), load(95.0)], for_s=patience_s - 10)
    assert not story.noted("sensor.stuck")
    story.show([reading(value), load(95.0)], for_s=20)
    assert story.noted("sensor.stuck")[0].facts["sensor"] == "t:die/a"
    assert story.actions[-1] is Action.SHED


def test_an_unchanged_value_under_a_steady_load_is_not_stuck() -> None:
    story = Story()
    story.show([reading(61.375), load(95.0)], for_s=3600)
    assert not story.notes


def parked() -> Reading:
    return reading(None, quality=Quality.PARKED)


def test_a_parked_sensor_is_never_lost_nor_stuck() -> None:
    story = Story()
    story.show(60.0, for_s=30)
    assert story.show([parked(), load(2.0)], for_s=7200) is Action.RUN
    assert not story.notes


def test_a_parked_sensor_ends_a_pause_only_while_its_component_rests() -> None:
    story = Story()
    story.show(106.0)
    assert story.show([parked(), load(90.0)], for_s=3600) is Action.PAUSE
    assert story.show([parked(), load(3.0)]) is Action.THROTTLE


def test_a_provider_that_hangs_is_noted_once_and_once_when_it_is_back() -> None:
    story = Story()
    hung = reading(None, "provider:nvml", Kind.EVENT, "provider", "count", detail="hung: no answer in 2 s")
    story.show([reading(50.0), hung], for_s=60)
    assert [note.facts["why"] for note in story.noted("sensor.hung")] == ["hung: no answer in 2 s"]
    story.show([reading(50.0)], for_s=60)
    assert [note.facts["sensor"] for note in story.noted("sensor.recovered")] == ["provider:nvml"]


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
