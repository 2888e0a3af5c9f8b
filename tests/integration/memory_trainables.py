"""Define trainables that need much memory; workers import them by name."""

from __future__ import annotations

import itertools
import json
import time
from pathlib import Path

import torch
from ray import tune

from actors.trial.patchtst import PatchTSTTrainable
from training.model import PatchTST


class Hungry(PatchTSTTrainable):
    """Run the built-in model on a device that from the second epoch on has room for `room` windows only.

    It fails as CUDA does, in the middle of an epoch, with an error that has torch's own type.
    """

    def setup(self, config):
        self.room, self.epoch = config.pop("room"), 0
        super().setup(config)

    def reset_config(self, new_config):
        self.room, self.epoch = new_config.pop("room"), 0
        return super().reset_config(new_config)

    def sweep_load(self, path):
        super().sweep_load(path)
        self.epoch = int(path.stem.rpartition("-")[2])

    def step(self):
        calls, forward = itertools.count(), PatchTST.forward

        def limited(model, windows):
            late = model.training and next(calls) >= 2
            if late and self.epoch == 1 and len(windows) > self.room:
                raise torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 20.00 GiB")
            return forward(model, windows)

        PatchTST.forward = limited
        try:
            result = super().step()
        finally:
            PatchTST.forward = forward
        self.epoch += 1
        return result


class Halving(tune.Trainable):
    """Work with a micro-batch of 64 windows, or as `sweep_memory` says; from epoch 2 on there is less room."""

    def setup(self, config):
        self.room, self.epoch = config["room"], 0

    @property
    def micro_batch(self):
        return (self.sweep_memory or {"micro_batch": 64})["micro_batch"]

    def sweep_smaller(self):
        return {"micro_batch": self.micro_batch // 2} if self.micro_batch > 1 else None

    def step(self):
        if self.epoch == 1 and self.micro_batch > self.room:
            raise MemoryError("no memory for this micro-batch")
        self.epoch += 1
        return {"loss": 1.0 / self.epoch, "done": self.epoch == 3}

    def save_checkpoint(self, checkpoint_dir):
        return {"epoch": self.epoch}

    def load_checkpoint(self, checkpoint):
        self.epoch = checkpoint["epoch"]


def insatiable(config):
    """Runs out after a while where x is below zero; else reports, slowly. It says each time when it ran.

    The attempt that is given the machine to itself lasts long enough for another worker to come up beside it.
    """
    began = time.monotonic()
    again = config["x"] < 0 and f'"x": {config["x"]}' in Path(config["log"]).read_text()
    for step in range(1, 4):
        time.sleep(4.0 if again else 0.3)
        if config["x"] >= 0:
            tune.report({"loss": config["x"] + 1 / step})
    with Path(config["log"]).open("a") as log:
        log.write(json.dumps({"x": config["x"], "began": began, "ended": time.monotonic()}) + "\n")
    if config["x"] < 0:
        raise MemoryError("no memory for this trial")


class Asked(tune.Trainable):
    """Works in short batches until it is given less memory; its first epoch is so long that only leaving ends it."""

    def setup(self, config):
        self.batch = 0

    def sweep_smaller(self):
        return None if self.sweep_memory == {"micro_batch": 1} else {"micro_batch": 1}

    def step(self):
        while self.sweep_memory is None:
            self.sweep_gate.wait()
            self.batch += 1
            time.sleep(0.02)
        return {"loss": 1.0, "batches_before": self.batch, "done": True}

    def save_checkpoint(self, checkpoint_dir):
        return {"batch": self.batch}

    def load_checkpoint(self, checkpoint):
        self.batch = checkpoint["batch"]
