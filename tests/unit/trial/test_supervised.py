"""A user's trainable under supervision, without Ray running."""

from __future__ import annotations

import errno
import os
import weakref
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from ray import tune

import actors.trial.supervised
from actors.trial.checkpoints import Checkpoints
from actors.trial.gate import Leave
from actors.trial.patchtst import PatchTSTTrainable
from actors.trial.result_keys import CHECKPOINT, END, ERROR, LEFT, OUT_OF_MEMORY, OWN_KEY, SMALLER, STEP, Whereabouts
from actors.trial.supervised import supervise
from actors.trial.user_class import can_be_reused
from actors.trial.user_code import resolve
from supervisor.errors import PlanError
from training.errors import DoesNotFit
from training.memory import MemoryLimit


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
    """A supervised Counts after its setup, without Ray."""
    kind = supervise(Counts)
    made = kind.__new__(kind)
    Counts.setup(made, {})
    made.folder, made.sweep_number = tmp_path / "0", 0
    made.checkpoints = Checkpoints(made.folder, made, SimpleNamespace(phase=lambda _: None))
    return made


def test_a_class_may_call_its_own_setup_when_it_is_reused(trial):
    """As most reset_config() methods do: the user's setup runs, with the user's config and nothing else."""
    trial.setup({"x": 1})
    assert trial.begun == 2


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
def test_an_unknown_trainable_is_refused_with_the_missing_part(name, message):
    with pytest.raises(PlanError, match=message):
        resolve(name)


def test_a_trainable_is_found_by_its_name():
    assert resolve("ray.tune:Trainable") is tune.Trainable


def test_only_functions_of_one_argument_and_trainable_classes_are_taken():
    with pytest.raises(PlanError, match="must take one argument"):
        supervise(two_arguments)
    with pytest.raises(PlanError, match=r"not a ray\.tune\.Trainable"):
        supervise(dict)
    assert issubclass(supervise(function), tune.Trainable)


def test_a_worker_is_reused_where_the_class_says_how():
    assert can_be_reused(supervise(function))
    assert can_be_reused(supervise(Reusable))
    assert not can_be_reused(supervise(Counts))


class Resets(Counts):
    def reset(self, new_config, storage=None):
        return new_config["taken"]


def test_a_worker_that_takes_a_trial_over_says_where_it_runs():
    """So that the driver need not ask: a round trip for each trial."""
    kind = supervise(Resets)
    made = kind.__new__(kind)
    made.sweep_whereabouts = lambda: Whereabouts("node", 7)
    assert made.reset({"taken": True}, storage=None) == Whereabouts("node", 7)
    assert made.reset({"taken": False}) is False
    assert bool(Whereabouts()), "Tune takes the answer for True"


# --- memory that runs out --------------------------------------------------------------------------------------------


class Block:
    """Takes all memory."""


class Blocks(Counts):
    """Each step holds a large block while it works, and then whatever `then` does."""

    def then(self):
        """Nothing."""

    def step(self):
        block = Block()
        self.block = weakref.ref(block)
        self.then()
        return {"loss": 1.0}

    def sweep_release(self):
        self.block_at_release = self.block()

    def sweep_smaller(self):
        return None if self.sweep_memory == {"windows": 1} else {"windows": 1}


@pytest.fixture
def blocks(tmp_path):
    kind = supervise(Blocks)
    made = kind.__new__(kind)
    Counts.setup(made, {})
    made._step, made.sweep_number, made._failure, made.sweep_metric = 0, 0, None, "loss"
    made.sweep_gate = SimpleNamespace(wait=lambda: 0.0, close=lambda: None, waited_s=0.0)
    made._heartbeat = SimpleNamespace(
        phase=lambda phase: None, begin_step=lambda: None, end_step=lambda: None, drop=lambda: None
    )
    made._last_step, made._leaves = None, False
    made.sweep_checkpoints = made._checkpoints_in(tmp_path / "0", 600.0)
    return made


def raising(error):
    def then():
        # A fresh one: an error that somebody holds on to holds its traceback's frames.
        raise type(error)(*error.args)

    return then


@pytest.mark.parametrize(
    "error",
    [
        torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB"),
        RuntimeError("MPS backend out of memory (MPS allocated: 17.9 GB)"),
        RuntimeError("CUDA error: out of memory"),
        RuntimeError("CUDA error: CUBLAS_STATUS_ALLOC_FAILED when calling `cublasCreate(handle)`"),
        RuntimeError("[enforce fail at alloc_cpu.cpp:124] . DefaultCPUAllocator: can't allocate memory: you tried"),
        MemoryError(),
        OSError(errno.ENOMEM, os.strerror(errno.ENOMEM)),
        DoesNotFit(5, 3),
    ],
    ids=lambda error: f"{type(error).__name__}-{str(error)[:12]}",
)
def test_memory_that_ran_out_leads_to_an_attempt_that_takes_less(blocks, error):
    """On CUDA, MPS and CPU; the step's memory is free before the trainable is asked to free the rest."""
    blocks.then, blocks._step = raising(error), 3
    result = blocks.step()
    assert (result[LEFT], result[STEP], result[SMALLER]) == (True, 3, {"windows": 1})
    assert type(error).__name__ in result[OUT_OF_MEMORY]
    assert "done" not in result
    assert blocks.block_at_release is None


