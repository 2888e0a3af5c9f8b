"""Lists what runs keep on the disk, and deletes the trials' files and logs of ended ones. Reports and rows stay.

A wish is committed before the first file goes. A deletion that was killed halfway is finished by asking again, and a
run whose files are no longer wanted is never opened again.
"""

from __future__ import annotations

import os
import re
import shutil
import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from supervisor.audit.maintenance import catch_up
from supervisor.clock import Clock
from supervisor.domain.lifecycle import ProcessState
from supervisor.domain.run_words import GIVEN_UP, start_command
from supervisor.errors import Conflict, NotFound, UnsafeFolder
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store import queries, removal_queries
from supervisor.store.database import Store, read_only
from supervisor.store.run_writer import RunWriter

WITHOUT_DAEMON = "supervisorctl"

_OF_A_RUN = re.compile(r"ray\.log(\.\d+)?")
_OF_AN_EXPERIMENT = re.compile(r"\d+|study\.journal.*|driver\.log(\.\d+)?")
"""The names that are deleted; a number is a trial's folder. All others stay: reports, openings of tests, a user's."""


@dataclass(frozen=True)
class OldRun:
    """A run of the store; `refusal` says why its files must stay, None when they may go."""

    run: str
    plan: str
    state: str
    ended_wall: float | None
    refusal: str | None
    newest: bool
    """It is the newest run of its plan."""


@dataclass(frozen=True)
class Deleted:
    """The files that one request deleted, their bytes, and the error that ended it early."""

    run: str
    count: int
    bytes: int
    error: str | None = None


def old_runs(connection: sqlite3.Connection, live: str | None = None) -> list[OldRun]:
    """Return the store's runs, oldest first; a daemon works on `live`."""
    rows = removal_queries.all_runs(connection)
    newest = {row["plan"]: row["id"] for row in rows}
    return [
        OldRun(
            row["id"], row["plan"], row["state"], row["ended_wall"], _refusal(connection, row, live),
            newest[row["plan"]] == row["id"],
        )
        for row in rows
    ]  # fmt: skip


def _refusal(connection: sqlite3.Connection, row: sqlite3.Row, live: str | None) -> str | None:
    if row["id"] == live:
        return "the daemon works on it"
    if row["reason"] == GIVEN_UP:
        return None
    if row["state"] != ProcessState.EXITED:
        return f"it has not ended: `{start_command(row)}` resumes it, with --new gives it up"
    if removal_queries.tests_due(connection, row["id"]) and not removal_queries.removal_asked(connection, row["id"]):
        return f"a test of it is to be repeated, and needs its weights: `{start_command(row)}` does it"
    return None


def runs_without_daemon(home: Home) -> list[OldRun]:
    """Return the runs of a home without a daemon; changes nothing. Raises NotFound for a home without a store."""
    if not home.store.exists():
        raise NotFound(f"the home {home.root} has no run yet")
    with read_only(home.store) as connection:
        return old_runs(connection)


def strangers(home: Home, runs: Sequence[OldRun]) -> list[Path]:
    """Return the folders below `runs` that the store does not know."""
    known = {one.run for one in runs}
    return sorted(path for path in home.runs.iterdir() if path.name not in known) if home.runs.is_dir() else []


def deletable(folder: Path) -> list[Path]:
    """Return the files and folders of a run that may go; links are not followed. Raises UnsafeFolder for a link."""
    if folder.is_symlink():
        remedy = f"look at it, then remove the link {folder}"
        raise UnsafeFolder(f"{folder} is a link, and what it leads to is not ours", remedy=remedy)
    return list(_deletable(folder)) if folder.is_dir() else []


def _deletable(folder: Path) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if _OF_A_RUN.fullmatch(path.name):
            yield path
        elif path.is_dir() and not path.is_symlink():
            yield from (below for below in sorted(path.iterdir()) if _OF_AN_EXPERIMENT.fullmatch(below.name))


def size_of(path: Path) -> tuple[int, int]:
    """Return the number of files at or below `path`, and their bytes; what vanishes meanwhile is left out."""
    if path.is_symlink() or not path.is_dir():
        try:
            return 1, path.lstat().st_size
        except OSError:
            return 0, 0
    found = [size_of(Path(entry.path)) for entry in _entries(path)]
    return sum(count for count, _ in found), sum(size for _, size in found)


def _entries(folder: Path) -> list[os.DirEntry[str]]:
    try:
        with os.scandir(folder) as entries:
            return list(entries)
    except OSError:
        return []


def ask_removal(store: Store, acting: str, run: str, who: str, live: str | None) -> None:
    """Commit that the files of `run` are no longer wanted; `acting` is the run whose log says so.

    Raises NotFound for an unknown run, Conflict for one whose files must stay.
    """
    found = next((one for one in old_runs(store.connection, live) if one.run == run), None)
    if found is None:
        raise NotFound(f"no run {run!r} in this home", remedy="`supervisorctl gc` lists them")
    if found.refusal is not None:
        raise Conflict(f"the files of run {run} stay: {found.refusal}")
    if not removal_queries.removal_asked(store.connection, run):
        RunWriter(store, acting).record("removal.asked", of=run, who=who)


def delete_files(home: Home, run: str) -> Deleted:
    """Delete what may go of a run's folder, as far as the disk lets it."""
    count = size = 0
    try:
        for path in deletable(home.run_folder(run)):
            found = size_of(path)
            _delete(path)
            count, size = count + found[0], size + found[1]
    except OSError as error:
        return Deleted(run, count, size, f"{error.filename}: {error.strerror}")
    return Deleted(run, count, size)


def _delete(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def record_deleted(store: Store, acting: str, deleted: Deleted) -> None:
    """Record what was deleted, if anything was."""
    if deleted.count:
        facts = asdict(deleted)
        RunWriter(store, acting).record("files.deleted", of=facts.pop("run"), **facts)


def remove_without_daemon(home: Home, run: str) -> dict[str, Any]:
    """Delete the files of a run of a home without a daemon; none can start meanwhile. Raises as `ask_removal`."""
    if not home.store.exists():
        raise NotFound(f"the home {home.root} has no run yet")
    lock, clock = take_lock(home, "deletes the files of an old run"), Clock()
    try:
        with closing(Store(home.store, clock)) as store:
            ask_removal(store, run, run, WITHOUT_DAEMON, None)
            deleted = delete_files(home, run)
            record_deleted(store, run, deleted)
            plan = queries.plan_of(store.connection, run)
        catch_up(home, clock, home.audit_log(plan))
    finally:
        os.close(lock)
    return asdict(deleted)
