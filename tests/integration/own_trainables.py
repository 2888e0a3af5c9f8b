"""Trainables as their authors write them, for test_own_trials.py; workers import them by name."""

from __future__ import annotations

import json
import os
import sys
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np
import ray
import torch
from ray import tune
from ray.tune import Checkpoint


def _saved(epoch):
    folder = tempfile.mkdtemp()
    Path(folder, "state.pickle").write_text(json.dumps({"epoch": epoch}))
    return Checkpoint.from_directory(folder)


def keeps(config):
    """Save every `every` epochs in a file named as ours; go on from it if `resumes`; die once in epoch `dies`."""
    done = 0
    checkpoint = tune.get_checkpoint()
    if checkpoint and config["resumes"]:
        with checkpoint.as_directory() as folder:
            done = json.loads(Path(folder, "state.pickle").read_text())["epoch"]
    for epoch in range(done + 1, 9):
        flag = Path(config["diary"]).with_suffix(f".died-{config['x']}")
        if epoch == config["dies"] and not flag.exists():
            flag.touch()
            os._exit(1)
        with Path(config["diary"]).open("a") as diary:
            diary.write(f"{config['x']} {epoch}\n")
        time.sleep(config["pace_s"])
        saved = _saved(epoch) if epoch % config["every"] == 0 else None
        tune.report({"loss": 100.0 - epoch}, checkpoint=saved)


class Money(float):
    """A number of a user's own that cannot be pickled, compared or printed."""

    def __reduce__(self):
        raise TypeError("not to be sent")

    def __eq__(self, other):
        raise TypeError("not to be compared")

    __hash__ = float.__hash__

    def __str__(self):
        raise TypeError("not to be printed")


GOOD = {
    "torch scalar": lambda: torch.tensor(0.5, requires_grad=True),
    "array of one": lambda: np.array([[0.5]], dtype=np.float16),
    "decimal": lambda: Decimal("0.5"),
    "own number": lambda: Money(0.5),
    "whole": lambda: np.int64(1),
}
BAD = {
    "tensor": lambda: torch.ones(3),
    "matrix": lambda: np.zeros((2, 2)),
    "list": lambda: [0.5],
    "text": lambda: "0.5",
    "flag": lambda: True,
    "complex": lambda: 1j,
}
BESIDE = {
    "beside": lambda: {"history": list(range(100_000)), "net": torch.nn.Linear(2, 2), "when": time.localtime()},
    "wide": lambda: {f"k{number}": "x" * 40 for number in range(300_000)},
    "huge": lambda: {"whole": 10**400, "wider": 2**70, "half": "\ud800", 3: 4, None: 5, "sweep_end": "odd", "done": 0},
    "tunes": lambda: {"time_this_iter_s": "long", "timesteps_this_iter": "x", "pid": [], "training_iteration": "two"},
    "deep": lambda: {"a": {"b": {"c": np.float32(0.25)}}, "self": _endless()},
}


def _endless():
    inner = {}
    inner["again"] = inner
    return inner


def odd(config):
    """Report twice what `kind` says; also leave what cannot be sent in the config."""
    config["left"] = lambda: None
    kind = config["kind"]
    for _ in range(2):
        if kind in BESIDE:
            tune.report({"loss": 0.5, **BESIDE[kind]()})
        else:
            tune.report({"loss": (GOOD | BAD)[kind]()})


class Odd(tune.Trainable):
    """The same, as a class."""

    def setup(self, config):
        self.kind = config["kind"]

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        if self.kind in BESIDE:
            return {"loss": 0.5, **BESIDE[self.kind]()}
        return {"loss": (GOOD | BAD)[self.kind]()}


def ends(config):
    """Report twice, then end as `kind` says."""
    kind = config["kind"]
    try:
        tune.report({"loss": 0.5})
        tune.report({"loss": 0.25})
        if kind == "gap":
            tune.report({"seconds": 3})
        elif kind == "text":
            tune.report({"loss": "n/a"})
        elif kind == "returns nought":
            return 0.0
        elif kind == "returns summary":
            return {"best": 0.25, "epochs": 2}
        elif kind == "returns model":
            return torch.nn.Linear(1, 1)
        elif kind == "exit":
            sys.exit()
        elif kind == "exit with words":
            sys.exit("no more data")
        elif kind == "interrupted":
            raise KeyboardInterrupt
        elif kind == "generator exit":
            raise GeneratorExit
    finally:
        # A function that is stopped may still do this.
        config.clear()
    return None


def yields(config):
    """Yield a number, a dictionary and an array of one."""
    yield 3.0 + config["x"]
    yield {"loss": 2.0, "more": {"acc": 1}}
    yield np.array([1.0])


class Ends(tune.Trainable):
    """End in the third step as `kind` says."""

    def setup(self, config):
        self.kind, self.count = config["kind"], 0
        if self.kind == "exit in setup":
            sys.exit(4)

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        self.count += 1
        if self.count == 3:
            if self.kind == "exit":
                sys.exit(0)
            if self.kind == "exit with status":
                sys.exit(7)
            if self.kind == "interrupted":
                raise KeyboardInterrupt
            return ["no", "dictionary"]
        return {"loss": 1.0 / self.count}


def late(config):
    """Report the nested metric in the third epoch only."""
    for epoch in range(1, 4):
        tune.report({"val": {"acc": epoch / 10} if epoch == 3 else {"time": epoch}})


@ray.remote
def square(x):
    return x * x


@ray.remote
class Squares:
    def of(self, x):
        return x * x


def nested(config):
    """Compute by two Ray tasks of its own."""
    tune.report({"loss": sum(ray.get([square.remote(config["x"]), square.remote(2)]))})


class Nested(tune.Trainable):
    """Compute by a Ray actor of its own."""

    def setup(self, config):
        self.x = config["x"]

    def reset_config(self, new_config):
        self.setup(new_config)
        return True

    def step(self):
        return {"loss": ray.get(Squares.remote().of.remote(self.x)), "done": True}


def fails(config):
    """Fail at once, as each trial does whose file is not there."""
    open(f"/no/such/folder/{config['x']}")  # noqa: SIM115, PTH123 - as a user writes it


def reports_another(config):
    """Report another name than the plan's metric."""
    tune.report({"accuracy": config["x"]})
