"""Examines, repairs and backs up a home's store and logs. Originals are kept.

`examine` and its repairs need a home without a daemon: the caller holds its lock.
"""

from __future__ import annotations

import os
import sqlite3
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from supervisor.audit import rebuild
from supervisor.audit.hash_chain import Head, walk
from supervisor.audit.log import AuditLog, head_key, recorded_head
from supervisor.audit.rotation import all_parts, lines_of
from supervisor.clock import Clock
from supervisor.errors import LogDamaged, NotFound, StoreError, UsageError
from supervisor.filesystem import replacing
from supervisor.home import Home
from supervisor.home_lock import take_lock
from supervisor.store.database import Store, read_only

STEPS = 100_000
"""Instructions of SQLite between two questions whether a check ends; some milliseconds."""
SOUND = "ok"


@dataclass(frozen=True)
class Finding:
    """Holds one fault and its repair."""

    what: str
    cure: str
    apply: Callable[[], str]
    """Does the repair and returns a sentence about it. Raises SweepError."""


def examine(home: Home, clock: Clock) -> list[Finding]:
    """Return everything that is wrong, in the order of repair. Changes nothing. Raises StoreTooNew."""
    cause = rebuild.why_lost(home, clock)
    store_lost = [] if cause is None else [_store_lost(home, clock, cause)]
    logs = [
        (path, damage_of(path, _recorded(home, clock, path, lost=cause is not None)))
        for path in rebuild.audit_logs(home)
    ]
    damaged = [_log_damaged(home, clock, path, damage) for path, damage in logs if damage is not None]
    sound = [path for path, damage in logs if damage is None]
    return [*store_lost, *damaged, *([] if store_lost else _lags(home, clock, sound))]


def _lags(home: Home, clock: Clock, logs: list[Path]) -> list[Finding]:
    """Return the logs that end before the store: a daemon died between the two, and no later one has started."""
    if not home.store.exists():
        return []
    behind = []
    with closing(Store(home.store, clock)) as store:
        for path in logs:
            last = rebuild.last_event(path)
            missing = len(store.events_after(last["seq"] if last else 0, path.name.removesuffix(".jsonl")))
            if missing:
                behind.append(_log_lags(home, clock, path, missing))
    return behind


def _log_lags(home: Home, clock: Clock, path: Path, missing: int) -> Finding:
    return Finding(
        f"{path} lacks the last {missing} events of the store (a daemon died between the two writes)",
        "append them; the next start of this plan does it, too",
        lambda: f"{catch_up(home, clock, path)} lines were appended to {path}",
    )


def catch_up(home: Home, clock: Clock, path: Path) -> int:
    """Append the store's events that the log lacks, and note the new head; return the number of lines."""
    with closing(Store(home.store, clock)) as store, closing(AuditLog(path, recorded_head(path, store))) as log:
        lines = log.catch_up(store, path.name.removesuffix(".jsonl"))
        store.note(head_key(path), log.head.to_json())
        with store.change():
            pass  # for the note
    return lines


def damage_of(path: Path, recorded: Head | None) -> str | None:
    """Return the damage of a log with all its parts; None when its chain is whole. A torn last line is no damage."""
    try:
        for record, head in _walk_all(path):
            if recorded is not None and head.seq == recorded.seq and head.sha256 != recorded.sha256:
                return f"{path}: event {record['seq']} differs from the store's note of it"
    except (LogDamaged, OSError) as error:
        return str(error)
    return None


def _walk_all(path: Path) -> Iterator[tuple[dict[str, object], Head]]:
    head: Head | None = None
    for part in all_parts(path):
        for record, after in walk(lines_of(part), str(part), head):
            head = after
            yield record, after


def _recorded(home: Home, clock: Clock, path: Path, *, lost: bool) -> Head | None:
    if lost or not home.store.exists():
        return None
    with closing(Store(home.store, clock)) as store:
        return recorded_head(path, store)


def _store_lost(home: Home, clock: Clock, cause: str) -> Finding:
    return Finding(
        f"the store {home.store} is lost: {cause}",
        "rebuild it from the logs, without the lines that are damaged; the old one is kept beside it",
        lambda: rebuild.rebuild(home, clock, cause, tolerate=True).sentence(),
    )


def _log_damaged(home: Home, clock: Clock, path: Path, damage: str) -> Finding:
    def apply() -> str:
        stamp = datetime.fromtimestamp(clock.wall_s(), UTC).strftime("%Y%m%d-%H%M%S")
        plan = path.name.removesuffix(".jsonl")
        for part in all_parts(path):
            part.rename(part.with_name(part.name.replace(path.name, f"{plan}.damaged-{stamp}.jsonl", 1)))
        with closing(Store(home.store, clock)) as store, store.change() as change:
            change.forget(head_key(path))  # it is that of the log that was moved
        lines = catch_up(home, clock, path)
        return f"{path} was written anew from the store, {lines} lines; the old one is {plan}.damaged-{stamp}.jsonl"

    return Finding(
        f"the log is damaged: {damage}", "write it anew from the store; the damaged one is kept beside it", apply
    )


def back_up(store: Store, path: Path) -> int:
    """Copy the whole store to the new file `path`, 0600; return its size in bytes.

    It works while the daemon works. Raises UsageError when `path` exists, StoreError when the copy cannot be made or
    fails its check.
    """
    _reserve(path)
    try:
        with replacing(path) as partial:
            store.back_up(partial)
            _check_copy(partial)
    except (StoreError, OSError) as error:
        path.unlink(missing_ok=True)
        if isinstance(error, OSError):
            raise StoreError(f"{path} could not be written: {error.strerror}") from error
        raise
    return path.stat().st_size


def back_up_without_daemon(home: Home, path: Path) -> int:
    """Copy the store of a home without a daemon; none can start meanwhile. Raises AlreadyRunning, NotFound."""
    if not home.store.exists():
        raise NotFound(f"no store at {home.store}: this home has had no run")
    lock = take_lock(home)
    try:
        with closing(Store(home.store, Clock())) as store:
            return back_up(store, path)
    finally:
        os.close(lock)


def _reserve(path: Path) -> None:
    """Take the name of a new file, so that a file that exists stays. Raises UsageError, StoreError."""
    try:
        os.close(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600))
    except FileExistsError:
        raise UsageError(f"{path} exists already", remedy="give the name of a new file") from None
    except OSError as error:
        raise StoreError(f"{path} cannot be made: {error.strerror}", remedy="give another place for it") from error


def _check_copy(path: Path) -> None:
    with read_only(path) as connection:
        found = check_pages(connection, lambda: False)
    if found != SOUND:
        raise StoreError(f"the copy failed SQLite's check: {found}")


def check_pages(connection: sqlite3.Connection, ends: Callable[[], bool]) -> str | None:
    """Return SOUND, or SQLite's words about the first fault; None when `ends` returned True before the check was done.

    Raises sqlite3.DatabaseError for a file that is too damaged to be checked.
    """
    connection.set_progress_handler(lambda: int(ends()), STEPS)
    try:
        return str(connection.execute("PRAGMA quick_check(1)").fetchone()[0])
    except sqlite3.OperationalError as error:
        if error.sqlite_errorcode != sqlite3.SQLITE_INTERRUPT:
            raise
        return None
    finally:
        connection.set_progress_handler(None, 0)
