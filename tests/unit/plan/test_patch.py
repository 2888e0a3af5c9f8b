"""Test changes of a run's plan: checked as a plan, resolved for its experiments, refused by name."""

from __future__ import annotations

from typing import Any

import pytest

from supervisor.errors import PlanError
from supervisor.plan.expansion import expand
from supervisor.plan.loader import parse_plan
from supervisor.plan.patch import CHANGEABLE, FIXED, Patch, patch, point_of
from supervisor.plan.schema import Plan

TEXT = """
name: mine
trainable: mine:train
matrix: {size: [small, large]}
space: {x: {type: float, low: 0.0, high: 1.0}}
max_trials: 10
max_epochs: 3
concurrency: 2
finalize: {top: 2, seeds: 2}
hardware: {release_after_s: 60.0}
overrides:
  - when: {size: large}
    set: {max_trials: 20, max_hours: 5.0}
"""


def specs_of(text: str = TEXT) -> dict[str, dict[str, Any]]:
    return {spec.name: spec.model_dump(mode="json") for spec in expand(parse_plan(text, "mine.yaml").plan)}


def changed(*sets: str, earlier: tuple[str, ...] = (), specs: dict[str, Any] | None = None) -> Patch:
    return patch(TEXT, earlier, sets, specs_of() if specs is None else specs, {"release_after_s": 60.0})


def test_a_set_key_wins_over_the_plans_overrides_and_the_finalisation_follows_the_trials() -> None:
    found = changed("max_trials=4").specs
    assert found == {
        "small": {"max_trials": 4, "finalize": {"top": 1, "seeds": 2, "folds": 1}},
        "large": {"max_trials": 4, "finalize": {"top": 1, "seeds": 2, "folds": 1}},
    }


def test_only_what_differs_changes() -> None:
    assert changed("max_trials=10").specs.keys() == {"large"}
    assert changed("max_hours=5").specs == {"small": {"max_hours": 5.0}}


def test_only_the_experiments_that_are_given_change() -> None:
    one = {"small": specs_of()["small"]}
    assert changed("concurrency=4", specs=one).specs == {"small": {"concurrency": 4}}


def test_no_more_trials_run_at_once_than_there_are() -> None:
    assert changed("concurrency=1000").specs["small"] == {"concurrency": 10}
    assert changed("max_trials=1").specs["small"]["concurrency"] == 1


def test_the_hardware_policy_is_merged_with_the_one_in_force() -> None:
    found = changed("hardware.min_off_s=120")
    assert (found.specs, found.policy) == ({}, {"release_after_s": 60.0, "min_off_s": 120})
    assert changed("concurrency=4").policy is None


NIGHTS = "hardware.schedule={zone: UTC, hours: {daily: pause, 22:00-06:00: run}}"


def test_a_schedule_is_set_changed_in_a_part_and_taken_away() -> None:
    kept = {
        "hours": ["daily: pause", "22:00-06:00: run"], "zone": "UTC", "while_active": None, "idle_minutes": 10.0,
        "on_battery": None,
    }  # fmt: skip
    assert (changed(NIGHTS).schedule, changed(NIGHTS).policy) == (kept, None)
    part = changed("hardware.schedule.on_battery=hold", earlier=(NIGHTS,))
    assert part.schedule == {**kept, "on_battery": "hold"}
    line = changed("hardware.schedule.hours.sat 12:00-13:00=run", earlier=(NIGHTS,)).schedule
    assert line is not None
    assert line["hours"][-1] == "sat 12:00-13:00: run"
    assert changed("hardware.schedule=null", earlier=(NIGHTS,)).schedule == {}
    assert changed("hardware.min_off_s=120", earlier=(NIGHTS,)).schedule is None


def test_earlier_changes_count_in_the_check() -> None:
    with pytest.raises(PlanError, match="memory_shed_percent"):
        changed("hardware.memory_shed_percent=80", earlier=("hardware.memory_pause_percent=70",))
    changed("hardware.memory_shed_percent=60", earlier=("hardware.memory_pause_percent=70",))


