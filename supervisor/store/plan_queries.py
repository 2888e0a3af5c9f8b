"""Reads the plan of a run from the store: its copy, the changes since, and what experiments made of it.

Each function reads from any connection, as those of queries. Standard library only.
"""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any

from supervisor.domain.lifecycle import ENDED, ProcessState
from supervisor.domain.run_words import BUILT_IN


@dataclass(frozen=True)
class RunPlan:
    """Holds the plan of a run: its own copy as `text`, and in `sets` the changes since (KEY=VALUE), oldest first.

    `source` is the plan's file or run_words.BUILT_IN; `options` are those of the start command, `policy` the hardware
    policy now, `data` the dataset. `specs` are the specs of the experiments that have not ended.
    """

    plan: str
    source: str
    text: str
    sets: tuple[str, ...]
    options: tuple[str, ...]
    policy: dict[str, Any]
    data: dict[str, Any]
    specs: dict[str, dict[str, Any]]

    @property
    def file(self) -> str:
        """The path of the plan's file, or the name of a built-in plan."""
        return self.plan if self.source == BUILT_IN else self.source


def plan_of_run(connection: sqlite3.Connection, run_id: str) -> RunPlan:
    """Return the plan of a run as it is now."""
    run = connection.execute("SELECT * FROM run WHERE id = ?", (run_id,)).fetchone()
    hardware = json.loads(run["hardware"])
    rows = connection.execute("SELECT * FROM experiment WHERE run = ? ORDER BY ordinal", (run_id,)).fetchall()
    return RunPlan(
        plan=run["plan"],
        source=run["source"],
        text=run["plan_text"],
        sets=tuple(_sets(connection, run_id)),
        options=tuple(hardware.get("options", ())),
        policy=hardware.get("policy", {}),
        data=json.loads(run["data"]),
        specs={row["name"]: json.loads(row["spec"]) for row in rows if ProcessState(row["state"]) not in ENDED},
    )


def planned_finalize(connection: sqlite3.Connection, run_id: str, name: str) -> dict[str, Any] | None:
    """Return the finalisation that the plan asks for; a search that ended in short time has a smaller one."""
    found: dict[str, Any] | None = None
    rows = connection.execute(
        "SELECT name, fields FROM event WHERE run = ? AND name IN ('run.created', 'plan.changed') ORDER BY seq",
        (run_id,),
    )
    for row in rows:
        fields = json.loads(row["fields"])
        if row["name"] == "run.created":
            found = next((spec.get("finalize") for spec in fields["specs"] if spec["name"] == name), found)
        else:
            found = fields["specs"].get(name, {}).get("finalize", found)
    return found


def _sets(connection: sqlite3.Connection, run_id: str) -> list[str]:
    """Return the changes since the run took its copy from the plan's file, of each key the newest, in the order typed.

    Those of single experiments are in their specs only; the hardware is everybody's.
    """
    found: dict[str, str] = {}
    for (text,) in connection.execute(
        "SELECT fields FROM event WHERE run = ? AND name = 'plan.changed' ORDER BY seq", (run_id,)
    ):
        fields = json.loads(text)
        if fields["plan_text"] is not None:
            found.clear()
        else:
            for each in fields["sets"]:
                key = each.partition("=")[0].strip()
                if fields["everywhere"] or key.startswith("hardware."):
                    # Taken out first, so that stop=... comes after an earlier stop.value=...
                    found.pop(key, None)
                    found[key] = each
    return list(found.values())
