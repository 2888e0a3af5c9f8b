"""A trial's flat config is checked: every unknown or bad value is named with its cure."""

from __future__ import annotations

import pickle
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from training.errors import SettingsError
from training.settings import KNOWN_KEYS, TrialSettings, derive_seed, parse_budget


def config(**changes: Any) -> dict[str, Any]:
    return {
        "budget": "20k",
        "horizon": 1,
        "grid": {"d_model": [8, 16], "n_layers": [1, 2], "n_heads": [2, 4]},
        "shape_rank": 0,
        "heads_log2": 1,
        "learning_rate": 1e-3,
        "dataset": "x.parquet",
        "seed": 1,
        **changes,
    }


def test_a_minimal_config_takes_the_documented_defaults() -> None:
    settings = TrialSettings.from_config(config())
    assert (settings.context, settings.patch, settings.stride) == (80, 10, 5)
    assert settings.normalisation == "revin_scale"  # for any tier, and it keeps the level of volatility
    assert settings.grid.d_ff_ratio == (2, 4)
    assert settings.budget_params == 20_000


def test_known_keys_are_exactly_the_fields() -> None:
    assert set(TrialSettings.__dataclass_fields__) == KNOWN_KEYS


def test_an_unknown_key_is_named_with_its_nearest_neighbour() -> None:
    with pytest.raises(SettingsError, match="learning_rat ") as caught:
        TrialSettings.from_config(config(learning_rat=1))
    assert caught.value.key == "learning_rat"
    assert "Did you mean learning_rate?" in caught.value.remedy


def test_an_unknown_nested_key_is_named_with_its_path() -> None:
    with pytest.raises(SettingsError) as caught:
        TrialSettings.from_config(config(target={"prize": "high"}))
    assert caught.value.key == "target.prize"
    assert "target.price" in caught.value.remedy


@pytest.mark.parametrize(
    ("key", "value", "named"),
    [
        ("budget", "2 million", "budget"),
        ("budget", 20_000, "budget"),
        ("horizon", 0, "horizon"),
        ("horizon", 1.5, "horizon"),
        ("horizon", True, "horizon"),
        ("learning_rate", 0, "learning_rate"),
        ("learning_rate", float("nan"), "learning_rate"),
        ("learning_rate", "fast", "learning_rate"),
        ("dropout", 1.0, "dropout"),
        ("batch_size", 0, "batch_size"),
        ("normalisation", "minmax", "normalisation"),
        ("device", "tpu", "device"),
        ("compile", 1, "compile"),
        ("dataset", "", "dataset"),
        ("seed", -1, "seed"),
        ("grid", [8], "grid"),
        ("grid", {"d_model": [], "n_layers": [1], "n_heads": [2]}, "grid.d_model"),
        ("grid", {"d_model": [8, 8], "n_layers": [1], "n_heads": [2]}, "grid.d_model"),
        ("grid", {"d_model": [8], "n_layers": [1], "n_heads": [2, 8]}, "grid.n_heads"),
        ("grid", {"d_model": [8], "n_layers": [1], "n_heads": [3]}, "grid.n_heads"),
        ("grid", {"d_model": [8], "n_layers": [1]}, "grid.n_heads"),
        ("context", 5, "context"),
        ("stride", 11, "stride"),
        ("horizon", 6, "split.purge"),
        ("split", {"train_fraction": 0.9, "val_fraction": 0.1}, "split.train_fraction"),
        ("split", {"kind": "random"}, "split.kind"),
        ("split", {"kind": "folds", "folds": 1}, "split.folds"),
        ("fold", 1, "fold"),
        ("target", {"threshold": 0}, "target.threshold"),
        ("memory_limit_bytes", 0, "memory_limit_bytes"),
    ],
)
def test_a_bad_value_is_refused_by_name_with_a_cure(key: str, value: object, named: str) -> None:
    with pytest.raises(SettingsError) as caught:
        TrialSettings.from_config(config(**{key: value}))
    assert caught.value.key == named
    assert caught.value.remedy


def test_a_fold_is_one_of_its_split() -> None:
    split = {"kind": "folds"}
    assert [TrialSettings.from_config(config(split=split, fold=fold)).fold for fold in (None, 1, 3)] == [None, 1, 3]
    with pytest.raises(SettingsError, match="no such fold"):
        TrialSettings.from_config(config(split=split, fold=4))


@pytest.mark.parametrize("missing", ["budget", "horizon", "grid", "learning_rate", "dataset", "seed"])
def test_a_missing_key_is_named(missing: str) -> None:
    incomplete = config()
    del incomplete[missing]
    with pytest.raises(SettingsError, match="missing") as caught:
        TrialSettings.from_config(incomplete)
    assert caught.value.key == missing


def test_whole_floats_pass_as_integers_since_samplers_give_them() -> None:
    assert TrialSettings.from_config(config(batch_size=32.0)).batch_size == 32


def test_errors_can_be_pickled() -> None:
    error = SettingsError("key", 3, "a cause", "a cure")
    again = pickle.loads(pickle.dumps(error))
    assert (str(again), again.key, again.remedy) == (str(error), "key", "a cure")


@pytest.mark.parametrize(
    ("text", "params"), [("20k", 20_000), ("2M", 2_000_000), ("1.5B", 1_500_000_000), ("200", 200), ("2m", 2_000_000)]
)
def test_budgets_are_parsed(text: str, params: int) -> None:
    assert parse_budget(text) == params


@pytest.mark.parametrize("text", ["", "M", "2T", "-2M", "0", "1e6", "200B"])
def test_an_invalid_budget_is_refused(text: str) -> None:
    with pytest.raises(SettingsError):
        parse_budget(text)


@given(st.integers(0, 2**40), st.integers(0, 10**6))
def test_seeds_repeat_and_neighbouring_trials_differ(run_seed: int, trial: int) -> None:
    seed = derive_seed(run_seed, trial)
    assert seed == derive_seed(run_seed, trial)
    assert 0 <= seed < 2**48
    assert len({seed, derive_seed(run_seed, trial + 1), derive_seed(run_seed + 1, trial)}) == 3
