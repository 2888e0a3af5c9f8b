"""Lets workers that a driver starts early import what a trial needs, and no other worker: each takes one ticket.

A ticket is a file. The watchdog, the tasks of a trial and workers that start later find none, and import nothing.
Standard library only.
"""

from __future__ import annotations

import contextlib
import importlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path

from supervisor.processes.environment import WARM_WORKERS, thread_environment
from supervisor.processes.identity import started_at

TICKET = ".ticket"
FOR_EVERY_TRIAL = ("actors.trial.named_worker", "actors.trial.supervised")
FOR_A_BUILT_IN_TRIAL = ("actors.trial.patchtst", "training.session")


def tickets_folder() -> Path | None:
    """Return the folder of this home's tickets; None in a process without one."""
    named = os.environ.get(WARM_WORKERS)
    return None if named is None else Path(named)


def what_to_import(threads: int | None) -> tuple[tuple[str, ...], dict[str, str]]:
    """Return the modules that a trial needs, and the variables that must be set before they are imported.

    `threads` are those of the built-in trainable; None for a user's own one. That is left to its trial: its import may
    do anything.
    """
    if threads is None:
        return FOR_EVERY_TRIAL, {}
    return FOR_EVERY_TRIAL + FOR_A_BUILT_IN_TRIAL, thread_environment(threads)


def leave_tickets(folder: Path, count: int, modules: Sequence[str], environment: Mapping[str, str]) -> None:
    """Leave `count` tickets in `folder`, instead of those there: `modules` to import, in a changed `environment`.

    Raises OSError.
    """
    folder.mkdir(parents=True, exist_ok=True, mode=0o700)
    withdraw_tickets(folder)
    for number in range(count):
        written = folder / f"{os.getpid()}-{number}"
        written.write_text(json.dumps({"modules": list(modules), "environment": dict(environment)}))
        # Only whole ones are taken.
        written.rename(written.with_suffix(TICKET))


def withdraw_tickets(folder: Path) -> None:
    """Remove the tickets that no worker has taken."""
    for ticket in folder.glob(f"*{TICKET}"):
        ticket.unlink(missing_ok=True)


def warm(folder: Path) -> bool:
    """Take a ticket and import what it says; return False without one.

    A module that cannot be imported is left to the trial, which tells of it.
    """
    ticket = _take(folder)
    if ticket is None:
        return False
    # OpenMP reads them once, when torch is loaded.
    os.environ.update(ticket["environment"])
    for module in ticket["modules"]:
        with contextlib.suppress(Exception):
            importlib.import_module(module)
    return True


def _take(folder: Path) -> dict[str, dict[str, str]] | None:
    for path in sorted(folder.glob(f"*{TICKET}")):
        if started_at(int(path.name.partition("-")[0])) is None:
            # Its driver has ended before its workers took them.
            path.unlink(missing_ok=True)
            continue
        # Of several workers one can rename it.
        taken = path.with_suffix(f".{os.getpid()}")
        with contextlib.suppress(FileNotFoundError):
            path.rename(taken)
            ticket: dict[str, dict[str, str]] = json.loads(taken.read_text())
            taken.unlink()
            return ticket
    return None
