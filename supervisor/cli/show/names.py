"""Runs the verbs that help a shell to complete a command line: names and completion. Each returns the exit code."""

from __future__ import annotations

import argparse

from supervisor.cli.show.runs import runs_of
from supervisor.cli.show.views import run_view
from supervisor.errors import SweepError
from supervisor.home import Home

MAX_NAMES = 100


def names(home: Home, arguments: argparse.Namespace) -> int:
    for name in _names(home, arguments.kind):
        print(name)
    return 0


def _names(home: Home, kind: str) -> list[str]:
    """Return the names of the last run's experiments, or of the newest runs; none where they cannot be read.

    A shell completes while a line is typed, where an error has no place.
    """
    try:
        if kind == "runs":
            return [run["run"] for run in runs_of(home, MAX_NAMES)]
        return [experiment["name"] for experiment in run_view(home, None, trials=False)["experiments"]]
    except SweepError:
        return []


def completion(_: Home, arguments: argparse.Namespace) -> int:
    import shtab

    from supervisor.cli.supervisorctl import build_parser

    print(shtab.complete(build_parser(), shell=arguments.shell))
    return 0
