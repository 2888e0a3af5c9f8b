"""Ends at once, as the trial of benchmarks/growth: one report, in a worker that serves trial after trial.

The file is copied beside the plan, so it imports nothing of this repository.
"""

from __future__ import annotations

from typing import Any

from ray import tune


class AtOnce(tune.Trainable):
    """Reports a loss of its params in its only epoch."""

    def setup(self, config: dict[str, Any]) -> None:
        self._loss = sum(float(value) ** 2 for name, value in config.items() if name.startswith("x"))

    def reset_config(self, new_config: dict[str, Any]) -> bool:
        self.setup(new_config)
        return True

    def step(self) -> dict[str, Any]:
        return {"loss": self._loss}
