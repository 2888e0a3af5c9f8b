"""Define trainables that hang or whose workers die; workers import them by name."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

from ray import tune


def wait_for_godot():
    """The function whose name a dump of the stacks must hold."""
    while True:
        time.sleep(0.05)


def once(folder, name):
    """True the first time, for whichever process comes first."""
    try:
        (Path(folder) / name).touch(exist_ok=False)
    except FileExistsError:
        return False
    return True


def swallow(group, beat):
    """Join a control group of little memory, wait a moment, then take more than it has."""
    (group / "cgroup.procs").write_text("0")
    for _ in range(25):
        beat()
        time.sleep(0.2)
    return len([os.urandom(1 << 20) for _ in range(1000)])


class Troubled(tune.Trainable):
    """Run steps of two batches with a `trouble`, once or, with `always`, each time."""

    sweep_batches = True

    def setup(self, config):
        self._open(config, "setup")

    def reset_config(self, new_config):
        self._open(new_config, "reset")
        return True

    def _open(self, config, place):
        self.settings, self.epoch = dict(config), 0
        self._meet(place)

    def step(self):
        for _ in range(2):
            self.sweep_gate.wait()
            time.sleep(0.01)
        if self.epoch == 1:
            self._meet("step")
        self.epoch += 1
        return {"loss": 1.0 / self.epoch, "done": self.epoch >= 3}

    def save_checkpoint(self, checkpoint_dir):
        if self.epoch == 2:
            self._meet("save")
        return {"epoch": self.epoch}

    def load_checkpoint(self, checkpoint):
        self.epoch = checkpoint["epoch"]

    def _meet(self, place):
        what, _, where = self.settings["trouble"].partition(" in ")
        if where != place or (what != "always hangs" and not once(self.settings["marks"], what + where)):
            return
        if what.endswith("hangs"):
            wait_for_godot()
        if what == "swallows memory":
            swallow(Path(self.settings["group"]), self.sweep_gate.wait)
        os.kill(os.getpid(), signal.SIGKILL)


def silent(config):
    """A function that reports once and then no more; the second time it goes on."""
    tune.report({"loss": 1.0})
    if once(config["marks"], "silent"):
        wait_for_godot()
    tune.report({"loss": 0.5})
