"""Test the study as a cache: rebuilt from the store, it continues the search."""

from __future__ import annotations

import shutil

import optuna
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.samplers import RandomSampler
from optuna.storages import InMemoryStorage, JournalStorage
from optuna.storages.journal import JournalFileBackend
from optuna.trial import TrialState

from actors.driver.search import Space
from actors.driver.study import (
    LARGEST_VALUE,
    MAX_SAMPLERS,
    SamplerPerTrial,
    bounded,
    build_study,
    derive_seed,
    distribution,
    open_storage,
    sampler_factory,
)

SPACE = Space(
    {
        "x": {"type": "float", "low": 1e-3, "high": 1.0, "log": True},
        "n": {"type": "int", "low": 0, "high": 8, "log": False, "step": 2},
        "k": {"type": "categorical", "choices": ["a", "b", None]},
    }
)


def row(number, params, end_reason, results, value=None):
    ended = end_reason is not None
    return {
        "number": number, "params": params, "results": results, "end_reason": end_reason, "value": value,
        "state": ("TERMINATED" if value is not None else "ERROR") if ended else "RUNNING", "attempt": 1,
        "checkpoint": None,
    }  # fmt: skip


def open_study(rows, kind="tpe", startup=3, enqueue=()):
    study = build_study(InMemoryStorage(), "s", "min", SPACE.distributions, rows, enqueue)
    study.sampler = SamplerPerTrial(sampler_factory(kind, startup, seed=11))
    return study


def play(rows, until, kind="tpe", startup=3):
    """Run a search of one trial at a time from `rows` to `until` trials; return the rows after it."""
    rows = list(rows)
    study = open_study(rows, kind, startup)
    while len(rows) < until:
        trial = study.ask()
        assert SPACE(trial) == {"sweep": {"number": len(rows)}}
        value = trial.params["x"] + trial.params["n"]
        trial.report(value + 1, 1)
        if trial.params["k"] is None:
            study.tell(trial, state=TrialState.FAIL)
            rows.append(row(trial.number, trial.params, "diverged", [[1, value + 1]]))
        elif trial.params["k"] == "a":
            study.tell(trial, state=TrialState.PRUNED)
            rows.append(row(trial.number, trial.params, "pruned", [[1, value + 1]], value + 1))
        else:
            trial.report(value, 2)
            study.tell(trial, value)
            rows.append(row(trial.number, trial.params, "finished", [[1, value + 1], [2, value]], value))
    return rows


@pytest.mark.parametrize("kind", ["tpe", "random"])
@given(cut=st.integers(1, 11))
@settings(deadline=None, max_examples=6)
def test_an_interrupted_search_draws_what_an_uninterrupted_one_draws(kind, cut):
    whole = play([], 12, kind)
    assert play(play([], cut, kind), 12, kind) == whole


def test_a_draw_reads_the_space_of_the_new_trials_only(monkeypatch):
    """A fresh sampler for each trial would compare every distribution of every trial again."""
    compared, original = [], optuna.distributions.FloatDistribution.__eq__
    monkeypatch.setattr(
        optuna.distributions.FloatDistribution, "__eq__", lambda one, other: compared.append(1) or original(one, other)
    )
    params = {"x": 0.5, "n": 2, "k": "a"}
    study = open_study([row(number, params, "finished", [[1, 0.1]], 0.1) for number in range(60)])
    counts = []
    for _ in range(3):
        compared.clear()
        trial = study.ask()
        SPACE(trial)
        study.tell(trial, 0.2)
        counts.append(len(compared))
    assert counts[0] >= 59, "the first draw compares all: otherwise nothing is tested"
    assert max(counts[1:]) <= 5


def test_a_gaussian_process_is_rebuilt_too():
    whole = play([], 6, "gp")
    assert play(play([], 4, "gp"), 6, "gp") == whole


def test_unfinished_trials_come_back_at_their_own_numbers_before_anything_new():
    """They have their own parameters and come in order; the plan's unused points follow."""
    done = {"x": 0.5, "n": 2, "k": "b"}
    left = {"x": 0.25, "n": 4, "k": "a"}
    rows = [row(0, left, None, [[1, 3.0]]), row(1, done, "finished", [[1, 1.0]], 1.0), row(2, left, None, [])]
    study = open_study(rows, enqueue=[{"x": 0.125}])
    asked = [study.ask() for _ in range(3)]
    for trial in asked:
        SPACE(trial)
    assert [(trial.number, trial.params["x"]) for trial in asked] == [(0, 0.25), (2, 0.25), (3, 0.125)]


