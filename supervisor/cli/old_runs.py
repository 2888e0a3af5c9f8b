"""Runs the verbs that free the disk of old runs, gc and rm. Each returns the exit code.

Standard library at import; a verb imports what it needs.
"""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from typing import TYPE_CHECKING, Any

from supervisor.cli.guide.progress import working
from supervisor.control.client import ask
from supervisor.errors import Conflict, NotFound, NotRunning, UsageError
from supervisor.formatting import human, nearest, table
from supervisor.home import Home

if TYPE_CHECKING:
    from supervisor.audit.run_files import OldRun

REMOVE_DEADLINE_S = 3600.0
"""Deleting terabytes takes minutes; the daemon goes on with it, whatever happens to this command."""


@dataclass(frozen=True)
class _Listed:
    """A run, the bytes that it keeps, and those of them that may go."""

    of: OldRun
    bytes: int
    deletable_bytes: int


def gc(home: Home, arguments: argparse.Namespace) -> int:
    from supervisor.audit import run_files

    with working("measuring the files of each run", quick=True):
        runs = _runs(home)
        listed = [_listed(home, one) for one in runs]
    chosen = [
        one for one in listed
        if one.of.refusal is None and one.deletable_bytes and (arguments.all or not one.of.newest)
    ]  # fmt: skip
    if arguments.json:
        print(json.dumps([asdict(one.of) | {"bytes": one.bytes, "deletable_bytes": one.deletable_bytes}
                          for one in listed], indent=1))  # fmt: skip
        return 0
    print("\n".join(_table(listed, {one.of.run for one in chosen})))
    for path in run_files.strangers(home, runs):
        print(f"not in the store, left alone: {path} ({human(run_files.size_of(path)[1])})")
    if not chosen:
        print("nothing to delete" if arguments.all else "nothing to delete; --all takes each plan's newest run, too")
        return 0
    return _delete(home, chosen, arguments.yes)


def rm(home: Home, arguments: argparse.Namespace) -> int:
    found = {one.run: one for one in _runs(home)}
    for name in arguments.runs:
        if name not in found:
            raise NotFound(
                f"no run {name!r} in this home", remedy=nearest(name, found) or "`supervisorctl gc` lists them"
            )
        if (why := found[name].refusal) is not None:
            raise Conflict(f"the files of run {name} stay: {why}")
    with working("measuring their files", quick=True):
        chosen = [_listed(home, found[name]) for name in dict.fromkeys(arguments.runs)]
    print("\n".join(_table(chosen, {one.of.run for one in chosen if one.deletable_bytes})))
    chosen = [one for one in chosen if one.deletable_bytes]
    if not chosen:
        print("nothing left to delete")
        return 0
    return _delete(home, chosen, arguments.yes)


def _runs(home: Home) -> list[OldRun]:
    """Return the runs of the home; one whose folder is a link is refused, for what it leads to is not ours."""
    linked = "its folder is a link, and what it leads to is not ours"
    return [
        replace(one, refusal=one.refusal or linked) if home.run_folder(one.run).is_symlink() else one
        for one in _all_runs(home)
    ]


def _all_runs(home: Home) -> list[OldRun]:
    from supervisor.audit import run_files
    from supervisor.home_lock import is_held

    try:
        return [run_files.OldRun(**one) for one in ask(home, "runs")["runs"]]
    except NotRunning:
        if is_held(home):
            raise
        return run_files.runs_without_daemon(home)


def _listed(home: Home, one: OldRun) -> _Listed:
    from supervisor.audit import run_files

    folder = home.run_folder(one.run)
    free = 0 if folder.is_symlink() else sum(run_files.size_of(path)[1] for path in run_files.deletable(folder))
    return _Listed(one, run_files.size_of(folder)[1], free)


def _table(listed: Sequence[_Listed], chosen: set[str]) -> list[str]:
    rows = [("run", "ended", "on the disk", "may go", "")]
    for one in listed:
        ended = "-" if one.of.ended_wall is None else time.strftime("%Y-%m-%d", time.localtime(one.of.ended_wall))
        stays = one.of.refusal or ("" if one.of.run in chosen or not one.deletable_bytes else "the newest of its plan")
        may_go = "-" if one.of.refusal else human(one.deletable_bytes)
        rows.append((one.of.run, ended, human(one.bytes), may_go, f"stays: {stays}" if stays else ""))
    return table(rows)


def _delete(home: Home, chosen: Sequence[_Listed], yes: bool) -> int:
    names = ", ".join(one.of.run for one in chosen)
    size = human(sum(one.deletable_bytes for one in chosen))
    if not yes:
        if not sys.stdin.isatty():
            raise UsageError(
                f"nothing was deleted: {size} of {names} would go, and there is no terminal to ask",
                remedy="add --yes",
            )  # fmt: skip
        question = f"delete {size} of checkpoints, trials and logs of {names}? Reports stay. [y/N] "
        if _answer(question).strip().lower() not in ("y", "yes"):
            print("nothing was deleted")
            return 1
    failed = False
    for one in chosen:
        with working(f"deleting files of {one.of.run}", quick=True):
            done = _remove(home, one.of.run)
        print(f"{one.of.run}: {done['count']} files deleted, {human(done['bytes'])}")
        if done["error"] is not None:
            failed = True
            print(f"{one.of.run}: not all: {done['error']}; delete again once that is cured", file=sys.stderr)
    return int(failed)


def _answer(question: str) -> str:
    """Ask at the terminal; Ctrl-D is no answer."""
    try:
        return input(question)
    except EOFError:
        print()
        return ""


def _remove(home: Home, run: str) -> dict[str, Any]:
    try:
        return ask(home, "remove", {"run": run}, deadline_s=REMOVE_DEADLINE_S)
    except NotRunning:
        from supervisor.audit.run_files import remove_without_daemon

        return remove_without_daemon(home, run)
