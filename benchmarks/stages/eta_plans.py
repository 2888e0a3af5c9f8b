"""Describe the five real runs of eta_real: their plans, and what happens to them after so many epochs.

A run takes one to four minutes. Its experiments have unequal budgets: other epochs, other trials, in one run other
costs of an epoch, which nothing tells the ETA before they have run.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

PAUSE, WORKER, DRIVER, DAEMON = "pause", "kill a worker", "kill the driver", "kill the daemon"
TRAINABLE = "eta_sleeping"
"""The module beside the plan, a copy of benchmarks/trials/sleeping.py."""
BUDGETS = (1, 2, 3)


@dataclass(frozen=True)
class Act:
    """Holds what is done to a run once so many epochs have been reported; a pause lasts `lasts_s`."""

    epochs: int
    what: str
    lasts_s: float = 0.0


@dataclass(frozen=True)
class Story:
    """Holds one run: its plan's own keys, those of each budget, and what happens to it."""

    name: str
    plan: Mapping[str, Any]
    by_budget: Mapping[int, Mapping[str, Any]]
    acts: tuple[Act, ...] = field(default=())

    def plan_text(self) -> str:
        """Return the plan as YAML, of which JSON is a part."""
        whole = {
            "name": self.name, "description": "a short run that the ETA is judged by",
            "trainable": f"{TRAINABLE}:Sleeper", "seed": 7, "metric": "loss", "mode": "min",
            "matrix": {"budget": list(self.by_budget)}, "config": {"epoch_s": 1.0, "fails": -1},
            "space": {"x": {"type": "float", "low": -1.0, "high": 3.0}}, "concurrency": 2, "resources": {"cpu": 1},
            "sampler": {"kind": "tpe", "startup_trials": 4}, "checkpoint_every_s": 0, "wake_lock": False,
            "overrides": [{"when": {"budget": one}, "set": dict(keys)} for one, keys in self.by_budget.items() if keys],
        }  # fmt: skip
        return json.dumps({**whole, **self.plan})


ASHA = {"kind": "asha", "grace_period": 2, "reduction_factor": 2}
MEDIAN = {"kind": "median", "grace_period": 3, "min_samples_required": 3}

STORIES = (
    Story(
        "unequal", {"max_trials": 6, "max_epochs": 6}, {1: {}, 2: {"max_epochs": 12}, 3: {"max_epochs": 20}},
    ),
    Story(
        "pruned", {"max_trials": 18, "max_epochs": 12, "pruner": ASHA}, {1: {}, 2: {"max_trials": 22}},
    ),
    Story(
        "paused", {"max_trials": 8, "max_epochs": 8, "config": {"epoch_s": 1.2, "fails": -1}},
        {1: {}, 2: {"max_epochs": 12}}, (Act(10, PAUSE, 8.0), Act(40, PAUSE, 12.0), Act(100, PAUSE, 6.0)),
    ),
    Story(
        "killed", {"max_trials": 7, "max_epochs": 8, "config": {"epoch_s": 1.0, "fails": 3}},
        {1: {}, 2: {"max_epochs": 10}, 3: {"max_epochs": 12}},
        (Act(20, WORKER), Act(70, DRIVER), Act(130, WORKER)),
    ),
    Story(
        "answer", {"max_trials": 14, "max_epochs": 10, "pruner": MEDIAN, "finalize": {"top": 2, "seeds": 2}},
        {1: {"config": {"epoch_s": 0.8}}, 2: {"config": {"epoch_s": 1.2}}}, (Act(40, PAUSE, 8.0), Act(80, DAEMON)),
    ),
)  # fmt: skip
