"""Rebuilds a lost store from the audit logs. The old store is moved aside, never deleted, and an event records it.

A store is lost when it is damaged, missing, or behind the logs (an old copy was put in its place). The new one is made
beside it and renamed, so after a crash in between there is no store and the next start begins again.
"""

from __future__ import annotations

import contextlib
import heapq
import json
import logging
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from supervisor import failpoints
from supervisor.audit.hash_chain import Head, as_event, to_event, walk, wall_s
from supervisor.audit.rotation import all_parts, lines_of
from supervisor.clock import Clock
from supervisor.errors import LogDamaged, StoreDamaged, StoreError
from supervisor.filesystem import sync_folder
from supervisor.home import Home
from supervisor.store import lookups
from supervisor.store.database import Store
from supervisor.store.event import Event
from supervisor.store.replay import replay_all
from supervisor.typed_json import Record

log = logging.getLogger("supervisor")

NOT_REBUILT = "the readings of the sensors by the minute"
"""The rows that no event carries."""
MAX_PROBLEMS = 20
UNREPORTED = "store_rebuilt"
"""The key in `meta` of a rebuild that no event records yet."""


@dataclass
class Rebuilt(Record):
    """Describes a rebuild. `aside` is the old store's new path, None when there was no store."""

    cause: str
    aside: str | None = None
    events: int = 0
    runs: int = 0
    problems: list[str] = field(default_factory=list)
    """The facts that the logs do not have, at most MAX_PROBLEMS of them."""

    def sentence(self) -> str:
        lines = [f"the store was rebuilt from the logs, because {self.cause}: {self.runs} runs, {self.events} events"]
        if self.aside is not None:
            lines.append(f"the old one was moved to {self.aside}")
        lines.append(f"lost, because it is not in the logs: {'; '.join([NOT_REBUILT, *self.problems])}")
        return "\n  ".join(lines)


def audit_logs(home: Home) -> list[Path]:
    """Return the paths of the plans' logs, by name; also of a log with only older parts."""
    names = {name.name.split(".jsonl")[0] + ".jsonl" for name in home.logs.glob("*.jsonl*")}
    aside = {name for name in names if ".until-" in name or ".damaged-" in name}
    return [home.logs / name for name in sorted(names - aside - {"debug.jsonl"})]


def open_or_rebuild(home: Home, clock: Clock) -> tuple[Store, Rebuilt | None]:
    """Return the home's store, and its rebuild when no event records that yet.

    Raises StoreTooNew; LogDamaged when a log that is needed is damaged itself: then `supervisorctl repair` helps.
    """
    cause = why_lost(home, clock)
    if cause is not None:
        log.error("%s", rebuild(home, clock, cause).sentence())
    store = Store(home.store, clock)
    return store, unreported(store)


def why_lost(home: Home, clock: Clock) -> str | None:
    """Return why the store must be rebuilt; None when it is sound. Raises StoreTooNew, StoreError."""
    if not home.store.exists():
        return "it was missing" if any(last_event(path) for path in audit_logs(home)) else None
    try:
        store = Store(home.store, clock)
    except StoreDamaged as error:
        return error.message
    try:
        behind = [path.name for path in audit_logs(home) if leads(path, store)]
    finally:
        store.close()
    return f"{', '.join(behind)} has later events than the store" if behind else None


def leads(path: Path, store: Store) -> bool:
    """Return whether the log continues after the store's last event: then the store is an older copy."""
    last = last_event(path)
    newest = lookups.last_seq(store)
    if last is None or last["seq"] <= newest:
        return False
    if newest == 0:
        return True
    end = lookups.last_event_of_plan(store, path.name.removesuffix(".jsonl"))
    if end is None:
        return False
    # Another store's log can also have larger numbers, but not this store's last event.
    found = (as_event(line) for part in all_parts(path) for line in _readable(part))
    return any(record is not None and (record["seq"], wall_s(record["ts"])) == end for record in found)


def last_event(path: Path) -> dict[str, Any] | None:
    """Return the record of the log's last whole line; None when it is no event."""
    for part in reversed(all_parts(path)):
        last = None
        for line in _readable(part):
            last = line
        if last is not None:
            return as_event(last)
    return None


def _readable(part: Path) -> Iterator[bytes]:
    """Yield the part's lines up to the first damage; the reader that needs all lines reports it."""
    with contextlib.suppress(LogDamaged):
        yield from lines_of(part)


