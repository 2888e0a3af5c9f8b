"""Test the comparison of a plan's file with the plan of a run: what the run takes over, and what it cannot."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from supervisor.plan.expansion import expand, fingerprint
from supervisor.plan.loader import load_plan, parse_plan
from supervisor.plan.reread import Comparison, compare, option_values

TEXT = """
name: mine
trainable: mine:train
matrix: {size: [small, large]}
space: {x: {type: float, low: 0.0, high: 1.0}}
max_trials: 10
max_epochs: 3
concurrency: 2
overrides:
  - when: {size: large}
    set: {max_trials: 20}
"""
POLICY = {"disk_hold_bytes": 9e9}


class Bench:
    """A run of TEXT, and the file of its plan."""

    def __init__(self, folder: Path) -> None:
        self.file = folder / "mine.yaml"
        self.specs = {s.name: s.model_dump(mode="json") for s in expand(parse_plan(TEXT, "mine.yaml").plan)}

    def edited(
        self, *changes: tuple[str, str], sets: tuple[str, ...] = (), options: tuple[str, ...] = ()
    ) -> Comparison:
        text = TEXT
        for before, after in changes:
            assert before in text
            text = text.replace(before, after)
        self.file.write_text(text)
        return compare(str(self.file), TEXT, sets, options, POLICY, {}, self.specs)


@pytest.fixture
def bench(tmp_path: Path) -> Bench:
    return Bench(tmp_path)


def refused(found: Comparison) -> list[str]:
    return [why.partition(":")[0] for why in found.refused]


def test_a_file_as_it_was_has_no_differences_and_the_runs_fingerprint(bench: Bench) -> None:
    found = bench.edited()
    assert (found.changes, found.refused, found.specs, found.policy) == ((), (), {}, None)
    plan = load_plan(bench.file).plan
    assert found.fingerprint == fingerprint(plan, expand(plan))


def test_what_can_change_becomes_one_patch_for_each_experiment(bench: Bench) -> None:
    found = bench.edited(("concurrency: 2", "concurrency: 4"), ("{max_trials: 20}", "{max_trials: 30}"))
    assert found.specs == {"small": {"concurrency": 4}, "large": {"concurrency": 4, "max_trials": 30}}
    assert found.refused == ()
    plan = load_plan(bench.file).plan
    assert found.fingerprint == fingerprint(plan, expand(plan))
    assert parse_plan(found.text, "copy").plan == plan, "the run's copy is the file's from now on"


def test_what_cannot_change_is_named_and_the_copy_takes_the_rest(bench: Bench) -> None:
    found = bench.edited(("high: 1.0", "high: 2.0"), ("max_trials: 10", "max_trials: 12"))
    assert (refused(found), found.specs, found.fingerprint) == (["space"], {"small": {"max_trials": 12}}, None)
    kept = parse_plan(found.text, "copy").plan
    assert (kept.max_trials, kept.space["x"].high) == (12, 1.0)  # type: ignore[union-attr]  # it is a float dimension


@pytest.mark.parametrize(
    ("before", "after", "keys"),
    [
        ("trainable: mine:train", "trainable: mine:other", ["trainable"]),
        ("size: [small, large]", "size: [small, large, huge]", ["matrix"]),
        ("{max_trials: 20}", "{max_trials: 20, max_epochs: 9}", ["max_epochs"]),
        ("concurrency: 2", "concurrency: auto", ["concurrency"]),
        ("max_epochs: 3", "max_epochs: 3\nhours: 9", ["hours"]),
        ("max_epochs: 3", "max_epochs: 3\nhardware: {sensor_script: heat}", ["hardware.sensor_script"]),
        ("max_epochs: 3", "max_epochs: 3\ndescription: about", []),
    ],
)
def test_each_key_that_differs_is_found_also_in_an_override(
    bench: Bench, before: str, after: str, keys: list[str]
) -> None:
    found = bench.edited((before, after))
    assert refused(found) == keys
    assert found.changes


def test_the_policy_is_the_files_and_keeps_what_no_plan_says(bench: Bench) -> None:
    assert bench.edited(("concurrency: 2", "hardware: {min_off_s: 9.0}")).policy == {**POLICY, "min_off_s": 9.0}


def test_a_schedule_is_the_files_and_goes_with_it(bench: Bench) -> None:
    battery = ("concurrency: 2", "concurrency: 2\nhardware: {schedule: {on_battery: pause}}")
    found = bench.edited(battery)
    assert (found.changes, found.policy) == (("hardware.schedule.on_battery: absent -> pause",), None)
    assert (found.schedule or {})["on_battery"] == "pause"
    since = "hardware.schedule.on_battery=pause"
    assert bench.edited(battery, sets=(since,)).schedule is None
    assert bench.edited(sets=(since,)).schedule == {}


def test_a_trace_that_cannot_change_keeps_no_other_key_of_the_hardware_back(bench: Bench) -> None:
    found = bench.edited(("concurrency: 2", "hardware: {sensor_script: heat, min_off_s: 9.0}"))
    assert (refused(found), found.policy) == (["hardware.sensor_script"], {**POLICY, "min_off_s": 9.0})
    kept = parse_plan(found.text, "copy").plan
    assert (kept.policy, kept.sensor_script) == ({"min_off_s": 9.0}, None)


def test_changes_since_count_as_the_runs(bench: Bench) -> None:
    assert bench.edited(("max_trials: 10", "max_trials: 12"), sets=("max_failures=5",)).changes == (
        "max_trials: 10 -> 12", "max_failures: 5 -> absent"
    )  # fmt: skip


def test_the_options_of_the_start_belong_to_the_plan(bench: Bench) -> None:
    options = ("--set", "max_trials=10", "--only", "small")
    assert option_values(options, "--set") == ["max_trials=10"]
    assert option_values(options, "--hours") == []
    found: Any = bench.edited(options=("--set", "seed=7"))
    assert refused(found) == ["seed"], "the run's copy was made without it"


def test_an_early_stop_can_be_taken_away_and_a_limit_of_hours_cannot(bench: Bench) -> None:
    stop = {"value": None, "plateau": 3, "improvement": 0.0}
    for spec in bench.specs.values():
        spec.update(stop=stop, max_hours=2.0)
    found = bench.edited(sets=("stop.plateau=3", "max_hours=2"))
    assert refused(found) == ["max_hours"]
    assert found.specs == {"small": {"stop": None}, "large": {"stop": None}}
    kept = parse_plan(found.text, "copy").plan
    assert (kept.max_hours, kept.stop) == (2.0, None), "the copy is as the run"
