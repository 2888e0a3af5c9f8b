"""Expanding a plan into experiments: order, names, overrides, grids, enqueued points, fingerprints."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from supervisor.domain.trials.extension import with_extension, with_failed_extension
from supervisor.errors import PlanError
from supervisor.plan.expansion import ExperimentSpec, expand, fingerprint
from supervisor.plan.loader import load_plan, parse_plan
from supervisor.plan.schema import Plan

ONE_BLOCK, FOLDS = "config.split={kind: contiguous}", "config.split={kind: folds}"
FEATURES = 25


def plan_of(**changes: Any) -> Plan:
    base: dict[str, Any] = {
        "name": "mine",
        "trainable": "m:f",
        "matrix": {"size": ["small", "large"], "depth": [1, 2]},
        "config": {"steps": 3},
        "space": {
            "x": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
            "n": {"type": "int", "low": 1, "high": 10, "step": 3},
        },
        "max_trials": 4,
        "max_epochs": 9,
    }
    return parse_plan(json.dumps(base | changes), "mine.yaml").plan


def test_experiments_come_in_order_with_the_first_axis_slowest() -> None:
    assert [spec.name for spec in expand(plan_of())] == ["small-d1", "small-d2", "large-d1", "large-d2"]
    names = [spec.name for spec in expand(load_plan("phase6a").plan, FEATURES)]
    assert names[:4] == ["2M-h1", "2M-h3", "2M-h5", "20M-h1"]
    assert len(names) == 12


def test_a_plan_without_a_matrix_is_one_experiment_of_its_name() -> None:
    (spec,) = expand(plan_of(matrix={}))
    assert (spec.name, spec.cell) == ("mine", {})


def test_a_users_config_is_its_constants_and_its_cell() -> None:
    spec = expand(plan_of())[0]
    assert spec.config == {"steps": 3, "size": "small", "depth": 1}


def test_the_json_of_a_spec_has_the_keys_that_the_driver_reads() -> None:
    spec = expand(plan_of(enqueue=[{"x": 0.1}], pruner={"kind": "asha"}))[3]
    dumped = spec.model_dump(mode="json")
    seed = dumped.pop("seed")
    assert isinstance(seed, int)
    assert dumped == {
        "name": "large-d2",
        "cell": {"size": "large", "depth": 2},
        "trainable": "m:f",
        "config": {"steps": 3, "size": "large", "depth": 2},
        "space": {
            "x": {"type": "float", "low": 0.01, "high": 1.0, "log": True},
            "n": {"type": "int", "low": 1, "high": 10, "log": False, "step": 3},
        },
        "metric": "val_loss",
        "metric_at": "start",
        "mode": "min",
        "max_trials": 4,
        "max_epochs": 9,
        "max_hours": None,
        "stop": None,
        "duplicates": "reuse",
        "concurrency": 1,
        "auto_concurrency": False,
        "resources": {"auto": False, "cpu": 1.0, "gpu": 0.0, "nested": []},
        "sampler": {"kind": "tpe", "startup_trials": 10},
        "enqueue": [{"x": 0.1}],
        "pruner": {"kind": "asha", "grace_period": 1, "reduction_factor": 3.0, "max_t": 9},
        "finalize": None,
        "warm_start": None,
        "max_failures": 3,
        "checkpoint_every_s": 600.0,
    }


@pytest.mark.parametrize("name", ["smoke", "phase6a", "phase6a-mini"])
def test_a_spec_survives_json(name: str) -> None:
    specs = expand(load_plan(name).plan, FEATURES, "/data/x.parquet")
    again = [ExperimentSpec.model_validate(json.loads(spec.model_dump_json())) for spec in specs]
    assert again == specs


def test_the_spec_of_an_experiment_whose_trial_was_extended_is_read_again() -> None:
    (spec, *_) = expand(plan_of())
    fields = {
        "trial": 3, "epochs": 6, "last_step": 10, "after": 4, "anew": False, "end_reason": "pruned", "value": 0.5,
    }  # fmt: skip
    extended = with_extension(spec.model_dump(mode="json"), fields)
    assert ExperimentSpec.model_validate(extended).extended["3"]["last_step"] == 10
    assert ExperimentSpec.model_validate(with_failed_extension(extended, 3)).extended["3"]["failed"] is True


def test_the_training_room_accepts_every_config_of_a_built_in_plan() -> None:
    from training.settings import TrialSettings

    for name in ("smoke", "phase6a", "phase6a-mini"):
        for spec in expand(load_plan(name).plan, FEATURES, "/data/x.parquet"):
            for end in ("low", "high"):
                params = {
                    key: getattr(dimension, end, None) if dimension.type != "categorical" else dimension.choices[0]
                    for key, dimension in spec.space.items()
                }
                trial = TrialSettings.from_config({**spec.config, **params, "seed": 1})
                assert trial.max_epochs == spec.max_epochs
                assert trial.threads == int(spec.resources.cpu)


def test_the_grids_of_phase6a_have_the_specified_sizes() -> None:
    specs = expand(load_plan("phase6a").plan, FEATURES, globs=["*-h1"])
    sizes = [spec.space["shape_rank"].model_dump()["high"] + 1 for spec in specs]
    assert sizes == [16, 15, 25, 15]
    assert all(spec.space["heads_log2"].model_dump()["high"] == 5 for spec in specs)


def test_the_extremes_of_a_grid_are_enqueued() -> None:
    for spec in expand(load_plan("phase6a").plan, FEATURES):
        ranks = [point["shape_rank"] for point in spec.enqueue]
        assert {0, spec.space["shape_rank"].model_dump()["high"]} <= set(ranks)


def test_a_grid_needs_the_datasets_width() -> None:
    with pytest.raises(PlanError, match="number of features"):
        expand(load_plan("smoke").plan)


def test_an_empty_grid_is_reported_with_the_nearest_sizes() -> None:
    plan = load_plan("smoke", ["matrix.budget=[20M]"]).plan
    with pytest.raises(PlanError, match="the nearest have") as caught:
        expand(plan, FEATURES)
    assert caught.value.remedy is not None


def test_overrides_merge_mappings_and_replace_the_rest_and_later_ones_win() -> None:
    plan = plan_of(
        resources={"cpu": 2, "gpu": 1, "nested": [{"cpu": 3}]},
        pruner={"kind": "median"},
        overrides=[
            {"when": {"size": "large"}, "set": {"config": {"extra": 1}, "resources": {"cpu": 4}, "max_trials": 7}},
            {"when": {"size": ["small", "large"], "depth": 2}, "set": {"pruner": {"kind": "none"}, "max_trials": 9}},
        ],
    )
    small1, small2, large1, large2 = expand(plan)
    assert (small1.max_trials, small2.max_trials, large1.max_trials, large2.max_trials) == (4, 9, 7, 9)
    assert large1.config == {"steps": 3, "extra": 1, "size": "large", "depth": 1}
    assert large1.resources.model_dump() == {
        "auto": False,
        "cpu": 4.0,
        "gpu": 1.0,
        "nested": ({"cpu": 3.0, "gpu": 0.0},),
    }
    assert (small1.resources.all_cpu, large1.resources.all_cpu) == (5.0, 7.0)
    assert (large1.pruner.kind, large2.pruner.kind, small1.pruner.kind) == ("median", "none", "median")


def test_only_matches_any_axis_value_and_globs_match_names() -> None:
    plan = load_plan("phase6a").plan
    assert {spec.cell["horizon"] for spec in expand(plan, FEATURES, only="2M")} == {1, 3, 5}
    assert {spec.cell["budget"] for spec in expand(plan, FEATURES, only="3")} == {"2M", "20M", "200M", "2B"}
    assert [spec.name for spec in expand(plan, FEATURES, globs=["2?-h1", "200M-h?"])] == [
        "2M-h1", "200M-h1", "200M-h3", "200M-h5", "2B-h1",
    ]  # fmt: skip
    assert [spec.name for spec in expand(plan, FEATURES, only="20M-h5")] == ["20M-h5"]


@pytest.mark.parametrize(
    "chosen", [{"only": "3M"}, {"globs": ["x*"]}, {"globs": ["2M-*", "x*"]}, {"only": "2M", "globs": ["2B-*"]}]
)
def test_a_selection_that_matches_nothing_lists_the_choices(chosen: dict[str, Any]) -> None:
    with pytest.raises(PlanError) as caught:
        expand(load_plan("phase6a").plan, FEATURES, **chosen)
    assert caught.value.remedy is not None
    assert "2M" in caught.value.remedy


def test_a_single_selected_experiment_equals_the_one_in_the_whole_plan() -> None:
    plan = load_plan("phase6a").plan
    everything = {spec.name: spec for spec in expand(plan, FEATURES)}
    assert expand(plan, FEATURES, globs=["200M-h3"]) == [everything["200M-h3"]]
    assert len({spec.seed for spec in everything.values()}) == 12, "no two share a seed"


def test_dependent_settings_shrink_with_epochs_and_trials() -> None:
    plan = load_plan("phase6a", ["max_trials=2", "max_epochs=1", "concurrency=4", ONE_BLOCK]).plan
    for spec in expand(plan, FEATURES):
        assert spec.finalize is not None
        assert (spec.finalize.top, spec.finalize.seeds) == (1, 1)
        assert len(spec.enqueue) == 1
        assert spec.concurrency == 2
        if spec.pruner.kind == "asha":
            assert (spec.pruner.grace_period, spec.pruner.max_t) == (1, 1)


@pytest.mark.parametrize(
    ("max_trials", "expected"), [(50, (4, 3)), (24, (4, 3)), (12, (2, 3)), (6, (1, 3)), (5, (1, 2)), (2, (1, 1))]
)
def test_finalisation_takes_at_most_half_of_the_trials(max_trials: int, expected: tuple[int, int]) -> None:
    spec = expand(load_plan("phase6a", [f"max_trials={max_trials}", ONE_BLOCK]).plan, FEATURES)[0]
    assert spec.finalize is not None
    assert (spec.finalize.top, spec.finalize.seeds, spec.finalize.folds) == (*expected, 1)


@pytest.mark.parametrize(
    ("max_trials", "expected"), [(50, (4, 3)), (24, (2, 3)), (12, (1, 2)), (6, (1, 1)), (5, (1, 1)), (4, (1, 1))]
)
def test_walk_forward_counts_too_and_the_search_keeps_a_trial(max_trials: int, expected: tuple[int, int]) -> None:
    spec = expand(load_plan("phase6a", [f"max_trials={max_trials}", FOLDS]).plan, FEATURES)[0]
    assert spec.finalize is not None
    assert (spec.finalize.top, spec.finalize.seeds, spec.finalize.folds) == (*expected, 3)
    left = max_trials - spec.finalize.seeds * (spec.finalize.top + 2)
    assert 1 <= left == spec.phases[0]
    assert len(spec.enqueue) == min(5, left)


@pytest.mark.parametrize(("split", "max_trials"), [(ONE_BLOCK, 1), (FOLDS, 3)])
def test_too_few_trials_are_all_the_searchs(split: str, max_trials: int) -> None:
    spec = expand(load_plan("phase6a", [f"max_trials={max_trials}", split]).plan, FEATURES)[0]
    assert spec.finalize is None


def test_folds_are_patchtsts_alone() -> None:
    spec = expand(plan_of(finalize={"top": 1, "seeds": 1}, config={"split": {"kind": "folds"}}))[0]
    assert spec.finalize is not None
    assert spec.finalize.folds == 1


def test_an_override_can_remove_finalisation() -> None:
    overrides = [{"when": {"size": "large"}, "set": {"finalize": None}}]
    specs = expand(plan_of(finalize={"top": 1, "seeds": 2}, overrides=overrides))
    assert {spec.cell["size"]: spec.finalize is not None for spec in specs} == {"small": True, "large": False}


def test_a_point_that_leaves_a_parameter_out_may_be_written_twice() -> None:
    """Each is a draw of its own; a whole point is the same trial."""
    enqueue = [{"n": 4}, {"n": 4}, {"n": 4, "x": 0.5}, {"n": 4, "x": 0.5}]
    space = {"n": {"type": "int", "low": 1, "high": 10}, "x": {"type": "float", "low": 0, "high": 1}}
    (spec,) = expand(plan_of(matrix={}, overrides=[], space=space, enqueue=enqueue))
    assert spec.enqueue == ({"n": 4}, {"n": 4}, {"n": 4, "x": 0.5})


def test_two_quantiles_of_a_short_axis_are_enqueued_once() -> None:
    points = [{"n": {"quantile": place}} for place in (0, 0.01, 0.5, 1)]
    spec = expand(plan_of(enqueue=points))[0]
    assert spec.enqueue == ({"n": 1}, {"n": 7}, {"n": 10})


def test_an_enqueued_rank_outside_a_grid_is_refused() -> None:
    plan = load_plan("smoke", ["enqueue=[{shape_rank: 999}]"]).plan
    with pytest.raises(PlanError, match=r"enqueue\.0\.shape_rank: 999 is outside"):
        expand(plan, FEATURES)


@given(
    low=st.floats(1e-6, 1e3),
    factor=st.floats(1.001, 1e4),
    log=st.booleans(),
    quantile=st.floats(0, 1),
    first=st.integers(-50, 50),
    span=st.integers(0, 100),
    step=st.integers(1, 7),
)
def test_a_quantile_is_always_a_value_of_its_dimension(
    low: float, factor: float, log: bool, quantile: float, first: int, span: int, step: int
) -> None:
    space = {
        "x": {"type": "float", "low": low, "high": low * factor, "log": log},
        "n": {"type": "int", "low": first, "high": first + span, "step": step},
    }
    point = {"x": {"quantile": quantile}, "n": {"quantile": quantile}}
    spec = expand(plan_of(space=space, matrix={}, enqueue=[point]))[0]
    assert low <= spec.enqueue[0]["x"] <= low * factor  # type: ignore[operator]
    value = spec.enqueue[0]["n"]
    assert isinstance(value, int)
    assert value in range(first, first + span + 1, step)


def test_a_fingerprint_changes_only_with_settings_that_decide_results() -> None:
    plan = plan_of()
    base = fingerprint(plan, expand(plan))
    assert len(base) == 64
    assert fingerprint(plan_of(), expand(plan_of())) == base
    for same in ({"description": "other words"}, {"hardware": {"min_off_s": 60}}):
        assert fingerprint(plan_of(**same), expand(plan_of(**same))) == base
    differing: list[dict[str, Any]] = [{"seed": 1}, {"max_trials": 5}, {"config": {"steps": 4}}, {"name": "other"}]
    for other in differing:
        assert fingerprint(plan_of(**other), expand(plan_of(**other))) != base
    assert fingerprint(plan, expand(plan, only="small")) != base


def test_a_fingerprint_is_the_same_in_a_home_that_was_moved() -> None:
    """The data's own hash is part of it; of the dataset's path only the name is."""
    plan = load_plan("smoke").plan

    def of(path: str) -> str:
        return fingerprint(plan, expand(plan, num_features=25, dataset=path), "ab" * 32)

    assert of("/here/data/processed/SPY.parquet") == of("/there/else/data/processed/SPY.parquet")
    assert of("/here/data/processed/SPY.parquet") != of("/here/data/processed/DIA.parquet")


# --- patchtst plans -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("argument", "key", "said", "remedy"),
    [
        ("config.contxt=60", "config.contxt", "unknown key", "did you mean context?"),
        ("space.droput={type: float, low: 0, high: 0.1}", "space.droput", "unknown key", "did you mean dropout?"),
        ("config.seed=3", "config.seed", "cannot be set here", "remove it"),
        ("config.dataset=x", "config.dataset", "cannot be set here", "remove it"),
        ("config.patch=banana", "config.patch", "not a whole number", "1 to 5000"),
        ("config.split.purge=0", "config.split.purge", "purge", None),
        ("config.normalisation=zscroe", "config.normalisation", "zscroe", "zscore"),
        ("space.dropout.high=1.5", "space.dropout", "out of range", None),
        ("space.batch_size.choices=[64, 0]", "space.batch_size", "batch_size", None),
        ("matrix.budget=[20x]", "matrix.budget", "not a parameter count", "20k"),
        ("matrix.horizon=[9]", "config.split.purge", "labels look 9 days ahead", "largest horizon"),
        ("space.shape_rank.axis=heads_log2", "space.shape_rank.axis", "needs a parameter of that name", None),
        ("data=null", "data", "needs data", "ticker"),
    ],
)
def test_a_patchtst_plan_is_checked_by_the_training_rooms_rules(
    argument: str, key: str, said: str, remedy: str | None
) -> None:
    with pytest.raises(PlanError) as caught:
        load_plan("smoke", [argument])
    assert caught.value.key == key
    assert said in caught.value.message
    assert remedy is None or (caught.value.remedy is not None and remedy in caught.value.remedy)


def test_a_plan_that_standardises_inputs_which_grow_with_the_price_is_refused() -> None:
    asked = ["config.normalisation=zscore", "data.tier=a25"]
    with pytest.raises(PlanError, match="tier a25 has inputs that grow with the price") as caught:
        load_plan("smoke", asked)
    assert caught.value.key == "config.normalisation"
    assert "s28" in str(caught.value.remedy)
    assert load_plan("smoke", [asked[0], "data.tier=s28"]).plan.config["normalisation"] == "zscore"
    assert load_plan("smoke", ["config.normalisation=revin", asked[1]]).plan.config["normalisation"] == "revin"


def test_the_example_in_docs_expands() -> None:
    from pathlib import Path

    loaded = load_plan(Path(__file__).parents[3] / "docs" / "examples" / "quadratic.yaml")
    assert [spec.name for spec in expand(loaded.plan)] == ["m1", "m4"]
    assert loaded.folder is not None
    assert (loaded.folder / "quadratic.py").is_file()


@pytest.mark.parametrize(
    ("sets", "expected"),
    [
        ([], (True, True, 1.0, 0.0)),
        (["concurrency=3"], (False, True, 1.0, 0.0)),
        (["resources.cpu=2"], (True, False, 2.0, 0.0)),
        (["resources.gpu=1"], (True, True, 1.0, 1.0)),
        (["resources={cpu: 2}", "concurrency=2"], (False, False, 2.0, 0.0)),
    ],
)
def test_auto_stays_auto_until_a_number_is_given(sets: list[str], expected: tuple[bool, bool, float, float]) -> None:
    (spec,) = expand(load_plan("smoke", sets).plan, FEATURES, "/data/x.parquet", only="20k")
    assert (spec.auto_concurrency, spec.resources.auto, spec.resources.cpu, spec.resources.gpu) == expected
    assert spec.is_open == (expected[0] or expected[1])


def test_a_plan_without_a_stop_has_the_fingerprint_that_it_had_before_there_was_one() -> None:
    plan = plan_of()
    dumped = expand(plan)[0].model_dump(mode="json")
    assert dumped["stop"] is None
    stopping = plan_of(stop={"plateau": 20})
    assert fingerprint(stopping, expand(stopping)) != fingerprint(plan, expand(plan))


def test_a_plan_that_reuses_duplicates_has_the_fingerprint_that_it_had_before_it_could_say_so() -> None:
    plan = plan_of()
    assert expand(plan)[0].duplicates == "reuse"
    training = plan_of(duplicates="train")
    assert fingerprint(training, expand(training)) != fingerprint(plan, expand(plan))
    assert fingerprint(plan_of(duplicates="reuse"), expand(plan)) == fingerprint(plan, expand(plan))