def test_memory_that_ran_out_ends_the_trial_without_a_smaller_offer(blocks):
    blocks.then, blocks.sweep_memory = raising(MemoryError()), {"windows": 1}
    assert (blocks.step()[END], blocks.step()["done"]) == ("oom", True)


@pytest.mark.parametrize("offer", [7, {"windows": object()}])
def test_an_offer_of_the_wrong_type_fails_its_trial_before_memory_runs_out(blocks, offer):
    """The error names the cause; the offer never reaches the driver."""
    blocks.sweep_smaller = lambda: offer
    new = {"checkpoint": None, "reported": None}
    assert "TypeError" in blocks._prepared(new, lambda: None)[ERROR]
    del blocks.sweep_smaller
    assert blocks._prepared(new, lambda: None) is None


def failing(*_):
    raise ValueError("half built")


def test_a_trainable_that_cannot_offer_less_memory_ends_with_oom(blocks):
    """As after a setup() that ran out: nothing of its own was set yet. Tune would take it for a dead worker."""
    blocks.then, blocks.sweep_smaller = raising(MemoryError()), failing
    result = blocks.step()
    assert (result[END], result["done"]) == ("oom", True)
    assert "half built" not in result[ERROR]


def test_a_trial_that_cannot_be_saved_as_it_leaves_ends_with_that_error(blocks):
    """A trial that cannot be saved after a step ends so, too."""
    blocks.then, blocks.save_checkpoint = raising(Leave()), failing
    result = blocks.step()
    assert (result[END], result["done"]) == ("error", True)
    assert "half built" in result[ERROR]


def test_another_error_ends_the_trial_as_before(blocks):
    blocks.then = raising(ValueError("a bug"))
    result = blocks.step()
    assert (result[END], result["done"]) == ("error", True)


def test_a_trial_that_leaves_in_its_first_epoch_says_where_it_saved_itself(blocks, tmp_path):
    """Nothing of that epoch is lost."""
    blocks.then = raising(Leave())
    blocks.count = 5
    result = blocks.step()
    assert result[CHECKPOINT] == str(tmp_path / "0" / "checkpoint-0")
    blocks.count = 0
    blocks.sweep_checkpoints.resume(Path(result[CHECKPOINT]), 0, lambda: None)
    assert (blocks.count, blocks.sweep_checkpoints.resumed_step) == (5, 0)


def test_a_trial_that_is_asked_to_leave_saves_itself_before_its_next_step(blocks, tmp_path):
    blocks.step()
    blocks.sweep_leave()
    result = blocks.step()
    assert (result[LEFT], result[STEP], result[CHECKPOINT]) == (True, 1, str(tmp_path / "0" / "checkpoint-1"))


def test_an_attempt_with_nothing_left_to_try_prepares_nothing_and_reports_its_end(blocks, tmp_path, monkeypatch):
    monkeypatch.setattr(
        actors.trial.supervised.ray, "get_runtime_context", lambda: SimpleNamespace(get_node_id=lambda: "n")
    )
    monkeypatch.setattr(actors.trial.supervised, "prefer_for_oom", lambda: None)
    monkeypatch.setattr(actors.trial.supervised, "dump_on_signal", lambda folder: None)
    printed = []
    monkeypatch.setattr(actors.trial.supervised, "PRINTS", SimpleNamespace(begin=printed.append, mend=lambda: None))
    blocks.config, prepared = {}, []
    own = {
        "experiment": "e",
        "number": 2,
        "metric": "loss",
        "attempt": 4,
        "seed": 1,
        "final": False,
        "checkpoint": None,
        "reported": None,
        "checkpoint_every_s": 600.0,
        "last_step": None,
        "memory": {"windows": 1},
    }
    files = {"folder": str(tmp_path / "e"), "gate": str(tmp_path / "gate")}
    blocks._begin({OWN_KEY: {**own, **files, "spent": "the kernel killed it"}}, prepared.append)
    assert (blocks.step()[END], blocks.step()[ERROR]) == ("oom", "the kernel killed it")
    assert prepared == []
    assert printed == [tmp_path / "e" / "2" / "attempt-4.log"]


# --- the built-in trainable ------------------------------------------------------------------------------------------


def session_like(smaller):
    return SimpleNamespace(smaller=lambda: smaller, close=lambda: None)


@pytest.fixture
def patchtst():
    kind = supervise(PatchTSTTrainable)
    return kind.__new__(kind)


def test_the_built_in_trainable_offers_its_sessions_smaller_settings(patchtst):
    patchtst._session = session_like(MemoryLimit(16))
    assert patchtst.sweep_smaller() == {"micro_batch": 16, "checkpoint_activations": False}
    patchtst._session = session_like(None)
    assert patchtst.sweep_smaller() is None


def test_a_session_that_could_not_be_built_is_built_once_more_alone(patchtst):
    assert patchtst.sweep_smaller() == {"alone": True}
    patchtst.sweep_memory = {"micro_batch": 4, "checkpoint_activations": False}
    assert patchtst.sweep_smaller() == {**patchtst.sweep_memory, "alone": True}
    patchtst.sweep_memory = patchtst.sweep_smaller()
    assert patchtst._limit() == MemoryLimit(4)
    assert patchtst.sweep_smaller() is None
