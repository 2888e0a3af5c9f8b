"""Sets a begun finalisation aside, inside the change of the verb for which the experiment chooses anew.

The rule is pure (domain.early_ends.why_not_set_aside). Standard library only.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from supervisor.domain.early_ends import why_not_set_aside
from supervisor.domain.finalists import phase
from supervisor.domain.lifecycle import TRIAL_ENDED, Desired, EndReason, ProcessState, check_process_move
from supervisor.domain.scope import trial_scope
from supervisor.store import answer_queries, lookups, plan_queries
from supervisor.store.database import Change, Store
from supervisor.store.run_writer import drop_command, place

CHOOSES_ANEW = "to choose anew"
"""The reason of an experiment that had ended and whose finalisation was set aside."""


@dataclass(frozen=True)
class SetAsideWriter:
    """Sets finalisations of one run aside. A verb asks `why_not` first, then calls `set_aside` in its own change."""

    store: Store
    run_id: str

    def has_begun(self, name: str) -> bool:
        """Return whether a finalisation of the experiment has begun and counts."""
        return bool(self._trials(name))

    def why_not(self, name: str) -> str | None:
        """Return why a begun finalisation of the experiment cannot be set aside; None when it can, or has not begun."""
        test = answer_queries.test_of(self.store.connection, self.run_id, name)
        rows = [dict(row) for row in lookups.trials(self.store, self.run_id, name)]
        return why_not_set_aside(rows, test)

    def set_aside(self, change: Change, name: str, who: str, verb: str) -> int:
        """Record in `change` that a begun finalisation counts no more; return how many trials it had, 0 without one.

        Its unfinished trials end, the search goes on. Call it before the events of the verb: they then find the spec
        of the search that goes on.
        """
        rows = self._trials(name)
        if not rows:
            return 0
        for row in rows:
            if row["state"] not in TRIAL_ENDED:
                change.record(
                    "trial.failed", **place(row), end_reason=EndReason.SET_ASIDE, seconds=None, record={},
                    error=f"its finalisation was set aside: {who} asked for `{verb}`",
                )  # fmt: skip
                drop_command(self.store, change, self.run_id, trial_scope(name, row["number"]), who)
        change.record(
            "finalisation.set_aside", experiment=name, who=who, verb=verb, count=len(rows),
            trials=[row["number"] for row in rows],
            finalize=plan_queries.planned_finalize(self.store.connection, self.run_id, name),
        )  # fmt: skip
        return len(rows)

    def reopen(self, change: Change, name: str, who: str) -> None:
        """Record in `change` that an experiment that has finished chooses anew: it is open again, and so is its run."""
        state = ProcessState(lookups.experiment(self.store, self.run_id, name)["state"])
        if state is ProcessState.EXITED:
            reopen_run(self.store, change, self.run_id, who)
            check_process_move(state, ProcessState.STOPPED)
            change.record("experiment.moved", experiment=name, state=ProcessState.STOPPED, reason=CHOOSES_ANEW)

    def _trials(self, name: str) -> list[Any]:
        """Return the rows of the finalisation that counts, by number; its walk-forward is part of it."""
        return [row for row in lookups.trials(self.store, self.run_id, name) if phase(row["source"]) > 0]


def reopen_run(store: Store, change: Change, run_id: str, who: str) -> None:
    """Record in `change` that a run is wanted and, where it had ended, open again."""
    run = lookups.run(store, run_id)
    if run["state"] == ProcessState.EXITED:
        change.record("run.moved", state=ProcessState.STOPPED)
    if run["desired"] == Desired.STOP:
        change.record("run.wanted", who=who)
