"""Times a trial's worker for benchmarks/overhead: how long it takes a trial over, and how long it trains."""

from __future__ import annotations

import os
import sys
from typing import Any

from ray.tune import Trainable

from benchmarks.overhead.scenario import VARIABLE, Scenario
from benchmarks.overhead.timers import Timers, between

TAKES, TRAINS, TOLD = "takes the trial over", "trains and reports", "says where it is, and the like"
SETTLED = 2
"""The first takeovers of a worker do not count."""


def is_timed() -> bool:
    """Return whether this process is a worker of a scenario that is timed."""
    return VARIABLE in os.environ and "default_worker" in sys.argv[0] and Scenario.from_environment().timed


def instrument() -> None:
    """Time this worker from now on; each takeover writes what came before it."""
    scenario, timers = Scenario.from_environment(), Timers()
    reset = timers.timed(TAKES, Trainable.reset)

    def noted(self: Any, *arguments: Any, **named: Any) -> Any:
        timers.mark()
        if len(timers.marks) > SETTLED:
            trials = len(timers.marks) - SETTLED
            scenario.write(f"worker-{os.getpid()}", between(timers.marks[SETTLED - 1], timers.marks[-1], trials))
        return reset(self, *arguments, **named)

    Trainable.reset = noted  # type: ignore[method-assign]
    timers.wrap(Trainable, "train", TRAINS)
    timers.wrap(Trainable, "get_auto_filled_metrics", TOLD)