@pytest.mark.parametrize("key", sorted(FIXED))
def test_what_cannot_change_is_refused_by_name_with_the_reason(key: str) -> None:
    with pytest.raises(PlanError, match=f"{key} cannot change in a run: ") as refusal:
        changed(f"{key}=1")
    assert "--new" in (refusal.value.remedy or "")


def test_each_key_of_a_plan_can_change_or_has_its_reason() -> None:
    assert set(CHANGEABLE) | set(FIXED) >= set(Plan.model_fields)
    assert not set(CHANGEABLE) & set(FIXED)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("concurency=4", "concurency is no key of a plan"),
        ("concurrency", "not KEY=VALUE"),
        ("concurrency=0", "concurrency"),
        ("concurrency=four", "concurrency"),
        ("concurrency=auto", "expected a number, found 'auto'"),
        ("max_hours=null", "expected a number, found None"),
        ("max_hours=-1", "max_hours"),
        ("max_trials.x=1", "single value"),
        ("hardware.nonsense=1", "nonsense"),
        ("hardware.release_after_s=-5", "release_after_s"),
        ("hardware={}", "expected one of its keys"),
        ("hardware.sensor_script=heat", "sensor_script cannot change"),
        ("hardware.schedule={hours: {mond: pause}}", "expected days"),
        ("hardware.schedule={hours: {daily: pause}}", "expected hours for work, found none"),
        ("hardware.schedule.zone=Europe/Berlin", "expected hours, while_active or on_battery"),
        ("hardware.schedule=nights", "expected a mapping"),
    ],
)
def test_a_bad_change_is_refused_as_in_a_plan(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        changed(text)


SPACE = TEXT.replace(
    "space: {x: {type: float, low: 0.0, high: 1.0}}",
    "space: {x: {type: float, low: 0.0, high: 1.0}, n: {type: int, low: 1, high: 9},"
    " kind: {type: categorical, choices: [a, b]}}",
)


@pytest.mark.parametrize(
    ("text", "point"),
    [
        ('{"x": 0.5, "n": 3}', {"x": 0.5, "n": 3}),
        ("{x: 1, kind: a}", {"x": 1.0, "kind": "a"}),
        ("n: 9", {"n": 9}),
    ],
)
def test_a_point_is_read_as_json_or_yaml(text: str, point: dict[str, Any]) -> None:
    found = point_of(specs_of(SPACE)["small"], text)
    assert found == point
    assert [type(value) for value in found.values()] == [type(value) for value in point.values()]


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("{}", "expected {PARAMETER: VALUE"),
        ("0.5", "expected {PARAMETER: VALUE"),
        ("", "expected {PARAMETER: VALUE"),
        ("{y: 0.5}", "y is not in the space of small"),
        ("{x: 1.5}", "outside"),
        ("{n: 1.5}", "not a whole number"),
        ("{kind: c}", "not one of"),
        ("{x: [", "the point"),
    ],
)
def test_a_point_outside_the_space_is_refused(text: str, words: str) -> None:
    with pytest.raises(PlanError, match=words):
        point_of(specs_of(SPACE)["small"], text)


def test_an_early_stop_is_set_in_parts_and_taken_away_again() -> None:
    stop = {"value": 0.5, "plateau": 20, "improvement": 0.0}
    assert changed("stop.value=0.5", "stop.plateau=20").specs["small"] == {"stop": stop}
    specs = {name: {**spec, "stop": stop} for name, spec in specs_of().items()}
    assert changed("stop.value=0.1", specs=specs).specs["small"] == {"stop": {**stop, "value": 0.1}}, "not the plateau"
    assert changed("stop.value=0.5", specs=specs).specs == {}
    assert changed("stop=null", specs=specs).specs["small"] == {"stop": None}
    with pytest.raises(PlanError, match="needs a value or a plateau"):
        changed("stop={}")
