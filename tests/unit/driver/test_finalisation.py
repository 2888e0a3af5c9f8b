"""Test finalisation in search and scheduler, unseen by sampler and pruner."""

from __future__ import annotations

import itertools
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from ray.tune.schedulers import FIFOScheduler, TrialScheduler
from ray.tune.search import Searcher

from actors.driver.commands_in_force import CommandsInForce
from actors.driver.scheduler import HardwareAwareScheduler, SchedulerLimits
from actors.driver.trial_registry import TrialRegistry
from actors.trial.checkpoints import CheckpointFolders, Checkpoints
from actors.trial.patchtst import PatchTSTTrainable
from actors.trial.result_keys import OWN_KEY, STEP
from supervisor.domain.checkpoint_schedule import Schedule
from supervisor.domain.command import Action, Command, Origin
from supervisor.domain.finalists import after_search, finalists, known_to_the_search
from supervisor.domain.messages import TrialAdded
from tests.unit.driver.finalisation_stage import Bench, row
from training.best_weights import FILE, read_weights
from training.data.dataset_files import build_dataset
from training.data.imports import import_file
from training.data.manifest import dataset_path


def test_finalisation_waits_for_the_searchs_last_trial(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3)
    bench.search.suggest("s3")
    assert bench.search.suggest("f0") is None
    bench.end("s3", 0.5)
    assert bench.search.suggest("f0") is not None


def test_the_finalisation_gives_the_best_again_on_fresh_seeds_and_then_ends_the_search(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3, 0.5)
    best = bench.sent[1].params
    given = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [config.pop(OWN_KEY)["final"] for config in given] == [True, True]
    assert [{key: value for key, value in config.items() if key != "seed"} for config in given] == [best, best]
    assert given[0]["seed"] != given[1]["seed"]
    assert [(m.number, m.source) for m in bench.sent if isinstance(m, TrialAdded)][4:] == [
        (4, "finalize"), (5, "finalize")
    ]  # fmt: skip
    assert bench.search.suggest("f2") == Searcher.FINISHED


def test_a_driver_ends_before_the_finalisation_when_a_trial_of_the_search_waits_again(tmp_path: Path) -> None:
    """Its search goes on to its end; the next driver has the retried trial, and chooses with it."""
    bench = Bench(tmp_path)
    bench.searched(0.5, None, 0.3)
    bench.in_force.finalisation_held = True
    assert bench.search.suggest("s3") != Searcher.FINISHED
    assert bench.search.suggest("f0") == Searcher.FINISHED
    bench.end("s3", 0.4)
    assert bench.search.suggest("f1") == Searcher.FINISHED
    assert [message.number for message in bench.sent] == [0, 1, 2, 3]


def test_the_sampler_does_not_see_the_finalisation(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3, 0.5)
    bench.search.suggest("f0")
    bench.search.on_trial_result("f0", {STEP: 1, "loss": 0.1})
    bench.end("f0", 0.1)
    assert [trial.value for trial in bench.study()] == [0.4, 0.2, 0.3, 0.5]


@pytest.mark.parametrize("action", [Action.HOLD, Action.PAUSE])
def test_a_hold_keeps_it_back_too(tmp_path: Any, action: Action) -> None:
    bench = Bench(tmp_path)
    bench.searched(0.4, 0.2, 0.3, 0.5)
    bench.in_force.set_operator([Command(action, Origin.OPERATOR, "test")])
    assert bench.search.suggest("f0") is None
    bench.in_force.set_operator([])
    assert bench.search.suggest("f0") is not None


def test_a_new_driver_goes_on_with_the_same_choice_and_seeds(tmp_path: Any) -> None:
    """One finalisation trial has ended and the other was lost: it comes back, as a new attempt, and no other."""
    search = tuple(row(n, value) for n, value in enumerate([0.4, 0.2, 0.3, 0.5]))
    spec = {"max_trials": 6, "finalize": {"top": 1, "seeds": 2}, "mode": "min", "seed": 3}
    params = finalists(spec, search)[0].trials()
    bench = Bench(tmp_path, (*search, row(4, 0.25, **params[4]), row(5, None, None, **params[5])))
    given = bench.search.suggest("f0")
    assert given is not None
    own = {"number": 5, "attempt": 2, "checkpoint": None, "reported": None, "memory": None, "spent": None}
    assert given.pop(OWN_KEY) == {**own, "final": True}
    assert given == params[5]
    assert bench.sent == [], "the daemon knows that trial already"
    assert bench.search.suggest("f1") == Searcher.FINISHED
    assert len(bench.study()) == 4


