"""Test the words by which a person names experiments and trials."""

from __future__ import annotations

from pathlib import Path

import pytest

from supervisor.clock import Clock
from supervisor.daemon.target_names import TargetNames
from supervisor.domain import messages
from supervisor.errors import NotFound, UsageError
from supervisor.store.database import Store
from supervisor.store.run_writer import create_run
from supervisor.store.trial_writer import TrialWriter


@pytest.fixture
def store(tmp_path: Path) -> Store:
    """Make three experiments; the first has trials 0 to 11, the second trial 0."""
    store = Store(tmp_path / "sweep.db", Clock())
    specs = [{"name": name, "mode": "min", "max_trials": 20, "concurrency": 1} for name in ("2M-h1", "2M-h3", "2B-h1")]
    create_run(
        store, "r", plan="p", fingerprint="f", source="built-in", plan_text="", hardware={}, data={}, specs=specs
    )
    for name, count in (("2M-h1", 12), ("2M-h3", 1)):
        for number in range(count):
            TrialWriter(store, "r").handle(name, messages.TrialAdded(number, {}, "sampled"))
    return store


def names(store: Store, current: str | None = "2M-h1") -> TargetNames:
    return TargetNames(store, "r", current)


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["2B-h1"], ["2B-h1"]),
        (["2B-h1", "2M-h1"], ["2M-h1", "2B-h1"]),
        (["2M-*"], ["2M-h1", "2M-h3"]),
        (["*-h1", "2M-h3"], ["2M-h1", "2M-h3", "2B-h1"]),
        (["all"], ["2M-h1", "2M-h3", "2B-h1"]),
    ],
)
def test_experiments_are_named_by_name_pattern_or_all_in_the_order_of_the_run(
    store: Store, words: list[str], found: list[str]
) -> None:
    assert [one.experiment for one in names(store).experiments(words)] == found


@pytest.mark.parametrize(
    ("words", "found"),
    [
        (["3"], ["2M-h1/3"]),
        (["2M-h3/0", "1"], ["2M-h1/1", "2M-h3/0"]),
        (["1?"], ["2M-h1/10", "2M-h1/11"]),
        (["2M-*/0"], ["2M-h1/0", "2M-h3/0"]),
        (["2M-h3"], ["2M-h3/0"]),
        (["2M-h3/*", "0"], ["2M-h1/0", "2M-h3/0"]),
    ],
)
def test_trials_are_named_by_number_experiment_and_pattern(store: Store, words: list[str], found: list[str]) -> None:
    assert [str(one) for one in names(store).trials(words)] == found


def test_all_means_each_trial_of_the_run(store: Store) -> None:
    assert len(names(store).trials(["all"])) == 13


def test_a_name_is_exact_also_where_a_pattern_means_it_too(store: Store) -> None:
    found = {str(one): one.exact for one in names(store).trials(["2M-*/0", "2M-h3/0"])}
    assert found == {"2M-h1/0": False, "2M-h3/0": True}
    chosen = {one.experiment: one.exact for one in names(store).experiments(["2M-*", "2M-h1"])}
    assert chosen == {"2M-h1": True, "2M-h3": False}


@pytest.mark.parametrize("words", [["2M-h5"], ["3B-*"], ["2M-h1/0"], ["ALL"], ["0"]])
def test_an_unknown_experiment_is_refused_with_the_names(store: Store, words: list[str]) -> None:
    with pytest.raises(NotFound, match="2M-h1, 2M-h3, 2B-h1"):
        names(store).experiments(words)


@pytest.mark.parametrize("words", [["12"], ["2M-h1/12"], ["2B-h1"], ["2M-h9/0"], ["frob"], ["3?"], ["2M-h1/-1"], ["/"]])
def test_an_unknown_trial_is_refused(store: Store, words: list[str]) -> None:
    with pytest.raises(NotFound):
        names(store).trials(words)


def test_a_bare_number_needs_an_experiment_at_work(store: Store) -> None:
    with pytest.raises(NotFound, match="needs its experiment's name"):
        names(store, None).trials(["3"])


def test_without_a_word_nothing_is_meant(store: Store) -> None:
    with pytest.raises(UsageError):
        names(store).trials([])
    with pytest.raises(UsageError):
        names(store).experiments([])


def test_epochs_are_for_trials_and_trials_for_experiments(store: Store) -> None:
    assert [str(one) for one in names(store).trials_only(["3", "2M-h3/*"])] == ["2M-h1/3", "2M-h3/0"]
    assert [one.trial for one in names(store).trials_only(["2M-h1/1?", "all"])][-1] == 0
    for word in ("2M-h1", "2M-*"):
        with pytest.raises(UsageError, match="expected trials for --epochs, found the experiment") as caught:
            names(store).trials_only(["3", word])
        assert "2M-h1/17" in str(caught.value.remedy)
    assert [str(one) for one in names(store).experiments_only(["2M-*"])] == ["2M-h1", "2M-h3"]
    for word in ("3", "2M-h1/3"):
        with pytest.raises(UsageError, match="expected experiments for --trials, found the trial"):
            names(store).experiments_only(["2M-h3", word])
