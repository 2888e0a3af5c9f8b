"""What is done to a user's trainable, as far as it can be seen without Ray running."""

from __future__ import annotations

from types import SimpleNamespace

import pytest
from ray import tune

from actors.supervised import KEEP_CHECKPOINTS, can_be_reused, resolve, supervise
from supervisor.errors import PlanError


class Counts(tune.Trainable):
    """Saves a dict; remembers how often it was begun."""

    def setup(self, config):
        self.count, self.begun = 0, getattr(self, "begun", 0) + 1

    def save_checkpoint(self, checkpoint_dir):
        return {"count": self.count}

    def load_checkpoint(self, checkpoint):
        self.count = checkpoint["count"]


class Reusable(Counts):
    def reset_config(self, new_config):
        return True


def function(config):
    """A function trainable."""


def two_arguments(config, more):
    """Not one."""


@pytest.fixture
def trial(tmp_path):
    """A supervised Counts as it stands after its setup, without Ray around it."""
    kind = supervise(Counts)
    made = kind.__new__(kind)
    Counts.setup(made, {})
    made._folder, made._step, made.sweep_number = tmp_path / "0", 0, 0
    made._resumed_step, made._unusable = None, []
    made.sweep_gate, made._beat = SimpleNamespace(may_be_released=False), SimpleNamespace(phase=lambda phase: None)
    return made


def test_a_class_may_call_its_own_setup_when_it_is_reused(trial):
    """As most reset_config() methods do: the user's setup runs, with the user's config and nothing else."""
    trial.setup({"x": 1})
    assert trial.begun == 2


def save(trial, *steps):
    paths = []
    for step in steps:
        trial._step = trial.count = step
        paths.append(trial._save())
    return paths


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("objective", "not of the form package.module:attribute"),
        ("no_such_module_here:f", "cannot import no_such_module_here"),
        ("json:no_such", "json has no 'no_such'"),
        ("json:__doc__", "neither a function nor a class"),
        ("json:decoder.no_such", "has no 'decoder.no_such'"),
    ],
)
def test_a_trainable_that_cannot_be_is_refused_with_what_is_missing(name, message):
    with pytest.raises(PlanError, match=message):
        resolve(name)


def test_a_trainable_is_found_by_its_name():
    assert resolve("ray.tune:Trainable") is tune.Trainable


def test_only_functions_of_one_argument_and_trainable_classes_are_taken():
    with pytest.raises(PlanError, match="must take one argument"):
        supervise(two_arguments)
    with pytest.raises(PlanError, match=r"no ray\.tune\.Trainable"):
        supervise(dict)
    assert issubclass(supervise(function), tune.Trainable)


def test_a_worker_is_reused_where_the_class_says_how():
    assert can_be_reused(supervise(function))
    assert can_be_reused(supervise(Reusable))
    assert not can_be_reused(supervise(Counts))


def test_the_newest_checkpoints_are_kept_and_named_by_their_step(trial):
    save(trial, 1, 2, 10)
    assert [step for step, _ in trial._kept()] == [2, 10]
    assert len(trial._kept()) == KEEP_CHECKPOINTS


def test_saving_a_step_again_takes_the_place_of_the_first(trial):
    save(trial, 1)
    trial.count = 7
    [path] = [trial._save()]
    trial._resume(path, lambda: None)
    assert trial.count == 7


def test_a_trial_goes_on_from_its_checkpoint(trial):
    [path] = save(trial, 4)
    trial._step = trial.count = 0
    trial._resume(path, lambda: None)
    assert (trial.count, trial._step, trial._resumed_step) == (4, 4, 4)


def test_checkpoints_beyond_the_one_that_was_committed_are_not_used(trial):
    """The daemon never heard of them: their epochs run again and are reported."""
    first, _ = save(trial, 1, 2)
    trial._resume(first, lambda: None)
    assert (trial.count, trial._step) == (1, 1)


def test_a_damaged_checkpoint_costs_epochs_and_not_the_trial(trial):
    """The one before it is used, by a trial that is begun anew; with none left it starts from nothing."""
    first, second = save(trial, 1, 2)
    (second / "state.pickle").write_bytes(b"torn")
    trial._resume(second, lambda: Counts.setup(trial, {}))
    assert (trial.count, trial._step, trial.begun) == (1, 1, 2)
    assert (trial._resumed_step, trial._unusable) == (1, [str(second)])
    (first / "state.pickle").write_bytes(b"")
    trial._step = 0
    trial._resume(second, lambda: Counts.setup(trial, {}))
    assert (trial.count, trial._step, trial.begun) == (0, 0, 4)


def test_a_checkpoint_that_is_gone_costs_epochs_and_not_the_trial(trial, tmp_path):
    trial._resume(tmp_path / "0" / "checkpoint-3", lambda: None)
    assert trial._step == 0
    assert (trial._resumed_step, trial._unusable) == (None, [str(tmp_path / "0" / "checkpoint-3")])
