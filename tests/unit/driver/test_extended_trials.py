"""A trial that trains on runs beside the study and the pruner, which know it as it had ended."""

from __future__ import annotations

from typing import Any

import pytest
from ray.tune.schedulers import TrialScheduler

from actors.driver.pruner import pruner, replay
from actors.driver.search import extended_trials
from actors.driver.trial_registry import TrialRegistry
from actors.trial.result_keys import END, ERROR, OWN_KEY, STEP
from supervisor.domain.finalists import SOURCE
from supervisor.domain.lifecycle import EndReason
from supervisor.domain.messages import TrialAdded
from supervisor.domain.trials.extension import as_searched
from tests.unit.driver.finalisation_stage import Bench, row
from tests.unit.driver.scheduler_bench import Bench as SchedulerBench
from tests.unit.driver.scheduler_bench import Scripted


def extension(**changes: Any) -> dict[str, Any]:
    return {
        "epochs": 6, "more": 6, "last_step": 8, "anew": False, "end_reason": "pruned", "value": 0.5, "failed": False,
        "finishing": False, "judged": 2, **changes,
    }  # fmt: skip


def going_on(number: int) -> dict[str, Any]:
    """Return the row of a trial that trains on; two drivers ago it was pruned after its second epoch."""
    results = [[1, 0.7], [2, 0.5], [3, 0.1]]
    return {**row(number, None, None, x=0.3), "results": results, "checkpoint": "/runs/checkpoint-3.pt"}


def stage(folder: Any, found: dict[str, Any] | None = None, **changes: Any) -> Bench:
    kept = found or extension()
    trials = (row(0, 0.4), going_on(1))
    spec = {"trainable": "mine:train", "max_epochs": 4, "extended": {"1": kept}, **changes}
    return Bench(folder, trials, **spec)


def test_it_comes_first_from_its_checkpoint_under_its_own_number_and_the_study_knows_its_old_end(tmp_path: Any) -> None:
    bench = stage(tmp_path)
    given = bench.search.suggest("t1")
    own = given[OWN_KEY]
    assert (own["number"], own["attempt"], own["last_step"], own["extended"]) == (1, 2, 8, True)
    assert (own["checkpoint"], own["reported"], given["x"]) == ("/runs/checkpoint-3.pt", 3, 0.3)
    study = bench.study()
    assert [trial.state.name for trial in study] == ["COMPLETE", "PRUNED"]
    assert study[1].intermediate_values == {1: 0.7, 2: 0.5}
    assert bench.search.suggest("t2")[OWN_KEY]["number"] == 2
    assert [message.number for message in bench.sent if isinstance(message, TrialAdded)] == [2]


def test_nothing_of_it_reaches_the_study_and_the_next_driver_learns_its_value(tmp_path: Any) -> None:
    bench = stage(tmp_path)
    bench.search.suggest("t1")
    before = len(bench.study())
    for step in (4, 5):
        bench.search.on_trial_result("t1", {STEP: step, "loss": 0.05})
    bench.end("t1", 0.05)
    assert len(bench.study()) == before
    assert [trial.state.name for trial in bench.study()] == ["COMPLETE", "PRUNED"]
    ended = {**going_on(1), "state": "TERMINATED", "end_reason": "finished", "value": 0.05}
    later = Bench(tmp_path, (row(0, 0.4), ended), extended={"1": extension()}, trainable="mine:train")
    assert [trial.value for trial in later.study()] == [0.4, 0.05]


def test_the_finalisation_waits_for_it_and_takes_its_value(tmp_path: Any) -> None:
    bench = stage(tmp_path, max_trials=4)
    bench.search.suggest("t1")
    assert bench.search.suggest("f0") is None
    bench.end("t1", 0.05)
    found = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [config["x"] for config in found] == [0.3, 0.3]
    assert [message.source for message in bench.sent] == [SOURCE, SOURCE]


def test_if_it_fails_the_finalisation_chooses_by_the_end_that_it_had(tmp_path: Any) -> None:
    bench = stage(tmp_path, extension(value=0.2, end_reason="finished"), max_trials=4)
    bench.search.suggest("t1")
    bench.search.on_trial_complete("t1", None, error=True)
    bench.registry.close("t1")
    assert bench.search.suggest("f0")["x"] == 0.3


@pytest.mark.parametrize(("trainable", "config"), [("mine:train", {}), ("patchtst", {"max_epochs": 8, "patience": 8})])
def test_the_built_in_trainable_gets_its_new_end_and_no_early_stop(trainable: str, config: dict[str, int]) -> None:
    (found,) = extended_trials({"trainable": trainable, "extended": {"1": extension()}}, [row(0, 0.4), going_on(1)])
    assert found.config == config


def test_a_search_that_was_asked_to_finish_before_lets_it_train_on(tmp_path: Any) -> None:
    for finishing, ends in ((True, False), (False, True)):
        bench = stage(tmp_path, extension(finishing=finishing), finish_asked=True)
        bench.search.suggest("t1")
        search_end = bench.in_force.search_end
        search_end.take(bench.spec)
        entry = bench.registry.entry("t1")
        assert search_end.ends(entry, {STEP: 4, "loss": 0.1}, "loss") is ends
        search_end.take({"ending": {"1": "ann"}})
        assert search_end.ends(entry, {STEP: 4, "loss": 0.1}, "loss"), "a person may end it"


def test_the_pruner_judges_none_of_its_epochs_and_keeps_those_that_it_judged() -> None:
    inner = Scripted(TrialScheduler.STOP)
    bench = SchedulerBench(inner)
    bench.registry.open("t", 0, {}, extension=extension())
    trial = bench.controller.start("t")
    trial.stopping_criterion = {STEP: 4}
    bench.scheduler.on_trial_add(bench.controller, trial)
    assert trial.stopping_criterion == {STEP: 8}
    assert bench.result(trial, 5, 9.0) == TrialScheduler.CONTINUE
    bench.scheduler.on_trial_complete(bench.controller, trial, {STEP: 8, "loss": 9.0})
    assert inner.asked == []
    asha = pruner({"kind": "asha", "max_t": 8, "grace_period": 1, "reduction_factor": 2}, "loss", "min")
    replay(asha, [as_searched({"extended": {"1": extension()}}, going_on(1))], "loss")
    rungs = {milestone: dict(recorded) for milestone, recorded in asha._brackets[0]._rungs}
    assert {milestone: list(recorded.values()) for milestone, recorded in rungs.items() if recorded} == {
        1: [-0.7], 2: [-0.5],
    }  # fmt: skip


@pytest.mark.parametrize(
    ("mode", "before", "value", "kept"), [("min", 0.5, 0.4, 0.4), ("min", 0.3, 0.4, 0.3), ("max", 0.3, 0.4, 0.4)]
)
def test_its_value_is_the_best_of_both_lives(mode: str, before: float, value: float, kept: float) -> None:
    registry = TrialRegistry("loss", mode, [])
    registry.open("t", 0, {}, extension=extension(value=before))
    registry.note("t", {STEP: 5, "loss": value})
    assert registry.verdict("t", {}).value == kept
    assert registry.verdict("t", {END: EndReason.FINISHED.value}).value == kept
    failed = registry.verdict("t", {END: EndReason.OOM.value, ERROR: "no memory"})
    assert (failed.end_reason, failed.value) == ("oom", None), "the daemon keeps the old end"
