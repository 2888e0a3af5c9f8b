"""Test the ladder with sensors that fail: lost, stale, stuck, parked, hung."""

from __future__ import annotations

from dataclasses import replace

import pytest

from supervisor.clock import Now
from supervisor.domain.command import Action
from supervisor.governor.ladder import decide
from supervisor.governor.policy import Policy
from supervisor.sensors.reading import Kind, Quality, Reading
from tests.unit.governor.story import Story, reading


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
