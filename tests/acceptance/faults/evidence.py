"""Read the evidence of a fault: the log's lines, the store's rows, the checker's verdicts.

`recorded`, `stored`, `audited` and `nothing_begun` need no daemon, and disturb none.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from supervisor.audit import evidence as audit_evidence
from supervisor.audit import invariants, rotation
from supervisor.home import Home
from supervisor.store.database import read_only


def recorded(home: Home, plan: str = "p") -> list[dict[str, Any]]:
    """Return the events of all parts of the plan's log, in order, without a last line that is not complete yet."""
    lines = [line for part in rotation.all_parts(home.audit_log(plan)) for line in rotation.lines_of(part)]
    return [json.loads(line) for line in lines if line.endswith(b"\n")]


def names(events: list[dict[str, Any]]) -> list[str]:
    return [str(event["event"]) for event in events]


def stored(home: Home, sql: str, *values: Any) -> list[dict[str, Any]]:
    """Return rows of the store, which a daemon may have open."""
    with read_only(home.store) as connection:
        return [dict(row) for row in connection.execute(sql, values)]


def audited(home: Home, plan: str = "p") -> list[dict[str, Any]]:
    """Assert that the checker finds every promise kept for the plan's one run; return the run's events in the store."""
    with read_only(home.store) as connection:
        evidence = audit_evidence.gather(home, connection, plan)
    broken = [verdict for verdict in invariants.check(evidence) if not verdict.holds]
    assert broken == []
    return [{"event": event.name, "trial": event.trial, "attempt": event.attempt, **event.fields}
            for event in evidence.logged]  # fmt: skip


def nothing_begun(home: Home) -> None:
    """Assert that no run was made: not in the store, if there is one, not on the disk, not in a log."""
    if home.store.exists():
        assert stored(home, "SELECT count(*) AS runs FROM run") == [{"runs": 0}]
    assert [path.name for path in home.runs.glob("*")] == []
    assert [path.name for path in home.logs.glob("*.jsonl*") if path.name != "debug.jsonl"] == []


def open_to_others(folder: Path) -> Iterator[str]:
    """Yield every path from `folder` down that its group or others may touch, with its mode."""
    for path in (folder, *folder.rglob("*")):
        mode = path.lstat().st_mode
        if not stat.S_ISLNK(mode) and stat.S_IMODE(mode) & 0o077:
            yield f"{path} {stat.S_IMODE(mode):o}"
