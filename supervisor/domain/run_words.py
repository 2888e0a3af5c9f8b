"""Words the end of a daemon and the way a run goes on, the same in each command. Pure; standard library only."""

from __future__ import annotations

import json
from typing import Any, Protocol

from supervisor.domain.lifecycle import AT_WORK, Desired, ProcessState, TrialState
from supervisor.formatting import error_sentence

BUILT_IN = "built-in"
"""The source of a plan that is no file."""
GIVEN_UP = "given up for a new run"
"""The reason of a run that will never go on."""


class RunFields(Protocol):
    """The fields of a run by name: a row of the store, or a run's view."""

    def __getitem__(self, name: str, /) -> Any: ...


def start_command(run: RunFields) -> str:
    """Return the command that began `run`, the row of a run: its plan or the plan's file, and the options."""
    import shlex

    hardware = run["hardware"]
    options = (json.loads(hardware) if isinstance(hardware, str) else hardware).get("options", [])
    plan = run["plan"] if run["source"] == BUILT_IN else run["source"]
    return shlex.join(["supervisord", "start", str(plan), *options])


def way_on(run: RunFields) -> str:
    """Return how a run that has not ended goes on: a stopped one by its own command only."""
    command = start_command(run) if run["desired"] == Desired.STOP else "supervisord start"
    return f"`{command}` resumes it"


def why_no_daemon(run: RunFields) -> str:
    """Return why no daemon works on `run`, a run as its last daemon left it (queries.run_itself), and its way on."""
    if run["reason"] == GIVEN_UP:
        return "no daemon is running: the run was given up for a new one"
    match ProcessState(run["state"]):
        case ProcessState.EXITED:
            return "no daemon is running: the run has ended"
        case ProcessState.FATAL:
            why = f"the run could not go on: {error_sentence(run['failure'] or 'its log says why')}"
        case ProcessState.STOPPED:
            why = "the run is stopped" if run["desired"] == Desired.STOP else "it was shut down"
        case recorded:
            why = f"it died while the run was {recorded}"
    return f"no daemon is running: {why}; {way_on(run)}"


def without_daemon(view: dict[str, Any]) -> dict[str, Any]:
    """Return the view of a run as the next daemon will find it: without one nothing is at work, whatever was recorded.

    `daemon_died` is true when the last daemon did not end in order; `recorded_state` is what it had recorded.
    """
    run = view["run"]
    died = run["state"] in AT_WORK
    return {
        **view,
        "daemon": None,
        "daemon_died": died,
        "why_no_daemon": why_no_daemon(run),
        "run": {**run, **_at_rest(run["state"])},
        "experiments": [_experiment(experiment) for experiment in view["experiments"]],
    }


def _at_rest(state: str) -> dict[str, str]:
    return {"state": ProcessState.STOPPED, "recorded_state": state} if state in AT_WORK else {}


def _experiment(experiment: dict[str, Any]) -> dict[str, Any]:
    found = {**experiment, **_at_rest(experiment["state"]), "running": [], "doing": None}
    if experiment["state"] in AT_WORK:
        found |= {"action": None, "origin": None}
    if "trials" in experiment:
        found["trials"] = [_trial(trial) for trial in experiment["trials"]]
    return found


def _trial(trial: dict[str, Any]) -> dict[str, Any]:
    """Return a trial that was at work as waiting: the next daemon puts it back in the queue."""
    if trial["state"] not in (TrialState.RUNNING, TrialState.PAUSED):
        return trial
    return {**trial, "state": TrialState.PENDING, "held_for": None, "recorded_state": trial["state"]}
