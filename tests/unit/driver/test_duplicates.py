"""Configurations that a search has tried: drawn anew, or told again; never trained twice. No Ray running."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution
from optuna.samplers import RandomSampler
from ray.tune.search import Searcher

from actors.driver.duplicates import DRAWS, FreshDraws, Tried, tried_before
from actors.driver.study import SamplerPerTrial, sampler_factory
from actors.trial.result_keys import OWN_KEY, STEP
from supervisor.domain.messages import TrialAdded, TrialDuplicated
from tests.unit.driver.test_search import Bench, row
from tests.unit.driver.test_study import SPACE, open_study

GRID = {"n": {"type": "int", "low": 0, "high": 3, "step": 1, "log": False}}


@pytest.fixture
def bench(tmp_path):
    return lambda trials=(), **changes: Bench(tmp_path, trials, **{"duplicates": "reuse", **changes})


def finish(b, trial_id, *values, pruned=False, cut=False):
    """Report these values and end the trial, as Tune does."""
    b.report(trial_id, *values)
    entry = b.registry.entry(trial_id)
    entry.pruned, entry.cut = pruned, cut
    b.search.on_trial_complete(trial_id, {STEP: len(values), "loss": values[-1]})
    b.registry.close(trial_id)


def searched(b, most=100):
    """Run a search to its end, one trial at a time; return the params that were trained."""
    trained = []
    for asked in range(most):
        config = b.search.suggest(str(asked))
        if config == Searcher.FINISHED:
            return trained
        if config is not None:
            config.pop(OWN_KEY)
            trained.append(config)
            finish(b, str(asked), 9.0, float(sum(config.values())))
    raise AssertionError(f"the search gave no end after {most} questions")


@pytest.mark.parametrize("kind", ["random", "tpe", "gp"])
def test_a_small_space_is_trained_once_and_its_search_ends(bench, kind):
    b = bench(space=GRID, max_trials=9, sampler={"kind": kind, "startup_trials": 2})
    trained = searched(b)
    assert sorted(config["n"] for config in trained) == [0, 1, 2, 3]
    added = [message.number for message in b.link.sent if isinstance(message, TrialAdded)]
    repeats = [message for message in b.link.sent if isinstance(message, TrialDuplicated)]
    assert sorted([*added, *(message.number for message in repeats)]) == list(range(9))
    numbers = {config["n"]: number for config, number in zip(trained, added, strict=True)}
    assert [message.of for message in repeats] == [numbers[message.params["n"]] for message in repeats]
    ends = [(trial.state.name, trial.value, trial.intermediate_values) for trial in b.study()]
    assert ends == [("COMPLETE", float(t.params["n"]), {1: 9.0, 2: float(t.params["n"])}) for t in b.study()]


def test_a_configuration_that_was_pruned_is_told_pruned_with_the_known_reports(bench):
    b = bench(enqueue=[{"x": 0.25}, {"x": 0.25}])
    b.search.suggest("a")
    finish(b, "a", 3.0, 4.0, pruned=True)
    assert b.search.suggest("b") is None
    assert b.link.sent[1:] == [TrialDuplicated(1, {"x": 0.25}, "enqueued", 0)]
    [first, second] = b.study()
    assert (second.state, second.value, second.intermediate_values) == (first.state, 4.0, {1: 3.0, 2: 4.0})
    assert second.state.name == "PRUNED"


@pytest.mark.parametrize("end", ["failed", "ended by a person", "at work"])
def test_only_a_trial_with_the_value_of_all_its_epochs_is_reused(bench, end):
    b = bench(enqueue=[{"x": 0.25}, {"x": 0.25}])
    b.search.suggest("a")
    if end == "failed":
        b.search.on_trial_complete("a", error=True)
    elif end == "ended by a person":
        finish(b, "a", 3.0, cut=True)
    assert b.search.suggest("b") is not None
    assert b.link.sent[-1] == TrialAdded(1, {"x": 0.25}, "enqueued")


@pytest.mark.parametrize("said", [{"duplicates": "train"}, {"duplicates": None}])
def test_a_plan_that_repeats_measurements_trains_each(bench, said):
    b = bench(enqueue=[{"x": 0.25}, {"x": 0.25}], **said)
    b.search.suggest("a")
    finish(b, "a", 3.0)
    assert b.search.suggest("b") is not None


def test_a_new_driver_knows_what_was_tried_and_what_was_told_again(bench):
    results = [(1, 3.0), (2, 4.0)]
    first = row(0, "TERMINATED", "pruned", 3.0, results)
    again = {**row(1, "TERMINATED", "pruned", 3.0), "attempt": 0, "duplicate_of": 0}
    waiting = {**row(2, "PENDING"), "attempt": 0}
    b = bench([first, again, waiting])
    states = [(trial.state.name, trial.value, trial.intermediate_values) for trial in b.study()[:2]]
    assert states == [("PRUNED", 4.0, {1: 3.0, 2: 4.0})] * 2
    assert b.search.suggest("a") is None
    assert b.link.sent == [TrialDuplicated(2, {"x": 0.5}, "sampled", 0)]


def test_a_trial_that_has_begun_goes_on_also_as_a_duplicate(bench):
    b = bench([row(0, "TERMINATED", "finished", 3.0, [(1, 3.0)]), row(1)])
    assert b.search.suggest("a")[OWN_KEY]["attempt"] == 2
    assert b.link.sent == []


def test_a_trial_that_a_person_ended_or_extended_counts_for_no_other():
    trials = [{**row(number, "TERMINATED", "finished", 1.0), "params": {"x": number}} for number in range(3)]
    spec = {"duplicates": "reuse", "ending": {"0": "ann"}, "extended": {"1": {"epochs": 3}}}
    tried = tried_before(spec, {"x": FloatDistribution(-1.0, 9.0)}, trials)
    assert [tried.of({"x": number}) for number in range(3)] == [None, None, 2]


class Scripted(RandomSampler):
    """Draws these values of `n`, one after the other, and counts its draws."""

    def __init__(self, values):
        super().__init__()
        self.values, self.draws = list(values), 0

    def sample_independent(self, study, trial, param_name, param_distribution):
        self.draws += 1
        return self.values[min(self.draws, len(self.values)) - 1]


@pytest.mark.parametrize(
    ("values", "found", "draws"),
    [([7], 7, 1), ([1, 2, 1, 7, 8], 7, 4), ([1] * 99, 1, DRAWS), ([*[1] * (DRAWS - 1), 7], 7, DRAWS)],
)
def test_what_was_tried_or_is_at_work_is_drawn_anew_and_not_for_ever(values, found, draws):
    space = {"n": IntDistribution(0, 9)}
    tried, inner = Tried(space), Scripted(values)
    tried.begin({"n": 1})
    tried.begin({"n": 2})
    tried.end({"n": 2}, 0, counts=True)
    study = open_study([])
    study.sampler = FreshDraws(inner, tried)
    assert study.ask(space).params == {"n": found}
    assert inner.draws == draws


def test_where_nothing_is_left_to_draw_one_draw_is_enough():
    space = {"k": CategoricalDistribution([True, 1.5]), "n": IntDistribution(4, 4)}
    tried = Tried(space)
    assert tried.leaves_any()
    tried.end({"k": True, "n": 4}, 0, counts=True)
    tried.begin({"k": 1.5, "n": 4})
    assert not tried.leaves_any()
    inner, study = Scripted([True]), open_study([])
    study.sampler = FreshDraws(inner, tried)
    assert study.ask(space).params == {"k": True, "n": 4}
    assert inner.draws == 1
    tried.end({"k": 1.5, "n": 4}, 1, counts=False)
    assert tried.leaves_any()


@pytest.mark.parametrize("kind", ["tpe", "random", "gp"])
def test_a_first_draw_that_is_fresh_is_the_draw_of_the_sampler_alone(kind):
    def drawn(wrap):
        study = open_study([], kind, 3)
        sampler = SamplerPerTrial(sampler_factory(kind, 3, seed=11))
        study.sampler = FreshDraws(sampler, Tried(SPACE.distributions)) if wrap else sampler
        found = []
        for place in range(7):
            if place == 5:
                study.enqueue_trial({"n": 4})
            trial = study.ask()
            SPACE(trial)
            study.tell(trial, trial.params["x"] + trial.params["n"])
            found.append(trial.params)
        return found

    assert drawn(wrap=True) == drawn(wrap=False)


@given(st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=30))
@settings(deadline=None)
def test_the_first_trial_with_a_value_counts_and_only_those_at_work_are_at_work(ends):
    tried, values, at_work = Tried({"n": IntDistribution(0, 3), "x": FloatDistribution(0.0, 1.0)}), {}, set()
    for number, (n, is_over, counts) in enumerate(ends):
        params = {"n": n, "x": 0.5}
        if n in at_work:
            continue
        tried.begin(params)
        at_work.add(n)
        if is_over:
            tried.end(params, number, counts=counts)
            at_work.discard(n)
            if counts:
                values.setdefault(n, number)
    assert {n: tried.of({"n": n, "x": 0.5}) for n in range(4)} == {n: values.get(n) for n in range(4)}
    assert [tried.has({"n": n, "x": 0.5}) for n in range(4)] == [n in values or n in at_work for n in range(4)]
    assert not tried.has({"n": 0, "x": math.nextafter(0.5, 1.0)})
