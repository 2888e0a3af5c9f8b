"""Warm start: the donor of an experiment, and how its configurations are carried over."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.plan import warm_start
from supervisor.plan.expansion import expand, grid_of
from supervisor.plan.loader import load_plan

FEATURES = 25


def specs(*sets: str) -> dict[str, dict[str, Any]]:
    found = expand(load_plan("phase6a", list(sets)).plan, FEATURES, "/data/x.parquet")
    return {spec.name: spec.model_dump(mode="json") for spec in found}


def ended(number: int, value: float, **params: Any) -> dict[str, Any]:
    base = {"shape_rank": 3, "heads_log2": 2, "learning_rate": 1e-3, "weight_decay": 0.01, "dropout": 0.1,
            "batch_size": 64, "warmup_fraction": 0.1}  # fmt: skip
    return {
        "number": number, "state": "TERMINATED", "end_reason": "finished", "value": value,
        "params": {**base, **params}, "record": {"num_features": FEATURES},
    }  # fmt: skip


def shape_of(spec: dict[str, Any], params: dict[str, Any]) -> tuple[int, int]:
    architecture = grid_of(spec["config"], FEATURES).architecture(params["shape_rank"], params["heads_log2"])
    return architecture.d_model, architecture.n_layers


@pytest.mark.parametrize(("name", "expected"), [("2M-h1", None), ("20M-h3", "2M-h3"), ("2B-h5", "200M-h5")])
def test_the_donor_is_the_next_smaller_budget_of_the_same_horizon(name: str, expected: str | None) -> None:
    known = specs()
    found = warm_start.donor(known[name], list(known.values()))
    assert (None if found is None else found["name"]) == expected


def test_a_missing_budget_is_skipped() -> None:
    known = specs("matrix.budget=[2M, 200M]")
    found = warm_start.donor(known["200M-h1"], list(known.values()))
    assert found is not None
    assert found["name"] == "2M-h1"


def test_the_learning_rate_is_rescaled_by_width_and_depth() -> None:
    """(d_small / d_large)^0.8 x (L_small / L_large)^0.4: 64 x 4 to 256 x 8 takes 0.25^0.8 x 0.5^0.4 = 0.25."""
    assert warm_start.rescaled(1e-3, (64, 4), (256, 8)) == pytest.approx(1e-3 * 2**-1.6 * 2**-0.4)
    assert warm_start.rescaled(1e-3, (64, 4), (64, 4)) == 1e-3


def test_a_point_has_the_rescaled_rate_the_shapes_quantile_and_all_else_unchanged() -> None:
    known = specs()
    small, large = known["2M-h1"], known["20M-h1"]
    trial = ended(0, 0.3, shape_rank=small["space"]["shape_rank"]["high"], heads_log2=1, dropout=0.25)
    (point,) = warm_start.points(large, small, [trial])
    assert point["shape_rank"] == large["space"]["shape_rank"]["high"]
    assert point["heads_log2"] == large["space"]["heads_log2"]["low"]
    expected = warm_start.rescaled(1e-3, shape_of(small, trial["params"]), shape_of(large, point))
    assert point["learning_rate"] == pytest.approx(expected)
    assert point["learning_rate"] < 1e-3
    assert (point["dropout"], point["batch_size"]) == (0.25, 64)


def test_points_come_best_first_and_at_most_top() -> None:
    known = specs("warm_start.top=2")
    trials = [ended(n, value, shape_rank=n) for n, value in enumerate([0.5, 0.1, 0.4, 0.2])]
    points = warm_start.points(known["20M-h1"], known["2M-h1"], trials)
    places = [known["2M-h1"]["space"]["shape_rank"]["high"], known["20M-h1"]["space"]["shape_rank"]["high"]]
    assert [point["shape_rank"] for point in points] == [round(n / places[0] * places[1]) for n in (1, 3)]


@pytest.mark.parametrize("number", [32, 49])
def test_trials_after_the_search_are_not_carried_over(number: int) -> None:
    """They repeat a configuration of the search, on another seed or fold."""
    known = specs()
    final = ended(number, 0.1, seed=7)
    assert warm_start.points(known["20M-h1"], known["2M-h1"], [final]) == []
    assert warm_start.points(known["20M-h1"], known["2M-h1"], [ended(31, 0.1)]) != []


def test_a_point_that_is_enqueued_already_is_left_out() -> None:
    known = specs()
    large = known["20M-h1"]
    (point,) = warm_start.points(large, known["2M-h1"], [ended(0, 0.3)])
    again = {**large, "enqueue": [*large["enqueue"], point]}
    assert warm_start.points(again, known["2M-h1"], [ended(0, 0.3)]) == []


def test_no_more_points_than_the_search_has_trials_left() -> None:
    known = specs("max_trials=12")  # 6 after the search, 6 to search, 5 of them the plan's own
    trials = [ended(n, 0.1 * n, shape_rank=n) for n in range(6)]
    assert len(warm_start.points(known["20M-h1"], known["2M-h1"], trials)) == 1


def test_a_choice_that_the_larger_space_does_not_offer_is_left_to_be_sampled() -> None:
    known = specs()
    large = json.loads(json.dumps(known["20M-h1"]))
    large["space"]["batch_size"]["choices"] = [128]
    (point,) = warm_start.points(large, known["2M-h1"], [ended(0, 0.3)])
    assert "batch_size" not in point


def test_a_plan_without_warm_start_gets_no_points() -> None:
    known = specs("warm_start=null")
    assert warm_start.points(known["20M-h1"], known["2M-h1"], [ended(0, 0.3)]) == []


@given(rank=st.integers(0, 15), heads=st.integers(1, 5), rate=st.floats(1e-5, 3e-3), pair=st.sampled_from(
    [("2M-h1", "20M-h1"), ("20M-h1", "200M-h1"), ("200M-h1", "2B-h1"), ("2M-h1", "2B-h1")]))  # fmt: skip
def test_every_point_is_in_the_space_of_its_experiment(
    rank: int, heads: int, rate: float, pair: tuple[str, str]
) -> None:
    small, large = (ALL[name] for name in pair)
    rank = min(rank, small["space"]["shape_rank"]["high"])
    (point,) = warm_start.points(large, small, [ended(0, 0.3, shape_rank=rank, heads_log2=heads, learning_rate=rate)])
    for name, value in point.items():
        dimension = large["space"][name]
        if dimension["type"] == "categorical":
            assert value in dimension["choices"]
        else:
            assert dimension["low"] <= value <= dimension["high"]
    assert set(point) == set(large["space"])


ALL = specs()
