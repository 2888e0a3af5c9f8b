"""Runs the verbs that change the work of a run: end, discard, restore, skip, next, set, reread, enqueue, extend.

Each returns the exit code. Standard library at import.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterable
from typing import Any

from supervisor.control.client import ask
from supervisor.errors import NotRunning, UsageError
from supervisor.formatting import counted
from supervisor.home import Home
from supervisor.home_lock import is_held

MAX_LINES = 20
"""Lines about single things that an answer prints."""
EXTEND_EXAMPLE = "write such as `extend 2M-h1 --trials 20`, or `extend 2M-h1/17 --epochs 10`"

_WHEN = {
    "RUNNING": "at its next report",
    "PAUSED": "at its next report, once nothing pauses it",
    "PENDING": "at its next report, once it is at work again",
}


def end(home: Home, arguments: argparse.Namespace) -> int:
    found = ask(home, "end", {"targets": arguments.targets})["trials"]
    _print(f"trial {one['trial']} of {one['experiment']} ends {_WHEN[one['state']]}, with its best value"
           for one in found)  # fmt: skip
    return 0


def discard(home: Home, arguments: argparse.Namespace) -> int:
    answer = ask(home, "discard", {"targets": arguments.targets, "restore": False})
    found = answer["trials"]
    _print(f"{name} is discarded: not in search, best and report; `supervisorctl restore {name}`" for name in found)
    _print_set_aside(answer)
    return 0


def restore(home: Home, arguments: argparse.Namespace) -> int:
    answer = ask(home, "discard", {"targets": arguments.targets, "restore": True})
    _print(f"{name} counts again" for name in answer["trials"])
    _print_set_aside(answer)
    return 0


def _print_set_aside(answer: dict[str, Any]) -> None:
    # A daemon of an earlier version sets none aside.
    _print(f"{name}: its finalisation is set aside, it chooses anew" for name in answer.get("set_aside", ()))


def skip(home: Home, arguments: argparse.Namespace) -> int:
    found = ask(home, "skip", {"targets": arguments.targets})["experiments"]
    _print(f"{name} is left out; `supervisorctl retry {name}` takes it in again" for name in found)
    return 0


def put_next(home: Home, arguments: argparse.Namespace) -> int:
    found = ask(home, "next", {"targets": arguments.targets})["experiments"]
    _print(f"{name} begins next" if place == 0 else f"{name} follows" for place, name in enumerate(found))
    return 0


def change(home: Home, arguments: argparse.Namespace) -> int:
    sets = [word for word in arguments.words if "=" in word]
    targets = [word for word in arguments.words if "=" not in word]
    if not sets:
        raise UsageError("expected KEY=VALUE, found none", remedy="write such as `supervisorctl set concurrency=4`")
    answer = ask(home, "set", {"targets": targets, "sets": sets})
    _print(f"{name}: {effect}" for name, effect in answer["effects"].items())
    _print(f"not changed: {why}" for why in answer["refused"])
    if answer["policy"]:
        print("hardware: every node is governed so from now on")
    if answer["schedule"] is not None:
        _print_schedule(answer["schedule"])
    return 0


def _print_schedule(schedule: dict[str, Any]) -> None:
    from supervisor.preflight.coming_week import week_lines

    for line in week_lines(schedule, time.time()) or ["when to work: at any time, the schedule is taken away"]:
        print(line)


def reread(home: Home, arguments: argparse.Namespace) -> int:
    try:
        answer = ask(home, "reread", {"apply": arguments.apply})
    except NotRunning:
        if arguments.apply or is_held(home) or not home.store.exists():
            raise
        answer = _compared(home)
    for change in answer["changes"]:
        print(change)
    if not answer["changes"]:
        print("the plan's file and the run's plan are the same")
    for why in answer["refused"]:
        print(f"cannot change in this run: {why}")
    for name, effect in answer["effects"].items():
        print(f"{name}: {effect}")
    # A daemon of an earlier version says nothing of it.
    if answer["applied"] and answer.get("schedule") is not None:
        _print_schedule(answer["schedule"])
    if answer["changes"] and not arguments.apply:
        print("nothing was changed; `supervisorctl reread --apply` takes over what can change")
    elif answer["changes"] and not answer["applied"]:
        print("nothing was changed")
    return 0


def _compared(home: Home) -> dict[str, Any]:
    """Compare the plan of the last run with its file, without a daemon."""
    from supervisor.plan.reread import compare
    from supervisor.store.database import read_only
    from supervisor.store.plan_queries import plan_of_run
    from supervisor.store.queries import run_named

    with read_only(home.store) as connection:
        plan = plan_of_run(connection, run_named(connection, None))
    found = compare(plan.file, plan.text, plan.sets, plan.options, plan.policy, plan.data, plan.specs)
    return {"changes": found.changes, "refused": found.refused, "effects": {}, "applied": False}


def enqueue(home: Home, arguments: argparse.Namespace) -> int:
    answer = ask(home, "enqueue", {"targets": arguments.targets, "point": arguments.point})
    _print(f"{name}: {_point(point)} is tried next" for name, point in answer["points"].items())
    return 0


def _point(point: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in point.items())


def extend(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.epochs is not None:
        return _extend_trials(home, arguments)
    if arguments.anew:
        raise UsageError("--anew needs --epochs, found none", remedy=EXTEND_EXAMPLE)
    body = {"targets": arguments.targets, "trials": arguments.trials, "hours": arguments.hours}
    answer = ask(home, "extend", body)
    hours = f" and {arguments.hours:g} h" if arguments.hours else ""
    totals = answer["max_trials"].items()
    more = counted(arguments.trials, "more trial")
    _print(f"{name}: {more}{hours}, {total} in all" for name, total in totals)
    _print_set_aside(answer)
    return 0


def _extend_trials(home: Home, arguments: argparse.Namespace) -> int:
    if arguments.trials or arguments.hours:
        raise UsageError(
            "--epochs is for trials, --trials and --hours are for experiments; found both", remedy=EXTEND_EXAMPLE
        )
    body = {"targets": arguments.targets, "epochs": arguments.epochs, "anew": arguments.anew}
    answer = ask(home, "extend", body)
    _print(
        f"{one['experiment']}/{one['trial']}: trains {_begins(one['from_step'])} to epoch {one['last_step']}"
        for one in answer["trials"]
    )
    _print_set_aside(answer)
    return 0


def _begins(from_step: int | None) -> str:
    return "anew from epoch 0" if from_step is None else f"on from its checkpoint of epoch {from_step}"


def _print(lines: Iterable[str]) -> None:
    """Print the first MAX_LINES lines, and how many more there are."""
    lines = list(lines)
    for line in lines[:MAX_LINES]:
        print(line)
    if len(lines) > MAX_LINES:
        print(f"and {len(lines) - MAX_LINES} more")
