"""What is written about an experiment's answer: its warm start, the opening of its test, and the test's result.

The opening is committed before anyone looks, so a crash cannot hide a look; one that was never scored may be tried
again, and says how often. Standard library at import.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from supervisor.errors import TestRefused
from supervisor.plan import warm_start
from supervisor.store import queries
from supervisor.store.database import Store

MAX_OPENINGS = 3
"""A test that died this often before its result was kept is given up."""


def opening_at(wall_s: float) -> str:
    """When a test was opened, as its record says it."""
    return datetime.fromtimestamp(wall_s, UTC).isoformat(timespec="seconds")


@dataclass(frozen=True)
class EvaluationWriter:
    """The writes of one run."""

    store: Store
    run_id: str

    def warm(self, name: str, spec: dict[str, Any]) -> list[dict[str, Any]]:
        """Puts the next smaller budget's best behind the plan's points, if the experiment has not begun; these points.

        Frozen into the experiment's spec: every driver of it sees the same points.
        """
        if spec.get("warm_start") is None or queries.trials_of(self.store.connection, self.run_id, name):
            return []
        rows = self.store.rows("SELECT name, spec FROM experiment WHERE run = ? ORDER BY ordinal", self.run_id)
        donor = warm_start.donor(spec, [json.loads(row["spec"]) for row in rows])
        if donor is None:
            return []
        points = warm_start.points(spec, donor, queries.trials_of(self.store.connection, self.run_id, donor["name"]))
        if points:
            warmed = {**spec, "enqueue": [*spec["enqueue"], *points]}
            with self.store.change(self.run_id) as change:
                change.execute(
                    "UPDATE experiment SET spec = ? WHERE run = ? AND name = ?", json.dumps(warmed), self.run_id, name
                )
                change.record(
                    "experiment.warmed", experiment=name, donor=donor["name"], count=len(points), points=points
                )  # fmt: skip
        return points

    def open_test(self, name: str, opening: dict[str, Any]) -> dict[str, Any]:
        """Writes down that the test is opened now; the opening with `at`, `openings` and `earlier_runs` filled in.

        `opening` has by, reason, dataset, dataset_sha256, split, horizon, trials. Raises TestRefused, with an event,
        when the test was scored before or was opened MAX_OPENINGS times without a result.
        """
        with self.store.change(self.run_id) as change:
            row = change.execute(
                "SELECT openings, result FROM evaluation WHERE run = ? AND experiment = ?", self.run_id, name
            ).fetchone()
            before = 0 if row is None else int(row["openings"])
            refusal = None
            if row is not None and row["result"] is not None:
                refusal = "it was tested before, and the result stands"
            elif before >= MAX_OPENINGS:
                refusal = f"it was opened {before} times and never came to a result"
            if refusal is not None:
                change.record("test.refused", experiment=name, by=opening["by"], reason=refusal, openings=before)
            else:
                earlier = change.execute(
                    "SELECT DISTINCT run FROM evaluation WHERE run != ?"
                    " AND json_extract(opening, '$.dataset_sha256') = ? ORDER BY run",
                    self.run_id, opening["dataset_sha256"],
                ).fetchall()  # fmt: skip
                full = {**opening, "openings": before + 1, "earlier_runs": [other["run"] for other in earlier]}
                change.record("test.opened", experiment=name, **full)
                full["at"] = opening_at(change.wall_s)
                change.execute(
                    "INSERT INTO evaluation VALUES (?, ?, ?, ?, NULL, ?)"
                    " ON CONFLICT DO UPDATE SET openings = excluded.openings, opening = excluded.opening,"
                    " wall = excluded.wall",
                    self.run_id, name, before + 1, json.dumps(full), change.wall_s,
                )  # fmt: skip
        if refusal is not None:
            raise TestRefused(f"{name}: {refusal}")
        return full

    def keep_result(self, name: str, result: dict[str, Any]) -> None:
        """The test is over: its result stands from now on."""
        loss = result["models"]["patchtst"]["test"]["bce"]
        with self.store.change(self.run_id) as change:
            change.execute(
                "UPDATE evaluation SET result = ?, wall = ? WHERE run = ? AND experiment = ? AND result IS NULL",
                json.dumps(result, allow_nan=False), change.wall_s, self.run_id, name,
            )  # fmt: skip
            change.record(
                "test.scored", experiment=name, bce=loss["value"], low=loss["low"], high=loss["high"],
                prior=result["models"]["prior"]["test"]["bce"]["value"], days=result["windows"]["test"],
                last_day=result["dates"]["test"][1], result=result,
            )  # fmt: skip

    def tell_failed(self, name: str, error: str) -> None:
        """The test could not be completed; the experiment's search stands."""
        with self.store.change(self.run_id) as change:
            change.record("test.failed", experiment=name, error=error)

    def trials(self, name: str) -> list[dict[str, Any]]:
        """The experiment's trials (snapshot.trials_of)."""
        return queries.trials_of(self.store.connection, self.run_id, name)

    def spec(self, name: str) -> dict[str, Any]:
        row = self.store.row("SELECT spec FROM experiment WHERE run = ? AND name = ?", self.run_id, name)
        assert row is not None
        spec: dict[str, Any] = json.loads(row["spec"])
        return spec

    def operator_holds(self) -> bool:
        """Whether an operator's command is in force: none of them lets anything new start."""
        return self.store.row("SELECT 1 FROM command WHERE run = ?", self.run_id) is not None

    def scored(self, name: str) -> bool:
        return queries.evaluation_of(self.store.connection, self.run_id, name) is not None
