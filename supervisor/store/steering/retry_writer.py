"""Records what of a run is tried again, in one transaction. `domain.retry` decides it. Standard library only."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from supervisor.domain.lifecycle import Desired, ProcessState, TrialState, check_process_move, check_trial_move
from supervisor.domain.retry import Experiment, Retry, next_start
from supervisor.domain.time_accounting import driven_seconds
from supervisor.store import answer_queries, lookups
from supervisor.store.database import Change, Store

REASON = "to be retried"
"""The reason of an experiment that has ended and runs again."""


@dataclass(frozen=True)
class RetryWriter:
    """Reads the experiments of one run as `domain.retry` wants them, and records its decisions."""

    store: Store
    run_id: str

    def decided(self, decide: Callable[[Experiment], Retry], only: str | None = None) -> list[Retry]:
        """Return a decision for each experiment of the run, or for `only` one."""
        rows = lookups.experiments(self.store, self.run_id)
        return [decide(self._experiment(row["name"], row["state"])) for row in rows if only in (None, row["name"])]

    def due(self) -> list[Retry]:
        """Return the retries of the next start. Reads the tests alone: every start asks."""
        connection, rows = self.store.connection, lookups.experiments(self.store, self.run_id)
        tests = {row["name"]: answer_queries.test_of(connection, self.run_id, row["name"]) for row in rows}
        retries = [next_start(row["name"], ProcessState(row["state"]), tests[row["name"]]) for row in rows]
        return [retry for retry in retries if not retry.empty]

    def record(self, retries: Sequence[Retry], who: str) -> None:
        """Record what is tried again; the run is wanted and, where it had ended, open again."""
        run = lookups.run(self.store, self.run_id)
        with self.store.change(self.run_id) as change:
            if run["state"] == ProcessState.EXITED:
                change.record("run.moved", state=ProcessState.STOPPED)
            for retry in retries:
                self._record(change, retry, who)
            if run["desired"] == Desired.STOP:
                change.record("run.wanted", who=who)

    def _record(self, change: Change, retry: Retry, who: str) -> None:
        name = retry.experiment
        for number in retry.trials:
            row = lookups.trial(self.store, self.run_id, name, number)
            assert row is not None, "it was decided on from its row"
            check_trial_move(TrialState(row["state"]), TrialState.PENDING)
            change.record(
                "trial.retried", experiment=name, trial=number, attempt=row["attempt"], who=who,
                end_reason=row["end_reason"],
            )  # fmt: skip
        if retry.test:
            openings = lookups.test(self.store, self.run_id, name)["openings"]  # type: ignore[index]  # as above
            change.record("test.retried", experiment=name, who=who, openings=openings)
        if retry.reopened:
            if lookups.spec(self.store, self.run_id, name).get("left_out"):
                change.record("experiment.skip_revoked", experiment=name, who=who)
            state = ProcessState(lookups.experiment(self.store, self.run_id, name)["state"])
            check_process_move(state, ProcessState.STOPPED)
            change.record("experiment.moved", experiment=name, state=ProcessState.STOPPED, reason=REASON)

    def _experiment(self, name: str, state: str) -> Experiment:
        connection, run = self.store.connection, self.run_id
        spec = lookups.spec(self.store, run, name)
        trials = [{**dict(row), "params": json.loads(row["params"])} for row in lookups.trials(self.store, run, name)]
        left_s = seconds_left(self.store, run, name, spec.get("max_hours"))
        test = answer_queries.test_of(connection, run, name)
        return Experiment(name, ProcessState(state), spec, trials, test, out_of_time=left_s == 0.0)


def seconds_left(store: Store, run_id: str, name: str, max_hours: float | None) -> float | None:
    """Return what is left of an experiment's `max_hours`, which count while it runs; None without them.

    Hours that it has passed on are its own again when a person tries it again: that is more work than was planned.
    """
    if max_hours is None:
        return None
    events = lookups.events_of_time(store, run_id, name)
    spent_s = driven_seconds((event.name, event.wall_s, event.fields) for event in events)
    return max(0.0, max_hours * 3600.0 - spent_s)
