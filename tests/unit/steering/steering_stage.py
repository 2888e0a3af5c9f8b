"""Stage a run with a plan, and the verbs that steer it."""

from __future__ import annotations

from supervisor.daemon.orchestrator import Orchestrator
from supervisor.daemon.steering import Steering
from tests.unit.daemon.orchestrator_stage import Stage

PLAN = """
name: p
trainable: mine:train
matrix: {size: [a, b]}
space: {x: {type: float, low: 0.0, high: 1.0}}
max_trials: 2
max_epochs: 2
"""


def planned(stage: Stage) -> Stage:
    """Give the run a plan: its experiments are the cells of its matrix."""
    stage.store.connection.execute("UPDATE run SET plan_text = ?", (PLAN,))
    return stage


def steering(stage: Stage, orchestrator: Orchestrator) -> Steering:
    return Steering(stage.writer, orchestrator)
