"""What may be written to the store about a run, each as one transaction with its events. The only caller is the daemon.

Every method that hears of a trial takes the attempt that speaks: a late attempt is refused, not believed (the fence).
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

from supervisor.domain import messages
from supervisor.domain.command import Command
from supervisor.domain.lifecycle import (
    SUCCEEDED,
    TRIAL_ENDED,
    Desired,
    EndReason,
    ProcessState,
    TrialState,
    check_process_move,
    check_trial_move,
)
from supervisor.domain.scope import trial_scope
from supervisor.store.database import Change, Store
from supervisor.store.event_catalog import EVENTS
from supervisor.store.reading_rollup import KEPT_DAYS, MinuteOfReadings

_UNFINISHED_TRIALS = "SELECT * FROM trial WHERE run = ? AND experiment = ? AND state NOT IN ('TERMINATED', 'ERROR')"


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
) -> None:
    """A run and its experiments, STOPPED; nothing has acted yet."""
    with store.change(run_id) as change:
        change.execute(
            "INSERT INTO run VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, NULL, ?, NULL)",
            run_id, plan, fingerprint, source, plan_text, json.dumps(hardware), json.dumps(data),
            ProcessState.STOPPED, Desired.RUN, change.wall_s,
        )  # fmt: skip
        for ordinal, spec in enumerate(specs):
            change.execute(
                "INSERT INTO experiment (run, name, ordinal, spec, state) VALUES (?, ?, ?, ?, ?)",
                run_id, spec["name"], ordinal, json.dumps(spec), ProcessState.STOPPED,
            )  # fmt: skip
        # Everything: the log alone must be able to give the run back (replay).
        change.record(
            "run.created", plan=plan, fingerprint=fingerprint, experiments=len(specs), data=data, source=source,
            plan_text=plan_text, hardware=hardware, specs=list(specs),
        )  # fmt: skip


class RunWriter:
    """The writes of one run."""

    def __init__(self, store: Store, run_id: str) -> None:
        self.store, self.run_id = store, run_id
        self._swept_day: int | None = None
        self._refused = False

    # The run

    def run_state(self) -> ProcessState:
        row = self.store.row("SELECT state FROM run WHERE id = ?", self.run_id)
        assert row is not None
        return ProcessState(row["state"])

    def move_run(self, state: ProcessState, event: str | None = None, **fields: Any) -> None:
        """Tells `event`, or just the state. Raises ValueError for a move that lifecycle does not know."""
        with self.store.change(self.run_id) as change:
            check_process_move(self.run_state(), state)
            ended = change.wall_s if state in (ProcessState.EXITED, ProcessState.FATAL) else None
            change.execute("UPDATE run SET state = ?, ended_wall = ? WHERE id = ?", state, ended, self.run_id)
            if event is not None:
                change.record(event, **fields)
            else:
                change.record("run.moved", state=state)

    def desire(self, desired: Desired, event: str, **fields: Any) -> None:
        """Writes down what the operator wants before anything acts on it."""
        with self.store.change(self.run_id) as change:
            change.execute("UPDATE run SET desired = ? WHERE id = ?", desired, self.run_id)
            change.record(event, **fields)

    def put_command(self, command: Command, mode: str) -> None:
        """An operator's command is in force from now on, across restarts."""
        with self.store.change(self.run_id) as change:
            change.execute(
                "INSERT INTO command VALUES (?, ?, ?) ON CONFLICT DO UPDATE SET command = excluded.command",
                self.run_id, command.scope, json.dumps(command.to_json()),
            )  # fmt: skip
            change.record(
                "run.paused", who=command.who, reason=command.reason, mode=mode, scope=command.scope,
                command=command.to_json(),
            )  # fmt: skip

    def drop_command(self, scope: str, who: str | None) -> bool:
        """False when no operator's command of that scope was in force."""
        with self.store.change(self.run_id) as change:
            return self._drop_command(change, scope, who)

    def _drop_command(self, change: Change, scope: str, who: str | None) -> bool:
        gone = change.execute("DELETE FROM command WHERE run = ? AND scope = ?", self.run_id, scope).rowcount
        if gone:
            change.record("run.resumed", who=who, scope=scope)
        return bool(gone)

    def commands(self) -> list[Command]:
        rows = self.store.rows("SELECT command FROM command WHERE run = ? ORDER BY scope", self.run_id)
        return [Command.from_json(json.loads(row["command"])) for row in rows]

    def record(self, event: str, /, **where_and_fields: Any) -> None:
        """An event that changes no state."""
        with self.store.change(self.run_id) as change:
            change.record(event, **where_and_fields)

    def recover(self) -> int:
        """Starting is recovering: whatever was alive under the last daemon is not. Trials sent back to the queue."""
        live = "('STARTING', 'RUNNING', 'PAUSED', 'BACKOFF', 'STOPPING')"
        with self.store.change(self.run_id) as change:
            unclean = change.execute(f"SELECT 1 FROM run WHERE id = ? AND state IN {live}", self.run_id).fetchone()  # noqa: S608
            # A FATAL run was started again by a person.
            moved = change.execute(
                f"UPDATE run SET state = 'STOPPED', ended_wall = NULL WHERE id = ? AND state IN {live[:-1]}, 'FATAL')",  # noqa: S608
                self.run_id,
            ).rowcount
            moved += change.execute(
                f"UPDATE experiment SET state = 'STOPPED' WHERE run = ? AND state IN {live}",  # noqa: S608
                self.run_id,
            ).rowcount
            rows = self.store.rows("SELECT * FROM trial WHERE run = ? AND state IN ('RUNNING', 'PAUSED')", self.run_id)
            for row in rows:
                self._lose_attempt(change, row["experiment"], row["number"], row["attempt"], "daemon_died", None)
            if unclean:
                change.record("daemon.recovered", requeued=len(rows))
            elif moved:
                change.record("run.reopened")
        return len(rows)

    def keep_readings(self, minutes: Sequence[MinuteOfReadings]) -> None:
        """The first row of a minute stands: a restart within it tells only the rest. Old rows go."""
        with self.store.change(self.run_id) as change:
            for row in minutes:
                change.execute(
                    "INSERT OR IGNORE INTO reading VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                    self.run_id, row.node, row.sensor_id, row.minute, row.unit, row.count, row.believed,
                    row.low, row.mean, row.high,
                )  # fmt: skip
            minute = int(change.wall_s // 60)
            # Once a day: it reads the whole table, and this is called every minute.
            if minute // 1440 != self._swept_day:
                change.execute("DELETE FROM reading WHERE minute < ?", minute - KEPT_DAYS * 1440)
                self._swept_day = minute // 1440

    # Experiments

    def experiment_state(self, name: str) -> ProcessState:
        row = self.store.row("SELECT state FROM experiment WHERE run = ? AND name = ?", self.run_id, name)
        assert row is not None
        return ProcessState(row["state"])

    def move_experiment(
        self, name: str, state: ProcessState, event: str | None = None, reason: str | None = None, **fields: Any
    ) -> None:
        """`reason` is kept with the state, and told where the event has such a field; no event: the state is told.

        Raises ValueError for a move that lifecycle does not know.
        """
        if reason is not None and event is not None and "reason" in EVENTS[event].fields:
            fields["reason"] = reason
        with self.store.change(self.run_id) as change:
            check_process_move(self.experiment_state(name), state)
            change.execute(
                "UPDATE experiment SET state = ?1, reason = ?2,"
                " started_wall = CASE WHEN ?1 = 'STARTING' THEN coalesce(started_wall, ?3) ELSE started_wall END,"
                " ended_wall = CASE WHEN ?1 IN ('EXITED', 'FATAL', 'SKIPPED') THEN ?3 END,"
                " driver_starts = driver_starts + (?1 = 'STARTING')"
                " WHERE run = ?4 AND name = ?5",
                state, reason, change.wall_s, self.run_id, name,
            )  # fmt: skip
            if event is not None:
                change.record(event, experiment=name, **fields)
            else:
                change.record("experiment.moved", experiment=name, state=state, reason=reason)

    def requeue_live_trials(self, name: str, cause: str) -> int:
        """After a driver or daemon died: every live attempt is lost and its trial waits for the next. How many."""
        with self.store.change(self.run_id) as change:
            rows = self.store.rows(_UNFINISHED_TRIALS + " AND state != 'PENDING'", self.run_id, name)
            for row in rows:
                self._lose_attempt(change, name, row["number"], row["attempt"], cause, None)
        return len(rows)

    def end_unfinished_trials(self, name: str, why: str) -> int:
        """What an experiment that has ended leaves undone is over, too: its trials end as the operator's. How many."""
        with self.store.change(self.run_id) as change:
            rows = self.store.rows(_UNFINISHED_TRIALS, self.run_id, name)
            for row in rows:
                change.execute(
                    "UPDATE trial SET state = 'ERROR', end_reason = ?, error = ?, ended_wall = ?, held_for = NULL"
                    " WHERE run = ? AND experiment = ? AND number = ?",
                    EndReason.OPERATOR, why, change.wall_s, self.run_id, name, row["number"],
                )  # fmt: skip
                where: dict[str, Any] = {"experiment": name, "trial": row["number"], "attempt": row["attempt"]}
                self._end_attempt(change, name, row["number"], row["attempt"], EndReason.OPERATOR)
                change.record(
                    "trial.failed", **where, end_reason=EndReason.OPERATOR, error=why, seconds=None, record={}
                )
        return len(rows)

    def _lose_attempt(
        self,
        change: Change,
        name: str,
        number: int,
        attempt: int,
        cause: str,
        error: str | None,
        *,
        drill: bool = False,
    ) -> None:
        change.execute(
            "UPDATE trial SET state = 'PENDING', held_for = NULL WHERE run = ? AND experiment = ? AND number = ?",
            self.run_id, name, number,
        )  # fmt: skip
        self._end_attempt(change, name, number, attempt, cause)
        change.record(
            "trial.requeued", experiment=name, trial=number, attempt=attempt, cause=cause, error=error, drill=drill
        )

    def _end_attempt(self, change: Change, name: str, number: int, attempt: int, cause: str) -> None:
        change.execute(
            # One that was lost before keeps its own end and cause.
            "UPDATE attempt SET ended_wall = ?, cause = ?"
            " WHERE run = ? AND experiment = ? AND trial = ? AND attempt = ? AND ended_wall IS NULL",
            change.wall_s, cause, self.run_id, name, number, attempt,
        )  # fmt: skip

    # What a driver says

    def handle(self, name: str, message: messages.Message) -> bool:
        """Commits what the driver of experiment `name` says; False when it was refused, which is told."""
        self._refused = False
        match message:
            case messages.TrialAdded():
                self._trial_added(name, message)
            case messages.TrialStarted():
                self._trial_started(name, message)
            case messages.ResultReported():
                self._result_reported(name, message)
            case messages.TrialHeld():
                self._trial_held(name, message)
            case messages.TrialEnded():
                self._trial_ended(name, message)
            case messages.AttemptLost():
                self._attempt_lost(name, message)
            case messages.TrialHung():
                self._tell_of(name, message, "trial.hung", ("silent_s", "median_s", "dump"))
            case messages.CheckpointUnusable():
                self._tell_of(name, message, "checkpoint.rejected", ("path",))
            case messages.WorkerStuck():
                self._tell_of(name, message, "worker.stuck", ("node", "pid", "why"))
            case _:
                raise ValueError(f"{type(message).__name__} is not about a trial")
        return not self._refused

    def _trial_added(self, name: str, message: messages.TrialAdded) -> None:
        with self.store.change(self.run_id) as change:
            cursor = change.execute(
                "INSERT OR IGNORE INTO trial (run, experiment, number, state, params, source, added_wall)"
                " VALUES (?, ?, ?, 'PENDING', ?, ?, ?)",
                self.run_id, name, message.number, json.dumps(message.params), message.source, change.wall_s,
            )  # fmt: skip
            # An adopted trial is added again by its new driver: the first telling counts.
            if cursor.rowcount:
                change.record(
                    "trial.added", experiment=name, trial=message.number, params=message.params, source=message.source
                )

    def _trial_started(self, name: str, message: messages.TrialStarted) -> None:
        with self.store.change(self.run_id) as change:
            known = self._trial(name, message.number)
            if known is None or TrialState(known["state"]) in TRIAL_ENDED or message.attempt <= known["attempt"]:
                self._refuse(change, name, message, _why_not_started(known))
                return
            if TrialState(known["state"]) is not TrialState.PENDING:
                self._lose_attempt(change, name, message.number, known["attempt"], "superseded", None)
            change.execute(
                "UPDATE trial SET state = 'RUNNING', attempt = ?, started_wall = coalesce(started_wall, ?)"
                " WHERE run = ? AND experiment = ? AND number = ?",
                message.attempt, change.wall_s, self.run_id, name, message.number,
            )  # fmt: skip
            change.execute(
                "INSERT INTO attempt VALUES (?, ?, ?, ?, ?, ?, ?, ?, NULL, NULL)",
                self.run_id, name, message.number, message.attempt, message.node, message.worker_pid,
                message.resumed_step, change.wall_s,
            )  # fmt: skip
            change.record(
                "trial.started", experiment=name, trial=message.number, attempt=message.attempt, node=message.node,
                worker_pid=message.worker_pid, ray_trial_id=message.ray_trial_id, resumed_step=message.resumed_step,
            )  # fmt: skip

    def _result_reported(self, name: str, message: messages.ResultReported) -> None:
        with self.store.change(self.run_id) as change:
            row = self._fenced(change, name, message)
            if row is None:
                return
            added = change.execute(
                "INSERT OR IGNORE INTO result VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
                self.run_id, name, message.number, message.step, message.attempt, message.value,
                json.dumps(message.metrics), change.wall_s,
            ).rowcount  # fmt: skip
            if not added and self._comes_late(row, message):
                return
            if message.checkpoint is not None:
                change.execute(
                    "UPDATE trial SET checkpoint = ?, checkpoint_step = ?"
                    " WHERE run = ? AND experiment = ? AND number = ?",
                    message.checkpoint, message.step, self.run_id, name, message.number,
                )  # fmt: skip
            # An epoch that a later attempt had to train again says nothing new: the first report counts.
            if added:
                change.record(
                    "trial.reported", experiment=name, trial=message.number, attempt=message.attempt,
                    step=message.step, value=message.value, metrics=message.metrics, checkpoint=message.checkpoint,
                )  # fmt: skip
            elif self._says_something(row, message):
                change.record(
                    "trial.repeated", experiment=name, trial=message.number, attempt=message.attempt,
                    step=message.step, value=message.value, checkpoint=message.checkpoint,
                )  # fmt: skip

    def _comes_late(self, row: Any, message: messages.ResultReported) -> bool:
        """Whether the same attempt has gone past it: its checkpoint must not take the place of the later one."""
        if row["checkpoint_step"] is None or message.step >= row["checkpoint_step"]:
            return False
        return self._first_attempt(row, row["checkpoint_step"]) == message.attempt

    def _says_something(self, row: Any, message: messages.ResultReported) -> bool:
        """Whether a result that is there already was trained again, or names another checkpoint than the last one."""
        if message.checkpoint is not None and (message.checkpoint, message.step) != tuple(
            row[key] for key in ("checkpoint", "checkpoint_step")
        ):
            return True
        return self._first_attempt(row, message.step) != message.attempt

    def _first_attempt(self, row: Any, step: int) -> int | None:
        """Which attempt was the first to report that epoch of the trial; None where it was never reported."""
        first = self.store.row(
            "SELECT attempt FROM result WHERE run = ? AND experiment = ? AND trial = ? AND step = ?",
            self.run_id, row["experiment"], row["number"], step,
        )  # fmt: skip
        return None if first is None else int(first["attempt"])

    def _trial_held(self, name: str, message: messages.TrialHeld) -> None:
        with self.store.change(self.run_id) as change:
            row = self._fenced(change, name, message)
            if row is None or row["state"] == message.state:
                return
            state = TrialState(message.state)
            check_trial_move(TrialState(row["state"]), state)
            held_for = message.reason if state is TrialState.PAUSED else None
            change.execute(
                "UPDATE trial SET state = ?, held_for = ? WHERE run = ? AND experiment = ? AND number = ?",
                state, held_for, self.run_id, name, message.number,
            )  # fmt: skip
            event = "trial.paused" if state is TrialState.PAUSED else "trial.resumed"
            change.record(
                event, experiment=name, trial=message.number, attempt=message.attempt, reason=message.reason,
                drill=message.drill,
            )  # fmt: skip

    def _trial_ended(self, name: str, message: messages.TrialEnded) -> None:
        with self.store.change(self.run_id) as change:
            row = self._fenced(change, name, message)
            if row is None:
                return
            reason = EndReason(message.end_reason)
            good = reason in SUCCEEDED
            state = TrialState.TERMINATED if good else TrialState.ERROR
            change.execute(
                "UPDATE trial SET attempt = ?, state = ?, end_reason = ?, value = ?, error = ?, record = ?,"
                " ended_wall = ?, held_for = NULL WHERE run = ? AND experiment = ? AND number = ?",
                message.attempt, state, reason, message.value if good else None, message.error,
                json.dumps(message.record), change.wall_s, self.run_id, name, message.number,
            )  # fmt: skip
            self._end_attempt(change, name, message.number, message.attempt, reason)
            seconds = max(0.0, round(change.wall_s - (row["started_wall"] or change.wall_s), 3))
            where: dict[str, Any] = {"experiment": name, "trial": message.number, "attempt": message.attempt}
            if good:
                epochs = self.store.rows(
                    "SELECT count(*) AS n FROM result WHERE run = ? AND experiment = ? AND trial = ?",
                    self.run_id, name, message.number,
                )[0]["n"]  # fmt: skip
                change.record(
                    "trial.finished", **where, end_reason=reason, value=message.value, epochs=epochs, seconds=seconds,
                    error=message.error, record=message.record,
                )  # fmt: skip
            else:
                change.record(
                    "trial.failed", **where, end_reason=reason, error=message.error, seconds=seconds,
                    record=message.record,
                )  # fmt: skip
            self._drop_command(change, trial_scope(name, message.number), "the end of the trial")

    def _attempt_lost(self, name: str, message: messages.AttemptLost) -> None:
        with self.store.change(self.run_id) as change:
            if self._fenced(change, name, message):
                self._lose_attempt(
                    change, name, message.number, message.attempt, message.cause, message.error, drill=message.drill
                )
                if message.memory is not None:
                    # Kept by the event alone: snapshot.for_begin reads it from there.
                    change.record(
                        "trial.reduced", experiment=name, trial=message.number, attempt=message.attempt,
                        memory=message.memory,
                    )  # fmt: skip

    def _tell_of(self, name: str, message: Any, event: str, fields: tuple[str, ...]) -> None:
        """What changes nothing by itself."""
        with self.store.change(self.run_id) as change:
            if self._fenced(change, name, message):
                told = {field: getattr(message, field) for field in fields}
                change.record(event, experiment=name, trial=message.number, attempt=message.attempt, **told)

    def _trial(self, name: str, number: int) -> Any:
        return self.store.row(
            "SELECT * FROM trial WHERE run = ? AND experiment = ? AND number = ?", self.run_id, name, number
        )

    def _fenced(self, change: Change, name: str, message: Any) -> Any:
        """The trial's row if this attempt may speak for it; else None, and the refusal is told."""
        row = self._trial(name, message.number)
        if row is None:
            self._refuse(change, name, message, "there is no such trial")
        elif TrialState(row["state"]) in TRIAL_ENDED:
            self._refuse(change, name, message, "it has ended")
        elif message.attempt < row["attempt"]:
            self._refuse(change, name, message, f"attempt {row['attempt']} speaks for it now")
        elif message.attempt > row["attempt"]:
            # Only an end may come first: that of a trial that could not be built.
            if isinstance(message, messages.TrialEnded) and TrialState(row["state"]) is TrialState.PENDING:
                return row
            self._refuse(change, name, message, "that attempt has not started")
        elif TrialState(row["state"]) is TrialState.PENDING:
            self._refuse(change, name, message, "that attempt was lost")
        else:
            return row
        return None

    def _refuse(self, change: Change, name: str, message: Any, reason: str) -> None:
        self._refused = True
        change.record(
            "result.refused", experiment=name, trial=message.number, attempt=message.attempt,
            message=type(message).__name__, reason=reason,
        )  # fmt: skip


def _why_not_started(known: Any) -> str:
    """Why an attempt at the trial of this row (None for none) cannot begin."""
    if known is None:
        return "there is no such trial"
    if TrialState(known["state"]) in TRIAL_ENDED:
        return "it has ended"
    return "an attempt of that number was started before"
