"""Defines the event: one committed fact, in the store's table and the audit log. Standard library only."""

from __future__ import annotations

import json
import sqlite3
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """Holds a committed fact. `seq` counts up over the life of the store."""

    seq: int
    wall_s: float
    name: str
    run: str | None
    experiment: str | None
    trial: int | None
    attempt: int | None
    fields: dict[str, Any]

    @staticmethod
    def of_row(row: sqlite3.Row) -> Event:
        """Return the event of a row of the table `event`."""
        return Event(
            row["seq"], row["wall"], row["name"], row["run"], row["experiment"], row["trial"], row["attempt"],
            json.loads(row["fields"]),
        )  # fmt: skip
