"""Names where a command holds: on all nodes, on one node, or for one trial. Pure; light, for `supervisorctl status`."""

from __future__ import annotations

ALL_NODES = "all"
"""The scope of a command on every node; any other scope is a node's id or a trial (`trial_scope`)."""

SCHEDULE = "schedule"
"""The key of the schedule's command beside the operator's, which have their scopes as keys; itself it is for all."""

MAX_HELD_TRIALS = 48
"""Trials that an operator may hold one by one: the flag of a node has so many slots for them."""


def trial_scope(experiment: str, number: int) -> str:
    """Return the scope of a command for one trial alone. No node's id has a slash."""
    return f"{experiment}/{number}"


def trial_of(scope: str) -> tuple[str, int] | None:
    """Return the experiment and number of a trial's scope; None for any other scope."""
    experiment, slash, number = scope.rpartition("/")
    return (experiment, int(number)) if slash else None
