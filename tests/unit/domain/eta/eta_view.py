"""Make the views of experiments that a forecast reads, from trials of a known pace."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from supervisor.domain.eta.trial_work import TrialCost, measured

NOW = 1_700_000_000.0
FIGURES: Mapping[str, Any] = {"basis": "timed here", "epoch_s": 10.0, "by_rank": {}, "at_once": None}


def cost(number: int, epochs: int = 10, pace: float = 1.0, work: float = 10.0) -> TrialCost:
    """An ended trial whose epochs took `pace` times their work."""
    ended = NOW - 1000.0 + number
    return TrialCost(number, epochs, pace * work * epochs, work, 1.0, ended - 10.0, ended)


def running(number: int, epoch: int, **changes: Any) -> dict[str, Any]:
    """A running trial with epochs of ten seconds that reported two seconds ago."""
    return {
        "number": number, "state": "RUNNING", "epoch": epoch, "held_for": None, "spent_s": 10.0 * epoch,
        "since_wall": NOW - 2.0, "work": 10.0,
    } | changes  # fmt: skip


def experiment(
    name: str = "a",
    state: str = "RUNNING",
    costs: Iterable[TrialCost] = (),
    at_work: Iterable[Mapping[str, Any]] = (),
    figures: Mapping[str, Any] = FIGURES,
    ended_wall: float | None = None,
    left_s: float | None = None,
    **spec: Any,
) -> dict[str, Any]:
    """An experiment of ten trials of ten epochs, one at a time, with neither pruning nor finalisation."""
    whole = {"name": name, "mode": "min", "max_trials": 10, "max_epochs": 10, "concurrency": 1, **spec}
    started = None if state == "STOPPED" else NOW - 1020.0
    return {
        "name": name, "state": state, "spec": whole, "running": list(at_work), "started_wall": started,
        "ended_wall": ended_wall, "driver_starts": int(started is not None), "left_s": left_s,
        "measured": measured(whole, figures, list(costs), None, (started, ended_wall)),
    }  # fmt: skip


def view(*experiments: dict[str, Any], lost_s: float = 0.0, times: int = 0) -> dict[str, Any]:
    return {"experiments": list(experiments), "lost": [{"cause": "heat", "seconds": lost_s}], "lost_times": times}
