"""Reads the view of a run for the verbs that show it: of the daemon while one lives, else of the store."""

from __future__ import annotations

import json
from collections.abc import Sequence
from fnmatch import fnmatchcase
from typing import Any
from urllib.parse import urlencode

from supervisor.cli.watch import last_view
from supervisor.control.client import ask
from supervisor.errors import NotFound, NotRunning
from supervisor.formatting import nearest
from supervisor.home import Home

SCHEMA = 1
"""The version of these verbs' JSON: it rises when a key goes or changes its meaning."""
ALL = "all"


def run_view(home: Home, run_or_plan: str | None, *, trials: bool) -> dict[str, Any]:
    """Return the view of the run of that id or plan, with its trials or without; None is the one at work or the last.

    Raises NotFound for an unknown name, NotRunning when a daemon holds the home and does not answer.
    """
    query = {"trials": "1" if trials else "0", **({} if run_or_plan is None else {"run": run_or_plan})}
    try:
        return ask(home, "run", query=f"?{urlencode(query)}")
    except NotRunning:
        return last_view(home, run_or_plan, trials=trials)


def experiments_of(view: dict[str, Any], patterns: Sequence[str]) -> list[dict[str, Any]]:
    """Return the experiments that match one of the `patterns`, in the run's order: names, globs or all.

    All of them without a pattern. Raises NotFound for a pattern that matches none.
    """
    experiments: list[dict[str, Any]] = view["experiments"]
    wanted = [pattern for pattern in patterns if pattern != ALL]
    names = [experiment["name"] for experiment in experiments]
    for pattern in wanted:
        if not any(fnmatchcase(name, pattern) for name in names):
            raise NotFound(
                f"no experiment {pattern!r} in {view['run']['id']}; there are {', '.join(names) or 'none'}",
                remedy=nearest(pattern, names),
            )
    if len(wanted) < len(patterns) or not patterns:
        return experiments
    return [one for one in experiments if any(fnmatchcase(one["name"], pattern) for pattern in wanted)]


def print_json(values: dict[str, Any]) -> None:
    """Print `values` as one JSON object with the schema's version."""
    print(json.dumps({"schema": SCHEMA, **values}, indent=1, ensure_ascii=False))