def test_every_end_has_its_state_and_none_is_left_running():
    params = {"x": 0.5, "n": 2, "k": "b"}
    ends = ["finished", "early_stopped", "pruned", "diverged", "oom", "error", "operator", "hung"]
    good = {"finished", "early_stopped", "pruned"}
    rows = [row(n, params, end, [[1, 2.0]], 2.0 if end in good else None) for n, end in enumerate(ends)]
    states = [trial.state for trial in open_study(rows).trials]
    assert states == [TrialState.COMPLETE] * 2 + [TrialState.PRUNED] + [TrialState.FAIL] * 5


def test_a_gap_in_the_numbers_is_refused():
    with pytest.raises(ValueError, match="expected trial 0, found 1"):
        open_study([row(1, {}, None, [])])


def test_huge_losses_are_cut():
    assert bounded(1e300) == LARGEST_VALUE
    assert bounded(-1e300) == -LARGEST_VALUE
    assert bounded(0.5) == 0.5
    params = {"x": 0.5, "n": 2, "k": "b"}
    study = open_study([row(0, params, "finished", [[1, 1e300]], 1e300)])
    assert study.trials[0].value == LARGEST_VALUE


def test_a_journal_is_new_at_each_start(tmp_path):
    """An earlier driver's file is deleted, also one with a torn last line."""
    for name in ("s", "s"):
        study = build_study(open_storage(tmp_path), name, "min", SPACE.distributions, [], [])
        assert study.trials == []
        study.ask()
        with (tmp_path / "study.journal").open("a") as journal:
            journal.write('{"op_code": 4, "torn')


@pytest.mark.parametrize("damage", ["deleted", "cut", "grown"])
def test_a_search_continues_when_its_journal_is_damaged(tmp_path, damage):
    """Numbers go on, and the file is whole again for those who look at it."""
    study = build_study(open_storage(tmp_path), "s", "min", SPACE.distributions, [], [])
    file = tmp_path / "study.journal"
    assert study.ask().number == 0
    whole = file.read_bytes()
    if damage == "deleted":
        file.unlink()
    else:
        file.write_bytes(whole[:40] if damage == "cut" else whole + b"{torn")
    assert [study.ask().number for _ in range(2)] == [1, 2]
    seen = optuna.load_study(study_name="s", storage=JournalStorage(JournalFileBackend(str(file))))
    assert [trial.number for trial in seen.trials] == [0, 1, 2]


def test_a_search_continues_when_its_journal_cannot_be_written(tmp_path, caplog):
    """The folder is gone for two trials: that is logged once."""
    folder = tmp_path / "experiment"
    folder.mkdir()
    study = build_study(open_storage(folder), "s", "min", SPACE.distributions, [], [])
    shutil.rmtree(folder)
    assert [study.ask().number for _ in range(2)] == [0, 1]
    found = [record.message for record in caplog.records if "the search continues without it" in record.message]
    assert len(found) == 1
    assert found[0].startswith(f"{folder}/study.journal cannot be written")


def test_seeds_differ_by_trial_and_by_experiment():
    seeds = {derive_seed(seed, number) for seed in range(10) for number in range(100)}
    assert len(seeds) == 1000


@pytest.mark.parametrize("kind", ["Tpe", "", "grid"])
def test_unknown_kinds_are_refused(kind):
    with pytest.raises(ValueError, match="tpe, gp or random"):
        sampler_factory(kind, 1, 1)
    with pytest.raises(ValueError, match="float, int or categorical"):
        distribution({"type": kind})


def test_tpe_models_the_parameters_together():
    """The plan says tpe and means Optuna 5's multivariate one; another default would change searches silently."""
    rows = play([], 6)
    study = open_study(rows)
    trial = study.ask()
    joint = study.sampler.infer_relative_search_space(study, study.trials[trial.number])
    assert set(joint) == {"x", "n", "k"}


def test_a_trial_has_one_sampler_from_its_begin_to_its_end_and_few_are_kept():
    made = []

    def make(number):
        made.append(number)
        return RandomSampler(seed=number)

    study = open_study([])
    study.sampler = SamplerPerTrial(make)
    assert made == [0], "one finds the space, for all trials"
    made.clear()
    first, second = study.ask(), study.ask()
    for trial in (second, first):
        SPACE(trial)
        study.tell(trial, 1.0)
    assert made == [0, 1]
    for _ in range(2 * MAX_SAMPLERS):
        study.ask()
    assert len(study.sampler._live) == MAX_SAMPLERS
