"""Trainables for the tests of actors/; workers import them by name."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

from ray import tune


def quadratic(config):
    """Report three times, towards x squared."""
    for step in range(1, 4):
        tune.report({"loss": config["x"] ** 2 + 1.0 / step})


def warmed(config):
    """Report once, and whether this worker was started before its trial."""
    from actors.trial.preload import WARMED

    tune.report({"loss": config["x"] ** 2, "warmed": float(WARMED)})


def long_quadratic(config):
    """Report nine times, for pruners."""
    for step in range(1, 10):
        time.sleep(0.02)
        tune.report({"loss": config["x"] ** 2 + 1.0 / step})


def troubled(config):
    """Report NaN, fail, run out of memory, report nothing or succeed, as `kind` says."""
    kind = config["kind"]
    if kind == "nan":
        tune.report({"loss": float("nan")})
    elif kind == "raises":
        raise RuntimeError("this trial was made to fail")
    elif kind == "memory":
        raise MemoryError("no memory for this trial")
    elif kind == "good":
        tune.report({"loss": 0.5})


class Steps(tune.Trainable):
    """Run steps of `batches` short batches, wait at the gate before each, and log each.

    It ends after `steps` steps, and not as long as the file `goes_on` exists.
    """

    def setup(self, config):
        self.reset_config(config)

    def reset_config(self, new_config):
        self.settings = dict(new_config)
        self.batch = 0
        return True

    def step(self):
        while True:
            self.sweep_gate.wait()
            self.batch += 1
            self._log()
            time.sleep(self.settings["batch_s"])
            if self.batch % self.settings["batches"] == 0:
                break
        step = self.batch // self.settings["batches"]
        done = step >= self.settings["steps"] and not Path(self.settings["goes_on"]).exists()
        return {"loss": self.settings["x"] ** 2 + 1.0 / step, "done": done}

    def _log(self):
        line = {"x": self.settings["x"], "batch": self.batch, "at": time.monotonic(), "pid": os.getpid()}
        with Path(self.settings["log"]).open("a") as log:
            log.write(json.dumps(line) + "\n")

    def save_checkpoint(self, checkpoint_dir):
        return {"batch": self.batch}

    def load_checkpoint(self, checkpoint):
        self.batch = checkpoint["batch"]


def seeded(config):
    """Report as long_quadratic does, with an offset by seed, as finalisation needs it."""
    for step in range(1, 10):
        time.sleep(0.02)
        tune.report({"loss": config["x"] ** 2 + 1.0 / step + (config.get("seed", 0) % 1000) / 1e4})
