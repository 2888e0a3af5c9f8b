"""`--set` follows the rules of a plan's file, and is part of its frozen text."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PlanError
from supervisor.plan import set_values
from supervisor.plan.loader import load_plan, parse_plan
from tests.unit.plan.test_loader import MINIMAL, load, refused, with_line


def test_sets_are_typed_by_yaml() -> None:
    changed = load(MINIMAL, "config.steps=7", "space.x.low=1e-4", "name=on", "matrix.size=[small]")
    assert changed.plan.config["steps"] == 7
    assert changed.plan.space["x"].model_dump()["low"] == 1e-4
    assert changed.plan.name == "on"
    assert changed.plan.matrix["size"] == ("small",)


def test_the_frozen_text_of_a_plan_contains_its_sets() -> None:
    changed = load_plan("phase6a", ["max_trials=2", "max_epochs=1", "matrix.budget=[2M]"])
    assert parse_plan(changed.text, "frozen.yaml").plan == changed.plan
    assert changed.text.startswith("# phase6a.yaml with --set max_trials=2")


@pytest.mark.parametrize(
    ("override", "key", "left"),
    [
        ("auto", "resources.cpu=2", None), ("{auto: true, gpu: 1}", "resources.cpu=2", {"gpu": 1.0}),
        ("{auto: true, gpu: 1}", "resources.gpu=2", {"auto": True}), ("auto", "resources.gpu=2", {"auto": True}),
    ],
)  # fmt: skip
def test_a_set_number_of_cores_wins_over_an_override_with_auto(override: str, key: str, left: object) -> None:
    text, _ = with_line(f"overrides:\n  - when: {{size: small}}\n    set: {{max_trials: 3, resources: {override}}}")
    found = load(text, key).plan.overrides[0].set.resources
    assert (None if found is None else found.model_dump(exclude_unset=True)) == left


def test_a_set_key_wins_over_overrides() -> None:
    text, _ = with_line(
        "overrides:\n"
        "  - when: {size: small}\n    set: {max_epochs: 50, config: {steps: 9}, resources: {cpu: 4, gpu: 1}}\n"
        "  - when: {depth: 2}\n    set: {max_epochs: 60}"
    )
    plan = load(text, "max_epochs=1", "resources.cpu=2").plan
    assert len(plan.overrides) == 1, "an override with nothing left is gone"
    assert plan.overrides[0].set.max_epochs is None
    assert plan.overrides[0].set.resources is not None
    assert plan.overrides[0].set.resources.model_dump(exclude_unset=True) == {"gpu": 1.0}
    assert plan.overrides[0].set.config == {"steps": 9}


def test_overrides_of_values_that_are_no_longer_in_the_matrix_are_dropped() -> None:
    plan = load_plan("phase6a", ["matrix.budget=[2M, 200M]"]).plan
    assert [override.when for override in plan.overrides] == [{"budget": ("200M",)}]
    assert load_plan("phase6a", ["matrix.budget=[2M]"]).plan.overrides == ()


@pytest.mark.parametrize(
    ("argument", "said", "remedy"),
    [
        ("max_trails=2", "unknown key", "did you mean max_trials?"),
        ("max_trials", "not KEY=VALUE", "write such as"),
        ("=2", "not KEY=VALUE", "write such as"),
        ("a..b=2", "not KEY=VALUE", "write such as"),
        ("max_trials=[1", "not YAML", None),
        ("max_trials=yes", "must be a whole number", None),
        ("max_trials=!!int 3", "tags", None),
        ("name.x=2", "name is a single value", "set name itself"),
        ("enqueue.0.x=2", "enqueue has no item 0", "set enqueue itself"),
        ("space.x.lo=2", "unknown key", "did you mean low?"),
        ("overrides.0.set.max_trials=2", "has no item 0", None),
    ],
)
def test_a_bad_set_argument_is_quoted_in_its_error(argument: str, said: str, remedy: str | None) -> None:
    error = refused(MINIMAL + "enqueue: []\noverrides: []\n", argument)
    assert f"--set {argument.partition('=')[0]}" in error.message
    assert said in error.message
    assert remedy is None or (error.remedy is not None and remedy in error.remedy)


_SCALARS = st.none() | st.booleans() | st.integers(-(10**9), 10**9) | st.floats(-1e9, 1e9) | st.text(
    st.characters(codec="ascii", min_codepoint=32), max_size=20
)  # fmt: skip


@given(st.from_regex(r"[a-z_]{1,12}", fullmatch=True), _SCALARS)
def test_a_value_written_as_json_comes_back_from_set(key: str, value: Any) -> None:
    path, parsed = set_values.parse_set(f"config.{key}={json.dumps(value)}")
    assert path == ("config", key)
    assert parsed == value
    assert type(parsed) is type(value)


@given(
    st.from_regex(r"[a-z_]{1,12}", fullmatch=True).filter(lambda key: key not in ("size", "depth", "x", "n", "c")),
    _SCALARS,
)
def test_a_constant_set_is_in_the_plan_and_in_its_frozen_text(key: str, value: Any) -> None:
    changed = load(MINIMAL, f"config.{key}={json.dumps(value)}")
    assert changed.plan.config[key] == value
    assert parse_plan(changed.text, "frozen.yaml").plan == changed.plan


@given(st.text(max_size=60))
def test_any_set_argument_is_applied_or_gives_a_plan_error(argument: str) -> None:
    try:
        changed = load(MINIMAL, argument)
    except PlanError:
        return
    assert parse_plan(changed.text, "frozen.yaml").plan == changed.plan
