"""A trainable of one's own: any Ray function that reports the plan's metric after each epoch."""

from __future__ import annotations

from typing import Any

from ray import tune


def objective(config: dict[str, Any]) -> None:
    """Walk down a tilted bowl; `config` holds the plan's constants, the cell's values and the sampled parameters."""
    x = config["start"]
    for _ in range(config["steps"]):
        x -= config["learning_rate"] * 2 * (x - config["minimum"])
        tune.report({"loss": (x - config["minimum"]) ** 2 + config["bias"] ** 2})
