"""Says what an experiment does now: search, finalisation, walk-forward or test. Pure; standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from supervisor.domain import finalists
from supervisor.domain.answer import TESTED
from supervisor.domain.lifecycle import ProcessState

PHASES = ("search", "finalisation", "walk-forward")
"""The parts of an experiment in which trials run, in their order (finalists.phase)."""
TEST = "test"


def doing(experiment: Mapping[str, Any]) -> str | None:
    """Return what an experiment at work does, such as "search and finalisation"; None for one that is not at work.

    `experiment` is a view (queries.experiment_view) with the state of its test.
    """
    if experiment["state"] not in (ProcessState.RUNNING, ProcessState.PAUSED):
        return None
    spec, running = experiment["spec"], [trial["number"] for trial in experiment["running"]]
    if running:
        return " and ".join(PHASES[place] for place in sorted({phase_of(spec, number) for number in running}))
    test = experiment["test"]
    tested = spec.get("finalize") is not None and spec.get("trainable") == TESTED
    if (test is not None and not test["scored"]) or (tested and experiment["ended"] >= experiment["max_trials"]):
        return TEST
    return PHASES[phase_of(spec, experiment["ended"])]


def phase_of(spec: Mapping[str, Any], number: int) -> int:
    """Return the place in PHASES of the trial of this number."""
    search = finalists.search_trials(spec)
    if spec.get("finalize") is None or number < search:
        return 0
    return 1 if number < search + finalists.finalisation_trials(spec) or finalists.folds_of(spec) == 1 else 2
