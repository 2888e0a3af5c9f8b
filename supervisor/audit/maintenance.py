"""What is wrong with a home's store and logs, what can be done, and, when asked, doing it. Originals are kept.

No daemon may live in the home: the caller holds its lock.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from supervisor.audit import rebuild
from supervisor.audit.hash_chain import Head, walk
from supervisor.audit.log import AuditLog, head_key, recorded_head
from supervisor.audit.rotation import all_parts, lines_of
from supervisor.clock import Clock
from supervisor.errors import LogDamaged
from supervisor.home import Home
from supervisor.store.database import Store


@dataclass(frozen=True)
class Finding:
    """One thing that is wrong, and what `--apply` does about it."""

    what: str
    cure: str
    apply: Callable[[], str]
    """Does it; says what was done. Raises SweepError."""


def examine(home: Home, clock: Clock) -> list[Finding]:
    """Everything that is wrong, in the order in which it is to be mended. Changes nothing. Raises StoreTooNew."""
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
    """Logs that end before the store does: a daemon died between the two, and no other has come since."""
    if not home.store.exists():
        return []
    store = Store(home.store, clock)
    try:
        behind = []
        for path in logs:
            last = rebuild.last_event(path)
            missing = len(store.events_after(last["seq"] if last else 0, path.name.removesuffix(".jsonl")))
            if missing:
                behind.append(_log_lags(home, clock, path, missing))
        return behind
    finally:
        store.close()


def _log_lags(home: Home, clock: Clock, path: Path, missing: int) -> Finding:
    def apply() -> str:
        return f"{_catch_up(home, clock, path)} lines were appended to {path}"

    return Finding(
        f"{path} lacks {missing} events at its end that the store has (a daemon died between the two)",
        "append them; the next start of this plan would, too",
        apply,
    )


def _catch_up(home: Home, clock: Clock, path: Path) -> int:
    """Appends what the store has beyond the log, and notes the new head; how many lines."""
    store = Store(home.store, clock)
    try:
        log = AuditLog(path, recorded_head(path, store))
        lines = log.catch_up(store, path.name.removesuffix(".jsonl"))
        store.note(head_key(path), log.head.to_json())
        with store.change():
            pass  # for the note
        log.close()
    finally:
        store.close()
    return lines


def damage_of(path: Path, recorded: Head | None) -> str | None:
    """What is wrong with a log, all its parts together; None when its chain is whole. A torn tail is no damage."""
    try:
        for record, head in _walk_all(path):
            if recorded is not None and head.seq == recorded.seq and head.sha256 != recorded.sha256:
                return f"{path}: event {record['seq']} is not as the store knows that it was written"
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
    store = Store(home.store, clock)
    try:
        return recorded_head(path, store)
    finally:
        store.close()


def _store_lost(home: Home, clock: Clock, cause: str) -> Finding:
    def apply() -> str:
        return rebuild.rebuild(home, clock, cause, tolerate=True).sentence()

    return Finding(
        f"the store {home.store} is lost: {cause}",
        "rebuild it from the logs, without the lines that are damaged; the old one is kept beside it",
        apply,
    )


def _log_damaged(home: Home, clock: Clock, path: Path, damage: str) -> Finding:
    def apply() -> str:
        stamp = datetime.fromtimestamp(clock.wall_s(), UTC).strftime("%Y%m%d-%H%M%S")
        plan = path.name.removesuffix(".jsonl")
        for part in all_parts(path):
            part.rename(part.with_name(part.name.replace(path.name, f"{plan}.damaged-{stamp}.jsonl", 1)))
        _forget_head(home, clock, path)
        lines = _catch_up(home, clock, path)
        return f"{path} was written anew from the store, {lines} lines; the old one is {plan}.damaged-{stamp}.jsonl"

    return Finding(
        f"the log is damaged: {damage}", "write it anew from the store; the damaged one is kept beside it", apply
    )


def _forget_head(home: Home, clock: Clock, path: Path) -> None:
    """The head in the store is that of the log that was moved."""
    store = Store(home.store, clock)
    try:
        with store.change() as change:
            change.execute("DELETE FROM meta WHERE key = ?", head_key(path))
    finally:
        store.close()
