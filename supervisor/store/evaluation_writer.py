"""Records the test of an experiment's answer: its opening, its result, its failure.

The opening is committed before the first look at the test days, so a crash cannot hide a look. A test that was opened
and never scored may be opened again, and each opening is counted. Standard library at import.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from supervisor.domain.answer import MAX_TRIES
from supervisor.domain.command import Action
from supervisor.domain.day_set import DaySet, shared_days
from supervisor.errors import TestRefused
from supervisor.store import answer_queries, lookups, queries
from supervisor.store.database import Store
from supervisor.store.projection import opening_at


@dataclass(frozen=True)
class EvaluationWriter:
    """Checks and records the tests of one run."""

    store: Store
    run_id: str

    def open_test(self, name: str, opening: dict[str, Any]) -> dict[str, Any]:
        """Record that the test is opened now; return `opening` with `at`, `openings` and `earlier_looks` filled in.

        `opening` has by, reason, dataset, dataset_sha256, split, horizon, trials, folds, sealed_days. Raises
        TestRefused, with an event, when the test was scored before, or was opened MAX_TRIES times without a result and
        no person has asked for it since.
        """
        with self.store.change(self.run_id) as change:
            row = lookups.test(self.store, self.run_id, name)
            before = 0 if row is None else int(row["openings"])
            refusal = _why_refused(row)
            if refusal is not None:
                change.record("test.refused", experiment=name, by=opening["by"], reason=refusal, openings=before)
            else:
                full = {**opening, "openings": before + 1, "earlier_looks": self._earlier_looks(opening["sealed_days"])}
                change.record("test.opened", experiment=name, **full)
        if refusal is not None:
            raise TestRefused(f"{name}: {refusal}")
        return {**full, "at": opening_at(change.wall_s)}

    def keep_result(self, name: str, result: dict[str, Any]) -> None:
        """Record the result of the test, which stands from now on. Raises TestRefused when no test is open."""
        loss = result["models"]["patchtst"]["test"]["bce"]
        with self.store.change(self.run_id) as change:
            row = lookups.test(self.store, self.run_id, name)
            if row is None or row["result"] is not None:
                raise TestRefused(f"{name}: expected an open test, found {'none' if row is None else 'a result'}")
            change.record(
                "test.scored", experiment=name, bce=loss["value"], low=loss["low"], high=loss["high"],
                prior=result["models"]["prior"]["test"]["bce"]["value"], days=result["windows"]["test"],
                last_day=result["dates"]["test"][1], result=result,
            )  # fmt: skip

    def record_failure(self, name: str, error: str, *, outside: bool) -> None:
        """Record that the test has no result; the result of the experiment's search stands.

        `outside` says that the machine was the cause, so the next start opens the test again by itself.
        """
        with self.store.change(self.run_id) as change:
            change.record("test.failed", experiment=name, error=error, outside=outside)

    def _earlier_looks(self, days: Sequence[DaySet]) -> list[dict[str, Any]]:
        """Return each other run that opened any of these test days, and how many of them."""
        by_run: dict[str, list[DaySet]] = {}
        for run, opening in lookups.openings_elsewhere(self.store, self.run_id):
            by_run.setdefault(run, []).extend(opening["sealed_days"])
        shared = {run: shared_days(days, theirs) for run, theirs in by_run.items()}
        return [{"run": run, "days": count} for run, count in shared.items() if count]

    def trials(self, name: str) -> list[dict[str, Any]]:
        """Return the experiment's trials (queries.trials_of)."""
        return queries.trials_of(self.store.connection, self.run_id, name)

    def spec(self, name: str) -> dict[str, Any]:
        return lookups.spec(self.store, self.run_id, name)

    def is_held(self) -> bool:
        """Return whether a command of the operator or the schedule is in force: no new work starts then."""
        schedule = lookups.schedule(self.store, self.run_id)
        held = schedule is not None and schedule.action is not Action.RUN
        return held or bool(lookups.commands(self.store, self.run_id))

    def scored(self, name: str) -> bool:
        return answer_queries.evaluation_of(self.store.connection, self.run_id, name) is not None


def _why_refused(row: Any) -> str | None:
    """Return why a test may not be opened (again), given its row (None: never opened); None when it may."""
    if row is None:
        return None
    if row["result"] is not None:
        return "it was tested before, and the result stands"
    if row["tries"] >= MAX_TRIES:
        return f"it was opened {row['openings']} times and each time ended without a result"
    return None
