"""Test that a driver's work for a trial does not grow with the trials that have ended: by counts, never by times."""

from __future__ import annotations

import pytest
from ray.tune.experiment import Trial
from ray.tune.schedulers import FIFOScheduler

from actors.driver import after_search
from actors.driver.after_search import AfterSearch
from actors.driver.trial_registry import Entry, Verdict
from actors.trial.result_keys import STEP
from supervisor.domain.lifecycle import PLATEAU, EndReason
from tests.unit.driver.finalisation_stage import Bench as SearchBench
from tests.unit.driver.scheduler_bench import Bench


class Looked(list):
    """A list of trials that counts those that are looked at."""

    count = 0

    def __iter__(self):
        for trial in super().__iter__():
            self.count += 1
            yield trial


def in_tunes_lists(bench, trial):
    """Put a trial where Tune has it, and let Tune return its own list as it does."""
    bench.controller._trials.append(trial)
    bench.controller._live_trials.add(trial)
    bench.controller._trial_metadata[trial.trial_id] = "{}"
    bench.controller.get_trials = lambda: bench.controller._trials


def end(bench, trial, status=Trial.TERMINATED):
    """End a trial as Tune does: the scheduler hears of it first."""
    if status == Trial.TERMINATED:
        bench.scheduler.on_trial_complete(bench.controller, trial, {STEP: 1, "loss": 0.5})
    else:
        bench.scheduler.on_trial_error(bench.controller, trial)
    trial.status = status
    bench.controller._live_trials.discard(trial)
    bench.controller._stopped_trials.add(trial)
    del bench.controller._trial_to_actor[trial]
    bench.registry.close(trial.trial_id)


@pytest.mark.parametrize("status", [Trial.TERMINATED, Trial.ERROR])
def test_a_round_looks_at_no_trial_that_has_ended(status):
    bench = Bench(FIFOScheduler())
    bench.controller._trials = Looked()
    for number in range(50):
        trial = bench.trial(f"t{number}", number)
        in_tunes_lists(bench, trial)
        end(bench, trial, status)
        bench.choose()
    running = bench.trial("running", 50)
    in_tunes_lists(bench, running)
    bench.controller._trials.count = 0
    bench.choose()
    assert 0 < bench.controller._trials.count <= 10
    assert list(bench.controller._trials) == [running]
    assert not bench.controller._stopped_trials | bench.controller._failed_trials
    assert list(bench.controller._trial_metadata) == ["running"]


def test_a_trial_that_goes_on_after_its_workers_death_stays_in_tunes_lists():
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    in_tunes_lists(bench, trial)
    bench.scheduler.on_trial_error(bench.controller, trial)
    trial.status = Trial.PENDING
    bench.choose()
    assert bench.controller._trials == [trial]
    bench.scheduler.on_trial_add(bench.controller, trial)
    trial.status = Trial.RUNNING
    end(bench, trial)
    bench.choose()
    assert bench.controller._trials == []


def test_a_trial_that_has_ended_stays_in_tunes_lists_while_it_has_its_worker():
    bench = Bench(FIFOScheduler())
    trial = bench.trial("a")
    in_tunes_lists(bench, trial)
    bench.scheduler.on_trial_complete(bench.controller, trial, {STEP: 1, "loss": 0.5})
    trial.status = Trial.TERMINATED
    bench.choose()
    assert bench.controller._trials == [trial]
    del bench.controller._trial_to_actor[trial]
    bench.choose()
    assert bench.controller._trials == []


def test_rays_search_keeps_no_trial_that_has_ended(tmp_path):
    bench = SearchBench(tmp_path)
    bench.searched(0.4, None, 0.3)
    bench.search.suggest("s3")
    assert list(bench.search._inner._ot_trials) == ["s3"]
    assert len(bench.study()) == 4


@pytest.fixture
def asked(monkeypatch):
    """The rules that were asked, each of which looks at all trials, in order."""
    asked = []
    for name in ("after_search", "trials_in_all", "why_stop"):
        rule = getattr(after_search, name)
        monkeypatch.setattr(after_search, name, lambda *facts, rule=rule, name=name: asked.append(name) or rule(*facts))
    return asked


FINALIZE = {"top": 2, "seeds": 1}


def searched(follow, number, value):
    follow.search_gave(number)
    follow.note(Entry(number, {"x": number}, 1), Verdict(EndReason.FINISHED, value, None))


def test_what_follows_the_search_is_found_anew_only_when_a_trial_has_begun_or_ended(asked):
    follow = AfterSearch({"mode": "min", "max_trials": 12, "finalize": FINALIZE, "seed": 3}, [])
    for number in range(10):
        searched(follow, number, 0.1 * number)
    assert follow.search_is_given()
    assert all(follow.waits() for _ in range(50))
    assert asked == ["trials_in_all"]
    assert [follow.take()[0], follow.take()[0]] == [10, 11]
    assert not any(follow.waits() for _ in range(50))
    assert not any(follow.take() for _ in range(50))
    assert asked == ["trials_in_all", "after_search", "after_search", "trials_in_all", "after_search"]


def test_why_a_search_stops_is_asked_anew_only_when_a_trial_has_ended_or_the_plan_has_changed(asked):
    stop = {"value": None, "plateau": 3, "improvement": 0.0}
    sizes = {"max_trials": 12, "finalize": FINALIZE}
    follow = AfterSearch({"mode": "min", "seed": 3, "stop": stop, **sizes}, [])
    for number in range(4):
        searched(follow, number, 0.5)
        assert {follow.why_stop() for _ in range(20)} == ({PLATEAU} if number == 3 else {None})
        assert asked == ["why_stop"] * (number + 1)
    assert follow.take_spec({"stop": None, **sizes})
    assert follow.why_stop() is None
