"""Records what happens to a run and its experiments, each change in one transaction. Only the daemon calls it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from supervisor.domain.command import Command
from supervisor.domain.finalists import phase
from supervisor.domain.lifecycle import AT_WORK, EndReason, ProcessState, check_process_move
from supervisor.domain.messages import SearchEnded
from supervisor.store import lookups, queries
from supervisor.store.database import Change, Store
from supervisor.store.projection import EXPERIMENT_STATES, RUN_STATES
from supervisor.store.reading_rollup import MinuteOfReadings, ReadingTable

KILLED_DRIVER = "killed_driver"
"""Cause of a lost attempt: the driver died while it handled a message of this trial."""


def create_run(
    store: Store,
    run_id: str,
    *,
    plan: str,
    fingerprint: str,
    source: str,
    plan_text: str,
    hardware: dict[str, Any],
    data: dict[str, Any],
    specs: Sequence[dict[str, Any]],
    queued: Mapping[str, Any] | None = None,
) -> None:
    """Create a run and its experiments, all STOPPED; `queued` are the fields of `queue.advanced`, if it has waited."""
    with store.change(run_id) as change:
        change.record(
            "run.created", plan=plan, fingerprint=fingerprint, experiments=len(specs), data=data, source=source,
            plan_text=plan_text, hardware=hardware, specs=list(specs),
        )  # fmt: skip
        if queued is not None:
            change.record("queue.advanced", **queued)


class RunWriter:
    """Checks and records the events of one run and its experiments."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._readings = ReadingTable(run_id)

    def record(self, name: str, /, **where_and_fields: Any) -> None:
        """Record an event. Raises ValueError when it moves a run or an experiment to a state that it cannot go to."""
        with self.store.change(self.run_id) as change:
            self._check_move(name, where_and_fields)
            change.record(name, **where_and_fields)

    def _check_move(self, name: str, fields: dict[str, Any]) -> None:
        if name in RUN_STATES or name == "run.moved":
            check_process_move(self.run_state(), RUN_STATES.get(name) or fields["state"])
        elif name in EXPERIMENT_STATES or name == "experiment.moved":
            old = self.experiment_state(fields["experiment"])
            check_process_move(old, EXPERIMENT_STATES.get(name) or fields["state"])

    def move_run(self, state: ProcessState) -> None:
        """Move the run to a state that no other event names. Raises ValueError as `record` does."""
        self.record("run.moved", state=state)

    def move_experiment(self, name: str, state: ProcessState, reason: str | None = None) -> None:
        """Move an experiment to a state that no other event names. Raises ValueError as `record` does."""
        self.record("experiment.moved", experiment=name, state=state, reason=reason)

    def run_state(self) -> ProcessState:
        return ProcessState(lookups.run(self.store, self.run_id)["state"])

    def experiment_state(self, name: str) -> ProcessState:
        return ProcessState(lookups.experiment(self.store, self.run_id, name)["state"])

    def end_search(self, name: str, message: SearchEnded) -> None:
        """Record that an experiment's search ends; a second time changes nothing.

        Raises ValueError when the store has another number of trials: the numbers of later ones begin there.
        """
        with self.store.change(self.run_id) as change:
            if lookups.spec(self.store, self.run_id, name).get("searched") is not None:
                return
            rows = lookups.trials(self.store, self.run_id, name)
            own = sum(phase(row["source"]) == 0 for row in rows)
            if message.trials != own or own != len(rows):
                raise ValueError(f"expected the end of a search of {own} trials, found {message.trials}")
            change.record(
                "experiment.search_ended", experiment=name, reason=message.reason, trials=own, top=message.top,
                seeds=message.seeds,
            )  # fmt: skip

    # The operator's commands

    def commands(self) -> list[Command]:
        """Return the operator's commands in force."""
        return lookups.commands(self.store, self.run_id)

    def schedule(self) -> Command | None:
        """Return the schedule's last command; None before the first."""
        return lookups.schedule(self.store, self.run_id)

    def put_command(self, command: Command, mode: str) -> None:
        """Put an operator's command in force, across restarts; an earlier one of its scope is replaced."""
        self.record(
            "run.paused", who=command.who, reason=command.reason, mode=mode, scope=command.scope,
            command=command.to_json(),
        )  # fmt: skip

    def drop_command(self, scope: str, who: str | None) -> bool:
        """Lift the operator's command of `scope`; return False when none was in force."""
        with self.store.change(self.run_id) as change:
            return drop_command(self.store, change, self.run_id, scope, who)

    # Ends and losses

    def recover(self) -> int:
        """Stop all that was at work under the last daemon; return how many trials went back to the queue."""
        with self.store.change(self.run_id) as change:
            state = self.run_state()
            states = [row["state"] for row in lookups.experiments(self.store, self.run_id)]
            trials = lookups.live_trials(self.store, self.run_id)
            for row in trials:
                requeue(change, row, "daemon_died")
            if state in AT_WORK:
                change.record("daemon.recovered", requeued=len(trials))
            elif state is ProcessState.FATAL or any(state in AT_WORK for state in states):
                change.record("run.reopened")
        return len(trials)

    def requeue_live_trials(self, name: str, cause: str) -> int:
        """Put the live trials of an experiment back in the queue; return how many. Their attempts are lost."""
        with self.store.change(self.run_id) as change:
            trials = lookups.live_trials(self.store, self.run_id, name)
            for row in trials:
                requeue(change, row, cause)
        return len(trials)

    def blame(self, name: str, number: int, error: str) -> None:
        """Record that a driver died of a live trial; the second time the trial ends, and not its experiment."""
        with self.store.change(self.run_id) as change:
            row = next(
                (row for row in lookups.live_trials(self.store, self.run_id, name) if row["number"] == number), None
            )
            if row is None:
                return
            lost = queries.lost_attempts(self.store.connection, self.run_id, name)
            if KILLED_DRIVER not in lost.get(number, []):
                requeue(change, row, KILLED_DRIVER, error)
                return
            change.record(
                "trial.failed", **place(row), end_reason=EndReason.ERROR, error=f"two drivers died of it: {error}",
                seconds=None, record={},
            )  # fmt: skip

    def end_unfinished_trials(self, name: str, why: str) -> int:
        """End the trials that an ended experiment leaves, as if by the operator; return how many."""
        with self.store.change(self.run_id) as change:
            trials = lookups.unfinished_trials(self.store, self.run_id, name)
            for row in trials:
                change.record(
                    "trial.failed", **place(row), end_reason=EndReason.OPERATOR, error=why, seconds=None, record={}
                )
        return len(trials)

    # Readings

    def keep_readings(self, minutes: Sequence[MinuteOfReadings]) -> None:
        """Keep these minutes of readings, and delete those that are too old."""
        with self.store.change(self.run_id) as change:
            self._readings.keep(change, minutes)


def place(row: Any) -> dict[str, Any]:
    """Return the place of a trial's current attempt, as the keywords of an event."""
    return {"experiment": row["experiment"], "trial": row["number"], "attempt": row["attempt"]}


def requeue(
    change: Change, row: Any, cause: str, error: str | None = None, *, drill: bool = False, printed: str | None = None
) -> None:
    """Record that a trial's current attempt is lost: the trial waits for the next."""
    change.record("trial.requeued", **place(row), cause=cause, error=error, drill=drill, printed=printed)


def drop_command(store: Store, change: Change, run_id: str, scope: str, who: str | None) -> bool:
    """Record in `change` that the operator's command of `scope` is lifted; return False when none was in force."""
    in_force = any(command.scope == scope for command in lookups.commands(store, run_id))
    if in_force:
        change.record("run.resumed", who=who, scope=scope)
    return in_force