def test_a_certain_finalist_begins_beside_the_last_trial_of_the_search_and_keeps_its_numbers(tmp_path: Any) -> None:
    bench = Bench(tmp_path, max_trials=8, finalize={"top": 2, "seeds": 2})
    bench.searched(0.4, 0.2, 0.3)
    bench.search.suggest("last")
    early = bench.search.suggest("f0")
    assert early is not None
    assert (early[OWN_KEY]["number"], early["x"]) == (4, bench.sent[1].params["x"])
    bench.search.suggest("f1")
    assert bench.search.suggest("f2") is None, "the last trial may take the other place"
    bench.end("last", 0.1)
    second = bench.search.suggest("f2")
    assert second is not None
    assert (second[OWN_KEY]["number"], second["x"]) == (6, bench.sent[3].params["x"])
    rows = [row(n, value, x=bench.sent[n].params["x"]) for n, value in enumerate([0.4, 0.2, 0.3, 0.1])]
    rows += [row(n, None, None, **bench.sent[n].params) for n in (4, 5)]
    again = Bench(tmp_path, tuple(rows), max_trials=8, finalize={"top": 2, "seeds": 2})
    numbers = {own["number"]: config["x"] for config in map(again.search.suggest, "abcd") for own in [config[OWN_KEY]]}
    assert numbers == {4: early["x"], 5: early["x"], 6: second["x"], 7: second["x"]}


def test_the_winner_walks_forward_once_the_finalisation_has_ended(tmp_path: Any) -> None:
    bench = Bench(tmp_path, max_trials=8, finalize={"top": 1, "seeds": 2, "folds": 2})
    bench.searched(0.4, 0.2, 0.3, 0.5)
    given = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [config["fold"] for config in given] == [2, 2]
    bench.end("f0", 0.1)
    assert bench.search.suggest("w0") is None, "the other could still fail"
    bench.end("f1", 0.3)
    given = [bench.search.suggest("w0"), bench.search.suggest("w1")]
    assert [config.pop(OWN_KEY)["final"] for config in given] == [True, True]
    assert [config["fold"] for config in given] == [1, 1]
    assert [(m.number, m.source) for m in bench.sent[6:]] == [(6, "walk_forward"), (7, "walk_forward")]
    bench.end("w0", 0.7)
    assert bench.search.suggest("w2") == Searcher.FINISHED
    assert len(bench.study()) == 4


def test_a_new_driver_goes_on_in_the_midst_of_the_walk(tmp_path: Any) -> None:
    finalize = {"top": 1, "seeds": 2, "folds": 2}
    spec = {"max_trials": 8, "finalize": finalize, "mode": "min", "seed": 3}
    rows = [row(n, value) for n, value in enumerate([0.4, 0.2, 0.3, 0.5])]
    for number in (4, 5):
        rows.append(row(number, 0.25, **after_search(spec, rows)[number][1]))
    planned = after_search(spec, rows)
    rows += [row(6, 0.7, **planned[6][1]), row(7, None, None, **planned[7][1])]
    bench = Bench(tmp_path, tuple(rows), max_trials=8, finalize=finalize)
    given = bench.search.suggest("w0")
    assert given is not None
    assert (given.pop(OWN_KEY)["number"], given) == (7, planned[7][1])
    assert bench.sent == [], "the daemon knows that trial already"
    assert bench.search.suggest("w1") == Searcher.FINISHED


def aside(number: int, **params: Any) -> dict[str, Any]:
    """Return a trial whose finalisation was set aside, as a driver's begin has it."""
    found = {**row(number, 0.05, **params), "source": "set_aside", "end_reason": "set_aside"}
    (known,) = known_to_the_search({}, [found])
    return known


