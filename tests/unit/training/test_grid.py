"""The grid: exact sizes within tolerance, and two ordinals, every pair of which is an architecture."""

from __future__ import annotations

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from training.errors import GridError
from training.grid import Architecture, Grid, build_grid, grid_of_config, param_count
from training.grid import grid_of as grid_of_settings
from training.model import PatchTST
from training.settings import TrialSettings, parse_budget

WIDTHS = [64, 128, 256, 384, 512, 768, 1024, 1536, 2048]
DEPTHS = [2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64, 96, 128, 160, 180, 192, 256]
LISTS = {"d_model": WIDTHS, "n_layers": DEPTHS, "n_heads": [2, 4, 8, 16, 32]}


def grid_of(budget: str, num_features: int = 25) -> Grid:
    return build_grid(parse_budget(budget), LISTS, num_features, context=80, patch=10, stride=5)


def built_size(architecture: Architecture) -> int:
    """Count the parameters of a model that is built without memory behind them."""
    with torch.device("meta"):
        return sum(parameter.numel() for parameter in PatchTST(architecture).parameters())


@pytest.mark.parametrize("budget", ["2M", "20M", "200M", "2B"])
@pytest.mark.parametrize("every", [30, pytest.param(1, marks=pytest.mark.slow)])
def test_param_count_is_the_built_models_for_the_shapes_of_every_budget(budget: str, every: int) -> None:
    grid = grid_of(budget)
    for rank in range(0, len(grid.shapes), every):
        architecture = grid.architecture(rank, 1)
        assert param_count(architecture) == built_size(architecture)


def test_param_count_does_not_depend_on_heads() -> None:
    grid = grid_of("2M")
    for rank in (0, len(grid.shapes) // 2):
        counts = {built_size(grid.architecture(rank, heads)) for heads in (1, 3, 5)}
        assert len(counts) == 1


@given(
    d_model=st.sampled_from([4, 8, 12, 32]),
    n_layers=st.integers(1, 4),
    ratio=st.integers(1, 4),
    features=st.integers(1, 40),
    patch=st.integers(1, 12),
    scales=st.booleans(),
    data=st.data(),
)
def test_param_count_holds_for_any_window_and_feature_count(
    d_model: int, n_layers: int, ratio: int, features: int, patch: int, scales: bool, data: st.DataObject
) -> None:
    stride = data.draw(st.integers(1, patch))
    context = data.draw(st.integers(patch, 60))
    architecture = Architecture(d_model, n_layers, d_model * ratio, 2, features, context, patch, stride, scales)
    assert param_count(architecture) == sum(p.numel() for p in PatchTST(architecture).parameters())


@pytest.mark.parametrize("budget", ["2M", "20M", "200M", "2B"])
def test_the_grid_has_exactly_the_architectures_within_tolerance(budget: str) -> None:
    grid, target = grid_of(budget), parse_budget(budget)
    assert all(abs(param_count(architecture) - target) <= 0.25 * target for architecture in grid)
    kept = {(shape.d_model, shape.n_layers, shape.d_ff) for shape in grid.shapes}
    for d_model in WIDTHS:
        for n_layers in DEPTHS:
            for ratio in (2, 4):
                size = param_count(Architecture(d_model, n_layers, d_model * ratio, 2, 25, 80, 10, 5))
                assert ((d_model, n_layers, d_model * ratio) in kept) == (abs(size - target) <= 0.25 * target)


def test_rank_orders_shapes_from_deep_and_narrow_to_shallow_and_wide() -> None:
    aspects = [math.log(shape.d_model / shape.n_layers) for shape in grid_of("20M").shapes]
    assert aspects == sorted(aspects)
    assert aspects[0] < aspects[-1]


@pytest.mark.parametrize("budget", ["2M", "20M", "200M", "2B"])
def test_any_pair_of_ordinals_within_the_axes_is_a_distinct_valid_architecture(budget: str) -> None:
    grid = grid_of(budget)
    axes = grid.axes()
    assert set(axes) == {"shape_rank", "heads_log2"}
    found = {
        grid.architecture(rank, heads)
        for rank in range(axes["shape_rank"][0], axes["shape_rank"][1] + 1)
        for heads in range(axes["heads_log2"][0], axes["heads_log2"][1] + 1)
    }
    assert len(found) == len(grid) == len(list(grid))
    assert all(architecture.d_model % architecture.n_heads == 0 for architecture in found)


@pytest.mark.parametrize(("rank", "heads"), [(-1, 1), (10_000, 1), (0, 0), (0, 6)])
def test_an_ordinal_outside_the_axes_is_refused(rank: int, heads: int) -> None:
    with pytest.raises(GridError, match="lies outside"):
        grid_of("2M").architecture(rank, heads)


def test_heads_that_do_not_divide_every_width_are_left_out() -> None:
    lists = {"d_model": [12, 24], "n_layers": [1, 2, 3, 4], "n_heads": [2, 4, 8], "tolerance": 0.9}
    grid = build_grid(10_000, lists, 25, 80, 10, 5)
    assert {shape.d_model for shape in grid.shapes} == {12, 24}
    assert grid.heads == (2, 4)


def test_a_grid_without_common_heads_says_which_widths_disagree() -> None:
    with pytest.raises(GridError, match=r"divides every d_model of \[15\]"):
        build_grid(8_000, {"d_model": [15], "n_layers": [1, 2, 3], "n_heads": [2, 4]}, 25, 80, 10, 5)


def test_an_empty_grid_names_the_nearest_sizes() -> None:
    with pytest.raises(GridError, match="the nearest have") as caught:
        build_grid(5_000_000, {"d_model": [8, 16], "n_layers": [1, 2], "n_heads": [2]}, 25, 80, 10, 5)
    assert "16 x 2 layers" in str(caught.value)
    assert "tolerance" in caught.value.remedy


@pytest.mark.parametrize(("scales", "inputs"), [(False, 10), (True, 11)])
def test_each_further_feature_costs_one_patch_of_embedding_weights_and_one_for_its_scale(
    scales: bool, inputs: int
) -> None:
    twenty = Architecture(64, 2, 128, 2, num_features=20, context=80, patch=10, stride=5, scales=scales)
    twenty_five = Architecture(64, 2, 128, 2, num_features=25, context=80, patch=10, stride=5, scales=scales)
    assert param_count(twenty_five) - param_count(twenty) == 5 * inputs * 64


@pytest.mark.parametrize("normalisation", ["revin", "revin_scale", "zscore"])
def test_an_experiments_grid_is_that_of_its_trials_for_every_normalisation(normalisation: str) -> None:
    """Both count the weights of the scales, which only revin_scale has."""
    config = {"budget": "2M", "grid": LISTS, "normalisation": normalisation}
    rest = {"horizon": 1, "shape_rank": 0, "heads_log2": 1, "learning_rate": 1e-3, "dataset": "x", "seed": 1}
    grid = grid_of_config(config, 25)
    assert grid == grid_of_settings(TrialSettings.from_config({**config, **rest}), 25)
    assert grid.scales == (normalisation == "revin_scale")
    assert all(param_count(shape) == built_size(shape) for shape in (grid.architecture(0, 1), grid.architecture(3, 2)))
