"""Gathers the evidence of one run for the audit: its log, the log's replay, its store, its checkpoints."""

from __future__ import annotations

import hashlib
import sqlite3
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from supervisor.audit.hash_chain import Head, as_event, to_event, walk
from supervisor.audit.rotation import all_parts, lines_of
from supervisor.errors import LogDamaged
from supervisor.home import Home
from supervisor.store import queries
from supervisor.store.event import Event
from supervisor.store.replay import replay_all
from supervisor.store.schema import SCHEMA

Rows = dict[str, list[dict[str, Any]]]

MAGIC = b"SWEEPCK1"
"""A checkpoint ends in MAGIC and the SHA-256 of everything before it (training.checkpoint; a test compares)."""
TRAILER_BYTES = len(MAGIC) + 32


@dataclass
class Evidence:
    """Holds the evidence of one run."""

    run: str
    plan: str
    chain_faults: list[str] = field(default_factory=list)
    lines: int = 0
    logged: list[Event] = field(default_factory=list)
    """The run's events in the log, in the log's order."""
    committed: list[Event] = field(default_factory=list)
    """The run's events in the store, in the order of their numbers."""
    numbers: tuple[int, int, int] = (0, 0, 0)
    """The count, the first and the last number of all events in the store."""
    stored: Rows = field(default_factory=dict)
    replayed: Rows = field(default_factory=dict)
    replay_faults: list[str] = field(default_factory=list)
    checkpoint_faults: list[str] = field(default_factory=list)
    checkpoints: int = 0
    """The number of checkpoints that were checked: those of trials that have not ended."""


def gather(
    home: Home, connection: sqlite3.Connection, run_or_plan: str | None = None, *, live: bool = False
) -> Evidence:
    """Read the evidence of a run; change nothing. Raises NotFound when there is no such run.

    `live`: the connection is to a copy of a live daemon's store; events that the log has beyond it are left out.
    """
    run = queries.run_named(connection, run_or_plan)
    plan = queries.plan_of(connection, run)
    evidence = Evidence(run, plan)
    _read_log(evidence, home.audit_log(plan), connection)
    _read_store(evidence, connection)
    if live:
        evidence.logged = [event for event in evidence.logged if event.seq <= evidence.numbers[2]]
    _replay(evidence)
    _check_checkpoints(evidence, home.run_folder(run))
    return evidence


def _read_log(evidence: Evidence, path: Path, connection: sqlite3.Connection) -> None:
    recorded = _recorded(connection, path.stem, evidence)
    head, seen = None, recorded is None
    parts = all_parts(path)
    if not parts:
        evidence.chain_faults.append(f"{path} is missing")
    for part in parts:
        try:
            for record, after in walk(lines_of(part), str(part), head):
                head = after
                seen = seen or after == recorded
                evidence.lines += 1
                if record.get("run") == evidence.run:
                    evidence.logged.append(to_event(record))
        except (LogDamaged, OSError) as error:
            evidence.chain_faults.append(str(error))
            head = None
            _read_damaged(evidence, part)
    if not seen and recorded is not None:
        evidence.chain_faults.append(f"event {recorded.seq}, the log's last by the store's note, is missing")


def _read_damaged(evidence: Evidence, part: Path) -> None:
    """Read the sound lines of a damaged part: without them other checks would hold for want of events."""
    known = {event.seq for event in evidence.logged}
    try:
        for line in lines_of(part):
            record = as_event(line)
            if record is not None and record.get("run") == evidence.run and record["seq"] not in known:
                evidence.logged.append(to_event(record))
    except (LogDamaged, OSError) as error:
        evidence.chain_faults.append(str(error))


def _recorded(connection: sqlite3.Connection, plan: str, evidence: Evidence) -> Head | None:
    """Return the log's head from the store's note; None without one."""
    noted = queries.noted(connection, f"audit_head:{plan}")
    try:
        return None if noted is None else Head.from_json(noted)
    except ValueError as error:
        evidence.chain_faults.append(f"the store's note of the log's end cannot be read: {error}")
        return None


def _read_store(evidence: Evidence, connection: sqlite3.Connection) -> None:
    evidence.stored = queries.tables_of(connection, evidence.run)
    evidence.numbers = queries.event_numbers(connection)
    evidence.committed = queries.events_of(connection, evidence.run)


def _replay(evidence: Evidence) -> None:
    with closing(sqlite3.connect(":memory:")) as memory:
        memory.row_factory = sqlite3.Row
        memory.executescript(SCHEMA)
        evidence.replay_faults += map(str, replay_all(memory, evidence.logged))
        evidence.replayed = queries.tables_of(memory, evidence.run)


def _check_checkpoints(evidence: Evidence, run_folder: Path) -> None:
    for trial in evidence.stored["trial"]:
        if trial["end_reason"] is None and trial["checkpoint"] is not None:
            evidence.checkpoints += 1
            recorded = Path(trial["checkpoint"])
            # A home that was moved has it in another place than the store says.
            here = run_folder / trial["experiment"] / str(trial["number"]) / recorded.name
            fault = checkpoint_fault(here if here.exists() else recorded)
            if fault is not None:
                evidence.checkpoint_faults.append(
                    f"{trial['experiment']} trial {trial['number']}: {trial['checkpoint']}: {fault}"
                )


def checkpoint_fault(path: Path) -> str | None:
    """Return the fault of the checkpoint at `path`, None when it has none. Loads no torch.

    A folder (of a user's own trainable) has no checksum: it must exist and hold something.
    """
    if path.is_dir():
        return None if any(path.iterdir()) else "the folder is empty"
    try:
        with path.open("rb") as file:
            left, digest = path.stat().st_size - TRAILER_BYTES, hashlib.sha256()
            while left > 0 and (piece := file.read(min(left, 1 << 20))):
                digest.update(piece)
                left -= len(piece)
            trailer = file.read(TRAILER_BYTES)
    except OSError as error:
        return str(error.strerror)
    if not trailer.startswith(MAGIC):
        return "expected a checkpoint's trailer at its end, found none: another file, or one that was cut short"
    return None if trailer[len(MAGIC) :] == digest.digest() else "its checksum does not match"