def test_after_its_finalisation_was_set_aside_a_search_goes_on_and_the_choice_is_made_anew(tmp_path: Any) -> None:
    """Two trials of the search were added; the study counts those that were set aside, and learns nothing of them."""
    rows = [row(n, value) for n, value in enumerate([0.4, 0.2, 0.3, 0.5])]
    rows += [aside(4, x=0.1, seed=1), aside(5, x=0.1, seed=2)]
    bench = Bench(tmp_path, tuple(rows), max_trials=10, set_aside=[4, 5])
    bench.searched(0.1, 0.6)
    assert [(m.number, m.source) for m in bench.sent] == [(6, "sampled"), (7, "sampled")]
    best = bench.sent[0].params["x"]
    given = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [(config.pop(OWN_KEY)["number"], config["x"]) for config in given] == [(8, best), (9, best)]
    assert bench.search.suggest("f2") == Searcher.FINISHED
    assert [trial.value for trial in bench.study()] == [0.4, 0.2, 0.3, 0.5, None, None, 0.1, 0.6]


def test_where_nothing_is_left_to_search_the_choice_is_made_anew_at_once(tmp_path: Any) -> None:
    rows = [row(0, 0.4), row(1, None), row(2, 0.3), row(3, 0.5), aside(4, x=0.1, seed=1), aside(5, x=0.1, seed=2)]
    bench = Bench(tmp_path, tuple(rows), max_trials=8, set_aside=[4, 5])
    given = [bench.search.suggest("f0"), bench.search.suggest("f1")]
    assert [(config.pop(OWN_KEY)["number"], config["x"]) for config in given] == [(6, 0.2), (7, 0.2)]
    assert bench.search.suggest("f2") == Searcher.FINISHED


def test_the_numbers_of_finalists_have_no_gap_where_the_last_trial_of_the_search_is_the_best(tmp_path: Any) -> None:
    """A certain finalist has begun on one seed; its other seed comes before the new first one."""
    bench = Bench(tmp_path, max_trials=8, finalize={"top": 2, "seeds": 2})
    bench.searched(0.4, 0.2, 0.3)
    bench.search.suggest("last")
    bench.search.suggest("f0")
    bench.end("last", 0.1)
    for trial_id in ("f1", "f2", "f3"):
        bench.search.suggest(trial_id)
    assert [message.number for message in bench.sent] == list(range(8))


def test_a_search_of_failures_ends_without_it(tmp_path: Any) -> None:
    bench = Bench(tmp_path)
    bench.searched(None, None, None, None)
    assert bench.search.suggest("f0") == Searcher.FINISHED


def test_without_finalisation_the_search_gives_all_trials(tmp_path: Any) -> None:
    bench = Bench(tmp_path, finalize=None)
    bench.searched(0.4, 0.2, 0.3, 0.5, 0.6, 0.7)
    assert [m.source for m in bench.sent] == ["sampled"] * 6


