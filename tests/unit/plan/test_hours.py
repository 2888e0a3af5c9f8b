"""Test how the hours of a plan are divided over its experiments."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.errors import PlanError
from supervisor.plan.expansion import expand
from supervisor.plan.loader import load_plan, parse_plan
from supervisor.plan.schema import Plan

SEED = {"2M": 2.5, "20M": 8.0, "200M": 30.0, "2B": 100.0}
BY_SIZE = {"size": {"s": 1, "l": 3}}


def plan_of(**changes: Any) -> Plan:
    base: dict[str, Any] = {
        "name": "mine", "trainable": "m:f", "matrix": {"size": ["s", "l"], "depth": [1, 2]},
        "space": {"x": {"type": "float", "low": 0.0, "high": 1.0}}, "max_trials": 4, "max_epochs": 9,
    }  # fmt: skip
    return parse_plan(json.dumps(base | changes), "mine.yaml").plan


def hours(plan: Plan, **chosen: Any) -> dict[str, float | None]:
    return {spec.name: spec.max_hours for spec in expand(plan, 25, **chosen)}


def test_phase6a_has_the_hours_of_each_budget_and_scales_them() -> None:
    plan = load_plan("phase6a").plan
    for total in (None, 150.0):
        found = hours(plan, hours=total)
        scale = (total or 140.5) / 140.5
        for name, share in found.items():
            assert share == pytest.approx(SEED[name.split("-")[0]] / 3 * scale, abs=1e-4), name
        assert sum(found.values()) == pytest.approx(total or 140.5, abs=1e-3)  # type: ignore[arg-type]  # all have some


def test_a_part_of_the_plan_keeps_its_part_of_the_hours_and_gets_all_that_are_given_to_it() -> None:
    plan = load_plan("phase6a").plan
    assert sum(hours(plan, only="2M").values()) == pytest.approx(2.5, abs=1e-4)  # type: ignore[arg-type]
    assert hours(plan, globs=["2M-h1", "20M-h1"], hours=21.0) == {"2M-h1": 5.0, "20M-h1": 16.0}


@pytest.mark.parametrize(
    ("changes", "total", "expected"),
    [
        ({}, None, [None] * 4),
        ({}, 8.0, [2.0] * 4),
        ({"hours": 8}, None, [2.0] * 4),
        ({"hours": BY_SIZE}, None, [0.5, 0.5, 1.5, 1.5]),
        ({"hours": {"depth": {1: 2, 2: 4.0}}}, None, [1.0, 2.0, 1.0, 2.0]),
        ({"hours": 8, "max_hours": 3.0}, None, [3.0] * 4),
        ({"hours": BY_SIZE, "overrides": [{"when": {"size": "l", "depth": 1}, "set": {"max_hours": 7}}]}, None,
         [0.5, 0.5, 7.0, 1.5]),
        ({"hours": BY_SIZE, "overrides": [{"when": {"size": "l", "depth": 1}, "set": {"max_hours": 7}}]}, 12.0,
         [1.0, 1.0, 7.0, 3.0]),
    ],
)  # fmt: skip
def test_max_hours_of_an_experiment_go_before_its_share(
    changes: dict[str, Any], total: float | None, expected: list[float | None]
) -> None:
    assert list(hours(plan_of(**changes), hours=total).values()) == expected


@pytest.mark.parametrize(
    ("changes", "total", "error"),
    [
        ({"max_hours": 3.0}, 8.0, "every experiment has its own max_hours"),
        ({"overrides": [{"when": {"size": "l"}, "set": {"max_hours": 7}}]}, 14.0, "max_hours of experiments take all"),
        ({"hours": {"width": {"s": 1}}}, None, "no axis width"),
        ({"hours": {"size": {"s": 1}}}, None, "size l has no hours"),
        ({"hours": {"size": {"s": 1, "l": 2, "xl": 3}}}, None, "no size xl"),
        ({"hours": {"size": {"s": 0, "l": 2}}}, None, "above 0"),
        ({"hours": {"size": {"s": 1, "l": 2}, "depth": {1: 1, 2: 1}}}, None, "hours"),
        ({"hours": 0}, None, "hours"),
    ],
)
def test_hours_that_cannot_be_divided_are_an_error(changes: dict[str, Any], total: float | None, error: str) -> None:
    with pytest.raises(PlanError, match=error):
        hours(plan_of(**changes), hours=total)


@given(total=st.floats(0.1, 1e5), weights=st.lists(st.floats(0.01, 1e3), min_size=2, max_size=2))
def test_the_shares_add_up_to_what_is_given(total: float, weights: list[float]) -> None:
    found = hours(plan_of(hours={"size": dict(zip("sl", weights, strict=True))}), hours=total)
    assert sum(found.values()) == pytest.approx(total, abs=1e-4)  # type: ignore[arg-type]  # all have some


def test_hours_of_values_that_are_set_out_of_the_matrix_are_dropped() -> None:
    assert hours(load_plan("phase6a", ["matrix.budget=[2M]", "matrix.horizon=[1]"]).plan) == {"2M-h1": 2.5}
    assert hours(load_plan("phase6a", ["matrix.budget=[3M]", "matrix.horizon=[1]"]).plan) == {"3M-h1": None}