def rebuild(home: Home, clock: Clock, cause: str, *, tolerate: bool = False) -> Rebuilt:
    """Make the store anew from all logs. `tolerate` leaves out damaged lines instead of raising LogDamaged.

    Raises StoreError when two logs hold different events of one number.
    """
    rebuilt = Rebuilt(cause)
    beside = home.store.with_name(f"{home.store.name}.rebuilding")
    for suffix in ("", "-wal", "-shm"):
        beside.with_name(beside.name + suffix).unlink(missing_ok=True)
    store = Store(beside, clock)
    try:
        streams = [_events_of(path, rebuilt, tolerate) for path in audit_logs(home)]
        _fill(store, heapq.merge(*streams, key=lambda event: event.seq), rebuilt)
        rebuilt.runs = len(lookups.run_ids(store))
        rebuilt.aside = str(_free_name(home, clock)) if _files(home) else None
        # In the new store itself: the daemon that records it may be a later one.
        store.note_now(UNREPORTED, json.dumps(rebuilt.to_json()))
        # Move the write-ahead log's content into the one file that is renamed.
        store.connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    finally:
        store.close()
    if rebuilt.aside is not None:
        set_aside(home, Path(rebuilt.aside))
    failpoints.hit("rebuild.rename")
    beside.rename(home.store)
    sync_folder(home.state)
    failpoints.hit("rebuild.renamed")
    return rebuilt


def _fill(store: Store, events: Iterable[Event], rebuilt: Rebuilt) -> None:
    store.connection.execute("BEGIN IMMEDIATE")
    for problem in replay_all(store.connection, _counted(events, rebuilt)):
        _note(rebuilt, str(problem))
    store.connection.execute("COMMIT")


def _counted(events: Iterable[Event], rebuilt: Rebuilt) -> Iterator[Event]:
    """Yield the events and count them. Raises StoreError for two of one number."""
    last = 0
    for event in events:
        if event.seq == last:
            raise StoreError(
                f"two logs of this home have different events with the number {last}: they belong to two stores",
                remedy="move the older of the logs out of the logs folder",
            )
        last = event.seq
        rebuilt.events += 1
        yield event


def _events_of(path: Path, rebuilt: Rebuilt, tolerate: bool) -> Iterator[Event]:
    head: Head | None = None
    last = 0
    for part in all_parts(path):
        if not tolerate:
            for record, after in walk(lines_of(part), str(part), head):
                head = after
                yield to_event(record)
            continue
        try:
            for number, line in enumerate(lines_of(part), 1):
                record = as_event(line)  # type: ignore[assignment]
                if record is None or record["seq"] <= last:
                    _note(rebuilt, f"{part}, line {number}")
                    continue
                last = record["seq"]
                yield to_event(record)
        except (OSError, LogDamaged) as error:
            _note(rebuilt, str(error))


def _note(rebuilt: Rebuilt, problem: str) -> None:
    log.warning("rebuilding the store: %s", problem)
    if len(rebuilt.problems) < MAX_PROBLEMS:
        rebuilt.problems.append(problem)


def unreported(store: Store) -> Rebuilt | None:
    """Return the rebuild that made this store while no event records it; recording it deletes the UNREPORTED note."""
    noted = store.noted(UNREPORTED)
    return None if noted is None else Rebuilt.from_json(json.loads(noted))


def _files(home: Home) -> list[tuple[Path, str]]:
    """Return the store's files that exist, SQLite's files beside it included; each with its suffix."""
    named = [(home.store.with_name(home.store.name + suffix), suffix) for suffix in ("", "-wal", "-shm")]
    return [(path, suffix) for path, suffix in named if path.exists()]


def _free_name(home: Home, clock: Clock) -> Path:
    stamp = datetime.fromtimestamp(clock.wall_s(), UTC).strftime("%Y%m%d-%H%M%S")
    taken = {path.name for path in home.state.iterdir()}
    names = (f"{home.store.name}.aside-{stamp}{number}" for number in ("", *(f"-{n}" for n in range(2, 1000))))
    return home.state / next(name for name in names if name not in taken)


def set_aside(home: Home, aside: Path) -> None:
    """Rename the store to `aside`, and with it the files that SQLite keeps beside it.

    A write-ahead log that stayed would be applied to the next store of that name.
    """
    for path, suffix in _files(home):
        path.rename(aside.with_name(aside.name + suffix))
