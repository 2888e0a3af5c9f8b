"""Runs the verb `queue`: lists, moves and removes the plans that begin after the run at work, also without a daemon."""

from __future__ import annotations

import argparse
import getpass
import json
import time

from supervisor.control.handshake import StartRequest
from supervisor.control.plan_queue import Entry, PlanQueue
from supervisor.errors import UsageError
from supervisor.formatting import duration
from supervisor.home import Home
from supervisor.home_lock import is_held

LOOKS, LOOK_S = 10, 0.1
"""A daemon that ends just now has looked for the last time; it frees the home within a moment."""


def queue(home: Home, arguments: argparse.Namespace) -> int:
    plans = PlanQueue(home)
    match arguments.what:
        case "move":
            if len(arguments.names) != 2 or not arguments.names[1].isdecimal() or int(arguments.names[1]) < 1:
                raise UsageError("expected a plan and its new place", remedy="write `supervisorctl queue move PLAN 1`")
            plans.move(arguments.names[0], int(arguments.names[1]))
        case "remove":
            if not arguments.names:
                raise UsageError("expected a plan or its place, found none", remedy="`supervisorctl queue` lists them")
            plans.remove(arguments.names)
    entries = plans.entries()
    if arguments.json:
        print(json.dumps([_as_json(place, entry) for place, entry in enumerate(entries, 1)], indent=1))
    for place, entry in enumerate(entries if not arguments.json else (), 1):
        print(_line(place, entry))
    if not entries and not arguments.json:
        print("the queue is empty; `supervisord start PLAN --queue` adds a plan")
    return 0


def add(home: Home, request: StartRequest) -> int | None:
    """Put a plan into the queue behind a run that is at work or waits; return its place.

    None when there is no such run: the plan can begin at once. What waits before it begins first.
    """
    if not is_held(home) and not _waits(home) and PlanQueue(home).first() is None:
        return None
    return PlanQueue(home).add(request, getpass.getuser(), time.time())


def is_looked_at(home: Home) -> bool:
    """Return whether a daemon will look at the queue: one that ends just now has freed the home soon."""
    for _ in range(LOOKS):
        if not is_held(home):
            return False
        time.sleep(LOOK_S)
    return True


def _waits(home: Home) -> bool:
    """Return whether an unfinished run waits for the next start."""
    from supervisor.store.database import read_only
    from supervisor.store.queries import unfinished_run

    if not home.store.exists():
        return False
    with read_only(home.store) as connection:
        return unfinished_run(connection, stopped_too=False) is not None


def _line(place: int, entry: Entry) -> str:
    waits = duration(time.time() - entry.queued_wall)
    count = len(entry.request.specs)
    failed = f", PASSED OVER: {entry.error}" if entry.error is not None else ""
    return f"{place:>3}  {entry.plan:<20} {count} experiments, queued by {entry.who}, waits {waits}{failed}"


def _as_json(place: int, entry: Entry) -> dict[str, object]:
    return {
        "place": place, "plan": entry.plan, "experiments": len(entry.request.specs), "who": entry.who,
        "queued_wall": entry.queued_wall, "error": entry.error,
    }  # fmt: skip
