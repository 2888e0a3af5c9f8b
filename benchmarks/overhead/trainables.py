"""The trial of benchmarks/overhead: one report of a value, as a function and as a class."""

from __future__ import annotations

from typing import Any

from ray import tune

from benchmarks.overhead import worker

if worker.is_timed():
    worker.instrument()


def noop(config: dict[str, Any]) -> None:
    """Report once."""
    tune.report({"loss": config["x"] ** 2})


class Noop(tune.Trainable):
    """Reports once; a worker of it can be used again."""

    def setup(self, config: dict[str, Any]) -> None:
        self._x = config["x"]

    def step(self) -> dict[str, Any]:
        return {"loss": self._x**2, "done": True}

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self._x = new_config["x"]
        return True