class Stopper(FIFOScheduler):
    """Would stop every trial at once; keeps its results."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.heard: list[str] = []

    def on_trial_add(self, tune_controller: Any, trial: Any) -> None:
        self.heard.append(f"added {trial.trial_id}")

    def on_trial_result(self, tune_controller: Any, trial: Any, result: Any) -> str:
        self.heard.append(f"result {trial.trial_id}")
        return str(TrialScheduler.STOP)

    def on_trial_complete(self, tune_controller: Any, trial: Any, result: Any) -> None:
        self.heard.append(f"complete {trial.trial_id}")

    on_trial_error = on_trial_remove = on_trial_add


class Known:
    def __init__(self, trial_id: str) -> None:
        self.trial_id = trial_id


@pytest.mark.parametrize(("final", "decision"), [(True, TrialScheduler.CONTINUE), (False, TrialScheduler.STOP)])
def test_the_pruner_judges_trials_of_the_search_and_no_others(final: bool, decision: str) -> None:
    registry, in_force, inner = TrialRegistry("loss", "min", ()), CommandsInForce(), Stopper()
    limits = SchedulerLimits(max_t=9, at_once=SimpleNamespace(now=2, most=2), release_after_s=600.0)
    scheduler = HardwareAwareScheduler(inner, registry, in_force, None, limits, print)  # type: ignore[arg-type]  # nothing is released
    entry = registry.open("t", 4, {}, final=final)
    trial: Any = Known("t")
    scheduler.on_trial_add(None, trial)
    assert scheduler.on_trial_result(None, trial, {STEP: 1, "loss": 0.5}) == decision
    assert entry.pruned is not final
    registry.close("t")
    scheduler.on_trial_complete(None, trial, {STEP: 1, "loss": 0.5})
    scheduler.on_trial_error(None, trial)
    scheduler.on_trial_remove(None, trial)
    assert len(inner.heard) == (0 if final else 5)


@pytest.fixture
def trial_of(tmp_path: Path) -> Callable[..., PatchTSTTrainable]:
    """Make a trial of the built-in trainable, by `final` one that follows the search.

    `room` says that there is memory for copies, `hurried` that its clock makes a checkpoint due before each batch.
    """
    import_file(Path(__file__).parents[1] / "data" / "bars.csv", "TEST", tmp_path, calendar=None)
    build_dataset("TEST", "a25", tmp_path)
    config = {
        "budget": "20k", "horizon": 3, "grid": {"d_model": [16, 32], "n_layers": [1, 2], "n_heads": [2, 4]},
        "shape_rank": 0, "heads_log2": 1, "learning_rate": 1e-3, "dataset": str(dataset_path(tmp_path, "TEST")),
        "seed": 1, "context": 30, "split": {"min_val_windows": 20}, "max_epochs": 3, "device": "cpu",
    }  # fmt: skip

    def make(*, final: bool, room: bool = True, hurried: bool = False, every_s: float = 600.0) -> PatchTSTTrainable:
        kind = type("Trial", (PatchTSTTrainable, CheckpointFolders), {})
        trainable: Any = object.__new__(kind)  # without Ray's constructor, which wants a Ray worker's environment
        trainable.sweep_extended = False
        trainable.sweep_final, trainable.sweep_memory, trainable.sweep_seed, trainable.sweep_number = final, None, 1, 0
        trainable.sweep_gate = SimpleNamespace(wait=lambda: 0.0, heartbeat=None)
        beat: Any = SimpleNamespace(phase=lambda _: None, begin_step=lambda: None)
        clock = partial(next, itertools.count(step=1000)) if hurried else float
        trainable.sweep_checkpoints = Checkpoints(tmp_path / "0", trainable, beat, Schedule(every_s), clock)
        trainable.setup(config)
        if not room:
            trainable._session._has_room = lambda _: False
        return trainable

    return make


def ran(trial: PatchTSTTrainable, *, until: int = 3) -> list[float]:
    """Train to the end of epoch `until`; return the losses."""
    losses: list[float] = []
    while trial.sweep_checkpoints.step < until:
        result = trial.step()
        losses.append(result["val_loss"])
        trial.sweep_checkpoints.end_step(result[STEP], 1.0, ended=result["done"])
    return losses


@pytest.mark.parametrize("room", [True, False])
@pytest.mark.parametrize("hurried", [True, False])
def test_a_finalisation_trial_ends_with_the_weights_of_its_best_epoch(
    tmp_path: Path, trial_of: Callable[..., PatchTSTTrainable], room: bool, hurried: bool
) -> None:
    """Save with any time and memory, also before every batch: that changes no loss."""
    trial = trial_of(final=True, room=room, hurried=hurried)
    losses = ran(trial)
    assert losses == ran(trial_of(final=False))
    kept = read_weights(tmp_path / "0" / FILE)
    assert kept["epoch"] == losses.index(min(losses)) + 1


def test_a_trial_of_the_search_keeps_no_weights(tmp_path: Path, trial_of: Callable[..., PatchTSTTrainable]) -> None:
    ran(trial_of(final=False, every_s=0.0))
    assert sorted(path.name for path in (tmp_path / "0").iterdir()) == ["checkpoint-2.pt", "checkpoint-3.pt"]


def test_a_checkpoint_never_names_weights_that_are_not_there(
    tmp_path: Path, trial_of: Callable[..., PatchTSTTrainable]
) -> None:
    """A worker dies after the best epoch, before it is saved: the next one trains it again, to the same bits."""
    whole = ran(trial_of(final=True))
    first = trial_of(final=True)
    ran(first, until=1)
    first.sweep_checkpoints.save(1)
    lost = ran(first, until=2)  # in the memory of a worker that is gone now
    second = trial_of(final=True)
    assert second.sweep_checkpoints.resume(None, 2, lambda: None) == 1
    assert {path.name for path in (tmp_path / "0").glob("best-*")} == {"best-1.pt"}
    again = ran(second)
    assert again[0] == lost[0]
    assert [whole[0], *again] == whole
    assert read_weights(tmp_path / "0" / FILE)["epoch"] == whole.index(min(whole)) + 1
